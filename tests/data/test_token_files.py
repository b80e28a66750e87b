"""Token files: what is read is what was encoded, and nothing that is not whole and of this tokenizer is taken for it."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import (
    Batches,
    DataError,
    Texts,
    cached_tokens,
    open_text,
    open_tokens,
    tokenize,
    tokenizer_fingerprint,
    write_tokens,
)
from tinyllm.data import text as text_module
from tinyllm.data.tokens import HEADER, token_dtype
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer


class WideTokenizer(ByteTokenizer):
    """Bytes, in a vocabulary so large that uint16 does not hold it."""

    vocab_size = 70_000

    def encode(self, text, **options):
        return [id + 69_000 for id in super().encode(text)]

    def id_to_token(self, id):
        return str(id)


@pytest.fixture
def documents():
    return Texts("two", ["Grüße\n", "an alle 🙂"])


def test_tokens_with_and_without_an_end(documents):
    tokenizer = ByteTokenizer()
    first, second = (tokenizer.encode(text) for text in documents)
    assert tokenize(documents, tokenizer).tolist() == first + second
    assert tokenize(documents, tokenizer, end_of_text=3).tolist() == [*first, 3, *second, 3]
    assert tokenize(documents, tokenizer).dtype == np.uint16


@pytest.mark.parametrize("tokenizer, dtype", [(ByteTokenizer(), "uint16"), (WideTokenizer(), "uint32")])
def test_file_holds_the_tokens(tmp_path, documents, tokenizer, dtype):
    seen = []
    tokens = write_tokens(tmp_path / "new" / "a.bin", documents, tokenizer, end_of_text=1, progress=seen.append)
    assert tokens.dtype == dtype and not tokens.flags.writeable
    assert np.array_equal(tokens, tokenize(documents, tokenizer, end_of_text=1))
    assert np.array_equal(tokens, open_tokens(tmp_path / "new" / "a.bin", tokenizer))
    assert seen == [6, 15]
    header = json.loads((tmp_path / "new" / "a.bin").read_bytes()[:HEADER])
    assert header["count"] == len(tokens) and header["documents"] == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_dtype_holds_every_id():
    assert [token_dtype(size) for size in (2, 65_536, 65_537)] == [np.uint16, np.uint16, np.uint32]


def test_a_large_file_is_streamed(tmp_path, monkeypatch, documents):
    """In pieces, whose tokens are those of the whole; and a document that is many pieces has one end."""
    monkeypatch.setattr(text_module, "PIECE", 100)
    text = "a line of text\n" * 1000
    (tmp_path / "a.txt").write_bytes(text.encode())
    longest = 0

    class Watched(ByteTokenizer):
        def encode(self, text, **options):
            nonlocal longest
            longest = max(longest, len(text))
            return super().encode(text)

    tokens = write_tokens(tmp_path / "a.bin", open_text(tmp_path / "a.txt"), Watched(), end_of_text=0)
    assert tokens.tolist() == [*ByteTokenizer().encode(text), 0]
    assert longest <= 200


def test_batches_from_a_file(tmp_path, documents):
    tokens = write_tokens(tmp_path / "a.bin", documents, ByteTokenizer())
    from_file, from_memory = Batches(tokens, 2, 4), Batches(tokenize(documents, ByteTokenizer()), 2, 4)
    for _ in range(5):
        assert np.array_equal(next(from_file), next(from_memory))


def test_an_interrupted_encoding_leaves_nothing(tmp_path, documents):
    class Broken(ByteTokenizer):
        def encode(self, text, **options):
            if "alle" in text:
                raise KeyboardInterrupt
            return super().encode(text)

    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path / "a.bin", documents, Broken())
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path, documents):
    tokenizer = ByteTokenizer()
    path = tmp_path / "a.bin"
    with pytest.raises(DataError, match=r"a\.bin does not exist"):
        open_tokens(path)
    write_tokens(path, documents, tokenizer)
    whole = path.read_bytes()
    for damaged in whole[:-1], whole + b"\0":
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"bytes and should have .*: it is damaged"):
            open_tokens(path)
    for foreign in b"", b"text", whole[:100], b"[1, 2]", b'{"format": "tinyllm tokens"}', np.arange(9000).tobytes():
        path.write_bytes(foreign)
        with pytest.raises(DataError, match="is not a token file of tinyllm"):
            open_tokens(path)
    path.write_bytes(whole.replace(b'"version": 2', b'"version": 3'))
    with pytest.raises(DataError, match="of version 3, this tinyllm reads 2"):
        open_tokens(path)
    path.write_bytes(whole)
    other = CharacterTokenizer.train(["Grüße an alle 🙂\n"])
    with pytest.raises(DataError, match=r"encoded with another tokenizer \(of 2\d\d tokens; this one has"):
        open_tokens(path, other)
    with pytest.raises(DataError, match="end-of-text id 1000000 is not among"):
        tokenize(documents, tokenizer, end_of_text=1_000_000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "a.bin"
    write_tokens(path, Texts("two", ["Grüße\n", "an alle"]), ByteTokenizer(), end_of_text=1)
    return path.read_bytes()


@given(st.data())
def test_one_flipped_bit_is_found(whole, tmp_path_factory, data):
    """In the tokens and in the JSON of the header; the spaces after it mean nothing."""
    end = whole.index(b"}") + 1
    places = st.integers(0, end - 1) | st.integers(HEADER, len(whole) - 1)
    damaged = bytearray(whole)
    damaged[data.draw(places, label="byte")] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    path = tmp_path_factory.getbasetemp() / "flipped.bin"
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged|is not a token file|of version"):
        open_tokens(path, ByteTokenizer())


@pytest.mark.parametrize("damage", ["tokens", "header", "cut", "empty", "nested", "an older version"])
def test_a_damaged_file_in_the_cache_is_made_again(tmp_path, monkeypatch, documents, damage):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path))
    tokens = cached_tokens(documents, ByteTokenizer(), 1).tolist()
    (path,) = (tmp_path / "tokens").iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[HEADER + 3 if damage == "tokens" else 20] ^= 1
    old = whole.replace(b'"version": 2', b'"version": 1')
    bytes_of = {"cut": whole[:-1], "empty": b"", "nested": b"[" * HEADER, "an older version": old}
    path.write_bytes(bytes_of.get(damage, bytes(flipped)))
    assert cached_tokens(documents, ByteTokenizer(), 1).tolist() == tokens
    assert path.read_bytes() == whole and len(list((tmp_path / "tokens").iterdir())) == 1


def test_a_cache_on_a_full_disk(tmp_path, monkeypatch, documents):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path))
    monkeypatch.setattr("tinyllm.files.flush_to_disk", full)
    with pytest.raises(DataError, match=r"cannot be kept in .*tokens \(No space left on device\): .* TINYLLM_CACHE"):
        cached_tokens(documents, ByteTokenizer())
    assert not list((tmp_path / "tokens").iterdir())


def test_ids_outside_of_the_vocabulary(documents):
    class Liar(ByteTokenizer):
        vocab_size = 100

    with pytest.raises(DataError, match="outside its own vocabulary of 100"):
        tokenize(documents, Liar())


def test_fingerprint_tells_tokenizers_apart():
    letters = CharacterTokenizer.train(["abc"])
    assert tokenizer_fingerprint(letters) == tokenizer_fingerprint(CharacterTokenizer.train(["cab"]))
    others = [CharacterTokenizer.train(["abd"]), CharacterTokenizer.train(["abcd"]), ByteTokenizer()]
    assert len({tokenizer_fingerprint(one) for one in [letters, *others]}) == 4


def test_cache_is_keyed_by_source_and_tokenizer(tmp_path, monkeypatch, documents):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path))
    encoded = []

    class Counting(ByteTokenizer):
        def encode(self, text, **options):
            encoded.append(text)
            return super().encode(text)

    tokens = cached_tokens(documents, Counting(), 0)
    files = {path.name for path in (tmp_path / "tokens").iterdir()}
    count = sum(text in documents.texts for text in encoded)
    assert count == 2 and len(files) == 1
    assert np.array_equal(cached_tokens(documents, Counting(), 0), tokens)
    assert sum(text in documents.texts for text in encoded) == 2  # not encoded again
    cached_tokens(documents, Counting(), None)
    cached_tokens(Texts("other", ["Grüße"]), Counting(), 0)
    cached_tokens(documents, CharacterTokenizer.train(documents.texts), 0)
    assert len(list((tmp_path / "tokens").iterdir())) == 4
