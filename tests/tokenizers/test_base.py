"""What holds for every tokenizer, and the two that need no rules: characters and bytes."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_texts import texts

from tinyllm.tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, StreamDecoder, TokenizerError, load

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak. naïve 日本 👩‍👩‍👧\n"
TOKENIZERS = {
    "character": CharacterTokenizer.train(TEXT, ["<|endoftext|>", "<pad>"]),
    "byte": ByteTokenizer(["<|endoftext|>", "<pad>"]),
    "bpe": BPETokenizer.train(TEXT * 9, 300, ["<|endoftext|>", "<pad>"]),
}
every = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def test_import_is_light():
    code = "import sys, tinyllm.tokenizers; print([m for m in ('numba', 'torch', 'tokenizers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_characters_are_in_code_point_order():
    tokenizer = CharacterTokenizer.train(["hello", "world"])
    assert tokenizer.characters == sorted(set("helloworld"))
    assert tokenizer.encode("hello") == [2, 1, 3, 3, 4] and tokenizer.vocab_size == 7
    with pytest.raises(TokenizerError, match=r"'é' \(U\+00E9, character 3 of the text\)"):
        tokenizer.encode("helé")
    with pytest.raises(TokenizerError, match="empty"):
        CharacterTokenizer.train([])


@given(texts)
def test_bytes_are_utf8(text):
    assert ByteTokenizer().encode(text, allow_special=False) == list(text.encode("utf-8"))
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@every
def test_special_tokens(tokenizer):
    ids = tokenizer.encode("we<|endoftext|>me")
    assert ids.count(tokenizer.eos_id) == 1 and tokenizer.decode(ids) == "we<|endoftext|>me"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "weme"
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.unk_id) == (tokenizer.eos_id, tokenizer.vocab_size - 1, None)
    assert tokenizer.special_tokens == {"<|endoftext|>": tokenizer.eos_id, "<pad>": tokenizer.pad_id}
    assert tokenizer.id_to_token(tokenizer.pad_id) == "<pad>" and tokenizer.token_to_id("<pad>") == tokenizer.pad_id
    assert tokenizer.id_to_token(10**6) is None and tokenizer.token_to_id("no such token") is None


@every
def test_adding_no_special_token_changes_nothing(tokenizer):
    before = tokenizer.special_tokens, tokenizer.vocab_size
    tokenizer.add_special_tokens([])
    assert (tokenizer.special_tokens, tokenizer.vocab_size) == before


@pytest.mark.parametrize("train", [CharacterTokenizer.train, lambda _, special: ByteTokenizer(special)])
def test_a_special_token_that_is_also_text(train):
    with pytest.raises(TokenizerError, match="special token 'e' is also a token of the vocabulary"):
        train(TEXT, ["<s>", "e"])


@every
def test_wrong_input_is_one_clear_sentence(tokenizer):
    with pytest.raises(TokenizerError, match="id -1 is not in this vocabulary"):
        tokenizer.decode([-1])
    with pytest.raises(TypeError, match="one text"):
        tokenizer.encode(["we"])
    with pytest.raises(TypeError, match="takes ids"):
        tokenizer.decode("we")
    with pytest.raises(TypeError):
        tokenizer.decode([1.5])
    with pytest.raises(ValueError, match="'left' or 'right'"):
        tokenizer.encode_batch(["we"], padding_side="middle")


@every
def test_batches(tokenizer):
    rows = ["we proceed", "me", ""]
    for side in ("left", "right"):
        tokens, mask = tokenizer.encode_batch(rows, padding_side=side)
        assert tokens.dtype == np.int64 and mask.dtype == bool and tokens.shape == mask.shape
        assert [row[kept].tolist() for row, kept in zip(tokens, mask)] == [tokenizer.encode(row) for row in rows]
        assert (tokens[~mask] == tokenizer.pad_id).all() and mask[0].all() and not mask[2].any()
        assert mask[1, -1 if side == "left" else 0]
    assert tokenizer.encode_batch([])[0].shape == (0, 0)


@every
def test_decode_takes_arrays(tokenizer):
    ids = np.array(tokenizer.encode(TEXT), dtype=np.uint16)
    assert tokenizer.decode(ids) == tokenizer.decode(iter(ids)) == tokenizer.decode(ids.tolist()) == TEXT


@every
@given(data=st.data())
def test_streaming_gives_what_decode_gives(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=20))
    skip = data.draw(st.booleans())
    stream = StreamDecoder(tokenizer, skip)
    assert "".join([*map(stream.feed, ids), stream.finish()]) == tokenizer.decode(ids, skip)


def test_streaming_waits_for_the_last_byte():
    stream = StreamDecoder(ByteTokenizer())
    assert [stream.feed(byte) for byte in "é日".encode()] == ["", "é", "", "", "日"]
    assert stream.feed(0xE6) == "" and stream.finish() == "\N{REPLACEMENT CHARACTER}"


@every
def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    tokenizer.save(tmp_path / "new" / "folder")
    again = load(tmp_path / "new" / "folder")
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "new" / "folder" / "tokenizer.json"))
    text = TEXT + "<|endoftext|>" + TEXT
    ids = tokenizer.encode(text)
    assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size == peer.get_vocab_size()
    assert again.encode(text) == peer.encode(text).ids == ids
    assert again.decode(ids) == peer.decode(ids, skip_special_tokens=False) == text
    assert again.special_tokens == tokenizer.special_tokens


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    import os

    tokenizer = ByteTokenizer()
    tokenizer.save(tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        CharacterTokenizer.train("ab").save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == before and len(list(tmp_path.iterdir())) == 2
