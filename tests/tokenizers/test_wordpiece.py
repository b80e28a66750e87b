"""WordPiece against the tokenizers library: ids, offsets, pairs, decoding; and its training."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_texts import more, texts

from tinyllm.tokenizers import BertNormalizer, TokenizerError, WordPieceTokenizer, load
from tinyllm.tokenizers.bert_characters import PUNCTUATION, members
from tinyllm.tokenizers.tokenizer_json import from_json

SAMPLE = "The unaffable cat's 12 hats, naïve and ÅNGSTRÖM: don't! 日本語 is \u0130stanbul. unhappy happily affable. " * 5
CONFIGURATIONS = {
    "uncased": BertNormalizer(),
    "cased": BertNormalizer(lowercase=False),
    "lower with accents": BertNormalizer(lowercase=True, strip_accents=False),
    "cased without accents": BertNormalizer(lowercase=False, strip_accents=True),
    "bare": BertNormalizer(lowercase=False, clean_text=False, handle_chinese_chars=False),
}
OURS = {
    name: WordPieceTokenizer.train(SAMPLE, 150, normalizer=normalizer, min_frequency=1)
    for name, normalizer in CONFIGURATIONS.items()
}


def peer_of(ours):
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    if ours not in PEERS:
        PEERS[ours] = tokenizers.Tokenizer.from_str(json.dumps(ours._to_json()))
    return PEERS[ours]


PEERS: dict = {}
every = pytest.mark.parametrize("ours", OURS.values(), ids=OURS)


@every
@given(text=texts, other=texts)
@more
def test_ids_and_offsets_equal_the_peers(ours, text, other):
    peer = peer_of(ours)
    for special in (False, True):
        expected = peer.encode(text, add_special_tokens=special)
        assert ours.encode(text, add_special_tokens=special) == expected.ids
        assert ours.encode_with_offsets(text, add_special_tokens=special) == (expected.ids, expected.offsets)
    pair = peer.encode(text, other)
    assert ours.encode_pair(text, other) == (pair.ids, pair.type_ids)
    assert ours.decode(pair.ids) == peer.decode(pair.ids, skip_special_tokens=False)
    assert ours.decode(pair.ids, skip_special_tokens=True) == peer.decode(pair.ids)


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_every_character_as_the_peer_sees_it(name):
    ours = OURS[name]
    peer = peer_of(ours)
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(letters), 4096):
        block = letters[start : start + 4096]
        assert ours.normalizer("x".join(block)) == peer.normalizer.normalize_str("x".join(block))
        words = [word for word, _ in peer.pre_tokenizer.pre_tokenize_str("x".join(block))]
        assert _words("x".join(block)) == words
    assert len(members(PUNCTUATION)) > 500


def _words(text):
    from tinyllm.tokenizers.wordpiece import _WORDS

    return _WORDS.findall(text)


def test_real_text(corpus):
    ours = WordPieceTokenizer.train(corpus, 4000)
    peer = peer_of(ours)
    for text in corpus:
        expected = peer.encode(text, add_special_tokens=False)
        assert ours.encode(text) == expected.ids
        head = text[:20000]
        expected = peer.encode(head, add_special_tokens=False)
        assert ours.encode_with_offsets(head) == (expected.ids, expected.offsets)


def test_the_words_of_the_paper():
    vocab = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "runn", "##ing", "wa", "##want", ",", "##ed"]
    tokenizer = WordPieceTokenizer({token: id for id, token in enumerate(vocab)})
    spelled = [tokenizer.id_to_token(id) for id in tokenizer.encode("UNwanted, running unaffable xyz wawanted")]
    assert spelled == [
        "un",
        "##want",
        "##ed",
        ",",
        "runn",
        "##ing",
        "un",
        "##aff",
        "##able",
        "[UNK]",
        "wa",
        "##want",
        "##ed",
    ]
    assert tokenizer.decode(tokenizer.encode("unaffable running,")) == "unaffable running,"
    ids, offsets = tokenizer.encode_with_offsets("Unaffäble  running")
    assert [("Unaffäble  running"[a:b]) for a, b in offsets] == ["Un", "aff", "äble", "runn", "ing"]
    assert tokenizer.encode("un" + "able" * 24) == [3] + [5] * 24
    assert tokenizer.encode("un" + "able" * 25) == [0], "a word of more than 100 characters is unknown"
    with pytest.raises(TokenizerError, match="no '\\[UNK\\]'"):
        WordPieceTokenizer({"a": 0}).encode("b")


def test_added_tokens_and_offsets_equal_the_peers():
    pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    from tokenizers import AddedToken, Tokenizer

    peer = Tokenizer.from_str(json.dumps(OURS["uncased"]._to_json()))
    peer.add_tokens([AddedToken("Cat", normalized=True), AddedToken("HAT", normalized=False, single_word=True)])
    peer.add_special_tokens([AddedToken("<q>", lstrip=True, rstrip=True), AddedToken("é", normalized=True)])
    ours = from_json(json.loads(peer.to_str()))
    for text in ("the cat CAT HAT HATs", " a  <q>  b<q>", "Éé e\u0301 xcaty", "日<q>本", "", "  ", "[MASK]a [SEP]"):
        expected = peer.encode(text)
        assert ours.encode_with_offsets(text, add_special_tokens=True) == (expected.ids, expected.offsets), text
        assert ours.encode(text, add_special_tokens=True) == expected.ids


@every
def test_saved_and_loaded(ours, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is the peer")
    ours.save(tmp_path)
    ids = ours.encode(SAMPLE, add_special_tokens=True)
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert load(tmp_path).encode(SAMPLE, add_special_tokens=True) == ids == fast.encode(SAMPLE)
    assert (fast.cls_token_id, fast.sep_token_id, fast.pad_token_id) == (ours.cls_id, ours.sep_id, ours.pad_id)
    assert fast.mask_token_id == ours.mask_id and fast.unk_token_id == ours.unk_id
    from_text = load(tmp_path / "vocab.txt")
    assert from_text.vocab == ours.vocab and from_text.special_tokens == ours.special_tokens


def test_transformers_own_directory(tmp_path):
    """A BertTokenizer of transformers, saved: with tokenizer.json, and with vocab.txt alone as older ones are."""
    transformers = pytest.importorskip("transformers", reason="transformers is the peer")
    for name, lowercase in (("uncased", True), ("cased", False)):
        folder = tmp_path / name
        OURS[name].save(folder)
        peer = transformers.BertTokenizer(vocab=OURS[name].vocab, do_lower_case=lowercase)
        peer.save_pretrained(folder / "again")
        assert load(folder / "again").encode(SAMPLE, add_special_tokens=True) == peer.encode(SAMPLE)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).unlink()
        assert load(folder).encode(SAMPLE) == OURS[name].encode(SAMPLE), "a capital in the vocabulary: not lower-cased"
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}), encoding="utf-8")
        (folder / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes().replace(b"\n", b"\r\n"))
        assert load(folder).encode(SAMPLE, add_special_tokens=True) == peer.encode(SAMPLE)
    (tmp_path / "vocab.txt").write_text("just\nwords\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="no line"):
        load(tmp_path / "vocab.txt")


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "decoder"])
def test_what_is_not_supported_is_refused_by_name(part):
    spec = OURS["uncased"]._to_json()
    spec[part] = {"type": "Unheard"}
    with pytest.raises(TokenizerError, match="Unheard"):
        from_json(spec)


def test_training():
    steps = []
    ours = WordPieceTokenizer.train(["low lower lowest"] * 5, 40, progress=lambda *step: steps.append(step))
    assert list(ours.vocab)[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and steps
    assert [ours.id_to_token(id) for id in ours.encode("lower low")] == ["lower", "low"]
    assert ours.vocab_size <= 40 and sorted(ours.vocab.values()) == list(range(ours.vocab_size))
    with pytest.raises(TokenizerError, match="too small"):
        WordPieceTokenizer.train("abcdefghij", 8)
    few = WordPieceTokenizer.train("aaab aaab aaab z", 30, alphabet=2)
    assert "z" not in few.vocab and few.encode("z") == [few.unk_id]


@given(st.text(max_size=30))
def test_offsets_cover_what_the_tokens_say(text):
    ours = OURS["uncased"]
    _, offsets = ours.encode_with_offsets(text)
    assert all(0 <= start < end <= len(text) for start, end in offsets)
    assert all(before[0] <= after[0] for before, after in zip(offsets, offsets[1:]))
