"""SentencePiece's .model against the sentencepiece library, and what of it a tokenizer.json keeps."""

import io
import json
import re
import struct

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizer_texts import SAMPLES, more, texts

from tinyllm.tokenizers import SentencePieceBPETokenizer, StreamDecoder, TokenizerError, UnigramTokenizer, load
from tinyllm.tokenizers.charsmap import Charsmap
from tinyllm.tokenizers.protobuf import NORMAL, UNUSED, fields, parse_model, write_model
from tinyllm.tokenizers.sentencepiece_files import from_sentencepiece
from tinyllm.tokenizers.tokenizer_json import from_json

sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is the peer")


COMMON = {"vocab_size": 220, "hard_vocab_limit": False, "minloglevel": 2, "character_coverage": 0.98}
LLAMA = {
    "model_type": "bpe",
    "vocab_size": 420,
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
    "split_digits": True,
}
T5 = {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
KINDS = {
    "llama": LLAMA,
    "t5": T5,
    "unigram with bytes": {"model_type": "unigram", "byte_fallback": True, "vocab_size": 450},
    "unigram, folded": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf"},
    "unigram, plain": {"model_type": "unigram", "normalization_rule_name": "identity", "add_dummy_prefix": False},
    "unigram over spaces": {"model_type": "unigram", "split_by_whitespace": False, "remove_extra_whitespaces": False},
    "bpe": {"model_type": "bpe"},
    "bpe over spaces": {"model_type": "bpe", "split_by_whitespace": False, "add_dummy_prefix": False},
    "bpe, user's symbols": {**LLAMA, "user_defined_symbols": ["<sep>", "hello", "ell"], "control_symbols": ["<c>"]},
    "unigram, user's symbols": {**T5, "user_defined_symbols": ["<sep>", "hello", "ell", "ｗ"]},
    "unigram, user's spaces": {"model_type": "unigram", "user_defined_symbols": ["\n", "\t", "▁the", "  ", "1"]},
    "bpe, user's spaces": {
        "model_type": "bpe",
        "user_defined_symbols": ["\n", "\r", "▁the", "<mask>", "1", "!"],
        "remove_extra_whitespaces": False,
    },
    "bpe, code": {**LLAMA, "user_defined_symbols": ["\n", "\t", ".", "in"], "add_dummy_prefix": False},
    "bpe, space after": {"model_type": "bpe", "treat_whitespace_as_suffix": True, "user_defined_symbols": ["<mask>"]},
    "unigram, space after": {"model_type": "unigram", "treat_whitespace_as_suffix": True, "normalization_rule_name": "nfkc"},
    "unigram, controls": {"model_type": "unigram", "control_symbols": ["q", "<c>"], "remove_extra_whitespaces": False},
    "bpe, controls": {"model_type": "bpe", "control_symbols": ["q", "<c>"], "user_defined_symbols": ["e"]},
}


def trained(**options):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SAMPLES), model_writer=file, **(COMMON | options))
    return file.getvalue()


def with_unused(data):
    """The model with every third normal piece marked as unused."""
    model = parse_model(data)
    normal = [id for id, (_, _, kind) in enumerate(model.pieces) if kind == NORMAL][::3]
    model.pieces = [(text, score, UNUSED if id in normal else kind) for id, (text, score, kind) in enumerate(model.pieces)]
    return write_model(model)


MODELS = {name: trained(**options) for name, options in KINDS.items()}
MODELS |= {f"{name}, unused": with_unused(MODELS[name]) for name in ("llama", "bpe, user's spaces", "t5")}
PEERS = {name: sentencepiece.SentencePieceProcessor(model_proto=data) for name, data in MODELS.items()}
OURS = {name: from_sentencepiece(parse_model(data), {}, source=data) for name, data in MODELS.items()}
AGAIN = {name: from_json(json.loads(json.dumps(ours._to_json()))) for name, ours in OURS.items()}
every = pytest.mark.parametrize("name", MODELS)


@every
@given(text=texts)
@more
def test_same_ids_and_text(name, text):
    assume("\0" not in text)  # the peer's Python binding takes it for the end
    ids = PEERS[name].encode(text)
    for ours in (OURS[name], AGAIN[name]):
        assert ours.encode(text, allow_special=False) == ids
        assert ours.decode(ids) == PEERS[name].decode(ids)


@every
@given(data=st.data())
def test_any_ids_give_the_same_text(name, data):
    """Bytes that are not UTF-8, and spaces and unknown tokens anywhere."""
    peer = PEERS[name]
    possible = [id for id in range(peer.get_piece_size()) if not peer.is_control(id)]
    ids = data.draw(st.lists(st.sampled_from(possible), max_size=8))
    assert OURS[name].decode(ids) == AGAIN[name].decode(ids) == peer.decode(ids)
    stream = StreamDecoder(OURS[name])
    assert "".join([*map(stream.feed, ids), stream.finish()]) == peer.decode(ids)


def test_denormalizer(tmp_path):
    (tmp_path / "rules.tsv").write_text("63\t6B\n61 74\t21 20 21\n", encoding="utf-8")  # c -> k, at -> "! !"
    data = trained(denormalization_rule_tsv=str(tmp_path / "rules.tsv"))
    peer, ours = (
        sentencepiece.SentencePieceProcessor(model_proto=data),
        from_sentencepiece(parse_model(data), {}, source=data),
    )
    ours.save(tmp_path)
    for text in ("The cat", "café", "cats  at cc", "▁at", ""):
        ids = ours.encode(text)
        assert load(tmp_path).decode(ids) == ours.decode(ids) == peer.decode(ids)
    assert ours.decode(ours.encode("cat")) == "k! !"


@every
@given(text=st.text("aA -!.h", max_size=400), times=st.integers(1, 20))
@settings(max_examples=20)
def test_ties_and_long_texts(name, text, times):
    """Equally probable segmentations, far into a text, where float32 sums have rounded."""
    assert OURS[name].encode(text * times) == PEERS[name].encode(text * times)


@every
def test_vocabulary(name):
    ours, peer = OURS[name], PEERS[name]
    assert ours.vocab_size == peer.get_piece_size()
    assert [ours.id_to_token(id) for id in range(ours.vocab_size)] == [peer.id_to_piece(id) for id in range(ours.vocab_size)]
    for role in ("bos", "eos", "unk", "pad"):
        expected = getattr(peer, f"{role}_id")()
        assert getattr(ours, f"{role}_id") == (expected if expected >= 0 else None)
    start = [] if ours.bos_id is None else [ours.bos_id]
    end = [ours.eos_id] if ours.bos_id is None else []
    assert ours.encode("a", add_special_tokens=True) == start + peer.encode("a") + end
    for line in SAMPLES:
        assert ours.encode(line) == peer.encode(line)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_real_text(model_type, corpus):
    file = io.BytesIO()
    lines = "\n".join(text[:60000] for text in corpus).split("\n")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=file, vocab_size=3000, model_type=model_type, minloglevel=2
    )
    ours = from_sentencepiece(parse_model(file.getvalue()), {})
    peer = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    for line in lines:
        assert ours.encode(line) == peer.encode(line)
    whole = "\n".join(lines[:1000])
    assert ours.encode(whole) == peer.encode(whole)


# Loading --------------------------------------------------------------------------------------------------------------


def test_special_tokens_of_a_model_are_text(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(MODELS["llama"])
    ours = load(tmp_path)
    assert ours.encode("<s>a</s>") == PEERS["llama"].encode("<s>a</s>")
    assert ours.encode("a</s>", allow_special=True)[-1] == ours.eos_id
    assert isinstance(ours, SentencePieceBPETokenizer)


def test_t5_directory(tmp_path):
    """T5's sentinels are in the configuration, not in the model; <extra_id_0> has the highest id."""
    (tmp_path / "spiece.model").write_bytes(MODELS["t5"])
    size = load(tmp_path / "spiece.model").vocab_size
    assert parse_model(MODELS["t5"]).bos_id == -1
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 20}))
    ours = load(tmp_path)
    assert isinstance(ours, UnigramTokenizer) and ours.vocab_size == size + 20
    assert ours.token_to_id("<extra_id_0>") == size + 19 and ours.token_to_id("<extra_id_19>") == size
    assert ours.encode("The<extra_id_1> fox", add_special_tokens=True) == [
        *PEERS["t5"].encode("The"), size + 18, *PEERS["t5"].encode("fox"), 1,
    ]  # fmt: skip
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    assert load(tmp_path).vocab_size == size + 100


def test_damaged_models_are_named(tmp_path):
    data = MODELS["t5"]
    cases = [data[:-100], data[:1000], b"", b"\x0a\x05hello", b"PK\x03\x04" + bytes(50), struct.pack("<16f", *range(16))]
    for broken in cases:
        (tmp_path / "tokenizer.model").write_bytes(broken)
        with pytest.raises(TokenizerError, match="tokenizer.model: it is"):
            load(tmp_path)
    with pytest.raises(TokenizerError, match="neither unigram nor BPE"):
        from_sentencepiece(parse_model(trained(model_type="char")), {})


def test_a_field_of_another_wire_type_is_damage():
    """A number where bytes should be: bytes(number) would be as many zeros."""
    gigabytes = b"\x80\xa0\xcd\x98\x17"
    for field in (b"\x08" + gigabytes, b"\x0a\x06\x08" + gigabytes, b"\x1a\x06\x10" + gigabytes, b"\x08" + b"\xff" * 99):
        with pytest.raises(TokenizerError, match="not a SentencePiece model"):
            parse_model(field)


def test_scores_that_are_not_finite_and_pieces_without_end():
    def piece(text, score):
        inside = b"\x0a" + bytes([len(text) & 0x7F | 0x80, len(text) >> 7]) + text + b"\x15" + struct.pack("<f", score)
        return b"\x0a" + bytes([len(inside) & 0x7F | 0x80, len(inside) >> 7]) + inside

    with pytest.raises(TokenizerError, match="not a SentencePiece model"):
        parse_model(piece(b"a", float("nan")))
    bpe = b"\x12\x02\x18\x02"
    with pytest.raises(TokenizerError, match=r"the piece 'aaaaaaaaaaaaaaaaaaaa'... has 2,000 characters"):
        from_sentencepiece(parse_model(piece(b"a" * 2000, 0.0) + bpe), {})


def test_a_damaged_charsmap_is_named():
    blob = parse_model(trained(normalization_rule_name="nmt_nfkc")).charsmap
    size = int.from_bytes(blob[:4], "little")
    for damaged in (blob[: 4 + size], blob[: 4 + size] + b"a" * len(blob), blob[: 4 + size] + b"\xff\0" * len(blob)):
        for way in (Charsmap(damaged).by_longest_match, Charsmap(damaged).by_grapheme):
            with pytest.raises(TokenizerError, match="charsmap is damaged"):
                way("\u00bd \ufb01")


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf"])
@given(text=texts)
@more
def test_normalisation(rule, text):
    """The charsmap as SentencePiece applies it, and as the tokenizers library does."""
    assume("\0" not in text)
    if rule not in CHARSMAPS:
        normalizers = pytest.importorskip("tokenizers.normalizers", reason="the tokenizers library is the peer")
        blob = parse_model(trained(normalization_rule_name=rule)).charsmap
        bare = {"add_dummy_prefix": False, "escape_whitespaces": False, "remove_extra_whitespaces": False}
        peer = sentencepiece.SentencePieceNormalizer(rule_name=rule, **bare)
        CHARSMAPS[rule] = Charsmap(blob), peer, normalizers.Precompiled(blob)
    ours, peer, grapheme_peer = CHARSMAPS[rule]
    assert ours.by_longest_match(text) == peer.normalize(text)
    assert ours.by_grapheme(text) == grapheme_peer.normalize_str(text)


CHARSMAPS: dict = {}


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(0, (1 << 64) - 1) | st.binary(max_size=9)), max_size=9))
def test_wire_format(message):
    def varint(value):
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    data = b""
    for number, value in message:
        if isinstance(value, int):
            data += varint(number << 3) + varint(value)
        else:
            kind = {8: 1, 4: 5}.get(len(value), 2)
            data += varint(number << 3 | kind) + (varint(len(value)) if kind == 2 else b"") + value
    assert list(fields(data)) == message


def test_llama2c(shared_data, tmp_path):
    path = shared_data / "models" / "stories260K" / "tok512.bin"
    ours = load(path)
    assert ours.vocab_size == 512 and (ours.bos_id, ours.eos_id) == (1, 2)
    text = 'Once upon a time, there was a little girl named Lily. She  said: "Ünï"\n\n日本'
    ids = ours.encode(text)
    assert ours.decode(ids) == text and ours.encode(text, add_special_tokens=True) == [1, *ids]
    assert [ours.id_to_token(id) for id in ids[:8]] == ["▁Once", "▁upon", "▁a", "▁time", ",", "▁there", "▁was", "▁a"]
    assert ids == reference_llama2c(path.read_bytes(), text)
    assert load(path.parent).encode(text) == ids, "a directory that has only the .bin"
    (tmp_path / "tok.bin").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(TokenizerError, match="not a llama2.c tokenizer"):
        load(tmp_path / "tok.bin")


def reference_llama2c(data, text):
    """The definition: merge the neighbours whose joined text has the highest score, again and again."""
    at, vocab, scores = 4, [], []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        vocab.append(data[at + 8 : at + 8 + length])
        scores.append(score)
        at += 8 + length
    tokens = []
    for letter in " " + text:
        raw = letter.encode()
        tokens += [vocab.index(raw)] if raw in vocab[3:] else [byte + 3 for byte in raw]
    while True:
        joined = [vocab[a] + vocab[b] for a, b in zip(tokens, tokens[1:])]
        options = [(scores[vocab.index(text)], -i) for i, text in enumerate(joined) if text in vocab]
        if not options:
            return tokens
        i = -max(options)[1]
        tokens[i : i + 2] = [vocab.index(joined[i])]


# Saved as tokenizer.json ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if "unused" not in name])
@given(text=texts)
@more
def test_tokenizer_json_gives_the_peer_our_ids(name, text):
    """Other libraries read the rest of the file: they get our ids, up to what their normaliser does to graphemes.

    That rest, read by us without the .model that we save within it, gives what it gives there.
    """
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    if name not in SAVED:
        spec = OURS[name]._to_json()
        peer = tokenizers.Tokenizer.from_str(json.dumps(spec))
        del spec["model"]["sentencepiece"]
        SAVED[name] = peer, from_json(json.loads(json.dumps(spec)))
    peer, without = SAVED[name]
    expected = peer.encode(text, add_special_tokens=True)
    assert without.encode(text, add_special_tokens=True) == expected.ids
    assert without.decode(expected.ids, True) == peer.decode(expected.ids)
    runs = re.search(r"(.)\1\1", text)  # "!!" + "!" or "!" + "!!": float32 and float64 may choose differently
    controls = any(token in text for token in OURS[name].special_tokens)
    if text.isascii() and (set(text) <= {"\n", "\t"} or text.replace("\n", "").isprintable()) and not (runs or controls):
        assert OURS[name].encode(text, add_special_tokens=True) == expected.ids
        assert OURS[name].decode(expected.ids, True) == peer.decode(expected.ids)


SAVED: dict = {}


def test_an_edited_vocabulary_is_not_passed_over(tmp_path):
    OURS["llama"].save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    spec["model"]["vocab"]["new"] = 420
    with pytest.raises(TokenizerError, match="'sentencepiece'"):
        from_json(spec)
    spec["model"]["sentencepiece"] = "no base64!"
    with pytest.raises(TokenizerError, match="base64"):
        from_json(spec)


@every
def test_saved_and_loaded(name, tmp_path):
    ours = OURS[name]
    ours.save(tmp_path)
    again = load(tmp_path)
    assert again.vocab_size == ours.vocab_size and again.special_tokens == ours.special_tokens
    for text in [*SAMPLES[:5], "<s>a</s>", "the<mask>cat\r\n\tthe  1 cat\n"]:
        assert again.encode(text) == ours.encode(text) == PEERS[name].encode(text)
    again.add_special_tokens(["<|new|>"])
    again.save(tmp_path)
    assert load(tmp_path).encode("a<|new|>", allow_special=True)[-1] == ours.vocab_size
    assert (again.bos_id, again.eos_id, again.unk_id, again.pad_id) == (ours.bos_id, ours.eos_id, ours.unk_id, ours.pad_id)
