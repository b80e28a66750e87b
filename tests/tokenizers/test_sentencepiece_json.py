"""SentencePiece-style tokenizer.json files, as the tokenizers library and transformers write them; and what we train."""

import base64
import io
import json
import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_texts import SAMPLES, more, texts

from tinyllm.tokenizers import BPETokenizer, SentencePieceBPETokenizer, TokenizerError, UnigramTokenizer, load
from tinyllm.tokenizers.tokenizer_json import from_json
from tinyllm.tokenizers.unigram_training import all_edges, digamma, learn_pieces

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from tokenizers.pre_tokenizers import Metaspace, WhitespaceSplit  # noqa: E402

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LLAMA_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def bpe(normalizer=None, pre_tokenizer=None, decoder=None, special=("<unk>", "<s>", "</s>"), **model):
    """Trained by the tokenizers library over words, then given the parts that LLaMA-like files have."""
    peer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    peer.pre_tokenizer = Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*special, *BYTES], show_progress=False, limit_alphabet=60)
    peer.train_from_iterator(SAMPLES, trainer)
    spec = json.loads(peer.to_str())
    spec["model"] |= {"fuse_unk": True} | model
    spec["added_tokens"] = spec["added_tokens"][: len(special)]
    peer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    if normalizer is not None:
        peer.normalizer = normalizer
    if pre_tokenizer is not None:
        peer.pre_tokenizer = pre_tokenizer
    elif normalizer is not None:
        spec = json.loads(peer.to_str())
        spec["pre_tokenizer"] = None
        peer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    peer.decoder = decoder or decoders.Sequence(LLAMA_DECODER)
    return peer


def unigram(normalizer=None, pre_tokenizer=None, decoder=None, byte_fallback=False):
    peer = tokenizers.Tokenizer(models.Unigram())
    peer.pre_tokenizer = pre_tokenizer or Metaspace()
    special = ["<pad>", "</s>", "<unk>", *(BYTES if byte_fallback else [])]
    trainer = trainers.UnigramTrainer(
        vocab_size=200 + len(special), special_tokens=special, unk_token="<unk>", show_progress=False
    )
    peer.train_from_iterator(SAMPLES, trainer)
    spec = json.loads(peer.to_str())
    spec["model"]["byte_fallback"] = byte_fallback
    spec["added_tokens"] = spec["added_tokens"][:3]
    peer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    if normalizer is not None:
        peer.normalizer = normalizer
    peer.decoder = decoder or decoders.Metaspace()
    return peer


def t5_charsmap():
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece makes the precompiled charsmap")
    from tinyllm.tokenizers.protobuf import parse_model

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SAMPLES), model_writer=file, vocab_size=220, hard_vocab_limit=False, minloglevel=2
    )
    return parse_model(file.getvalue()).charsmap


def variants():
    prepend = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    legacy = bpe(prepend, byte_fallback=True)
    legacy.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    yield "llama legacy", legacy
    yield "llama", bpe(pre_tokenizer=Metaspace(prepend_scheme="first", split=False), byte_fallback=True)
    yield "split", bpe(pre_tokenizer=Metaspace(prepend_scheme="always", split=True), fuse_unk=False)
    yield (
        "never",
        bpe(pre_tokenizer=Metaspace(prepend_scheme="never", split=False), decoder=decoders.Sequence(LLAMA_DECODER[:3])),
    )
    yield "whole words", bpe(pre_tokenizer=Metaspace(), ignore_merges=True)
    added = bpe(pre_tokenizer=Metaspace(prepend_scheme="first"), byte_fallback=True)
    added.add_tokens(
        [AddedToken("hello", single_word=True), AddedToken("ab", normalized=True), AddedToken(" x", lstrip=True)]
    )
    added.add_special_tokens([AddedToken("[SEP]", rstrip=True)])
    yield "added", added

    t5 = [normalizers.Precompiled(t5_charsmap())]
    spaces = [normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")]
    yield "t5", unigram(normalizers.Sequence(t5), pre_tokenizers.Sequence([WhitespaceSplit(), Metaspace()]))
    yield "first word", unigram(None, pre_tokenizers.Sequence([WhitespaceSplit(), Metaspace(prepend_scheme="first")]))
    yield "t5 converted", unigram(normalizers.Sequence(t5 + spaces), Metaspace())
    yield "albert", unigram(normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(), *t5]), Metaspace())
    yield "bytes", unigram(None, Metaspace(prepend_scheme="first"), decoders.Sequence(LLAMA_DECODER), byte_fallback=True)
    yield "lines", unigram(normalizers.Replace(Regex("^ +| +$"), ""), Metaspace(prepend_scheme="never"))


PEERS = dict(variants())
OURS = {name: from_json(json.loads(peer.to_str())) for name, peer in PEERS.items()}
AGAIN = {name: from_json(json.loads(json.dumps(ours._to_json()))) for name, ours in OURS.items()}


@pytest.mark.parametrize("name", PEERS)
@given(text=texts, other=texts)
@more
def test_same_ids(name, text, other):
    peer, ours = PEERS[name], OURS[name]
    for special in (False, True):
        expected = peer.encode(text, add_special_tokens=special).ids
        assert ours.encode(text, add_special_tokens=special) == expected
        assert AGAIN[name].encode(text, add_special_tokens=special) == expected
    assert ours.decode(expected) == AGAIN[name].decode(expected)
    pair = peer.encode(text, other)
    assert ours.encode_pair(text, other) == (pair.ids, pair.type_ids)


@pytest.mark.parametrize("name", PEERS)
@given(text=st.text("aéT hesl-1日\n▁", max_size=40))
def test_same_text(name, text):
    ids = PEERS[name].encode(text).ids
    assert OURS[name].decode(ids) == PEERS[name].decode(ids, skip_special_tokens=False)
    assert OURS[name].decode(ids, skip_special_tokens=True) == PEERS[name].decode(ids)


@pytest.mark.parametrize("name", PEERS)
def test_real_text(name, corpus):
    for text in corpus:
        assert OURS[name].encode(text[:20000]) == PEERS[name].encode(text[:20000], add_special_tokens=False).ids


@pytest.mark.parametrize("name", PEERS)
def test_what_we_write_the_peer_reads(name):
    again = tokenizers.Tokenizer.from_str(json.dumps(OURS[name]._to_json()))
    text = "hello ab  The [SEP] x naïve ½ ﬁne 日本 <s>" + " ".join(SAMPLES[:5])
    expected = PEERS[name].encode(text)
    assert again.encode(text).ids == expected.ids
    assert again.decode(expected.ids) == PEERS[name].decode(expected.ids)


@pytest.mark.parametrize(
    "name, part, change, words",
    [
        ("llama", "normalizer", {"type": "ByteLevel"}, "ByteLevel"),
        ("llama", "pre_tokenizer", {"type": "Whitespace"}, "Whitespace"),
        ("t5", "decoder", {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}, "CTC"),
        ("t5", "decoder", {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]}, "after Fuse"),
        ("t5", "decoder", {"type": "Strip"}, "decoder is damaged"),
        ("t5", "pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"}, "'last'"),
        ("t5", "pre_tokenizer", {"type": "Split", "pattern": {"String": "a"}, "behavior": "Some"}, "'Some'"),
        ("llama", "model", {"type": "BPE", "unk_token": "u", "vocab": {"u": 0, "a": 1}, "merges": [["u", "a"]]}, "'u' 'a'"),
        ("llama", "model", {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}, "'ab', which is no piece"),
        ("llama", "model", {"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ("t5", "normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "precompiled_charsmap"),
        ("t5", "normalizer", {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}, "does not compile"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name, part, change, words):
    spec = json.loads(PEERS[name].to_str()) | {part: change}
    with pytest.raises(TokenizerError, match=words):
        from_json(spec)


def test_transformers_own_directories(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is the peer")
    spec = json.loads(PEERS["llama"].to_str())["model"]
    merges = [tuple(merge) for merge in spec["merges"]]
    llama = transformers.LlamaTokenizer(vocab=spec["vocab"], merges=merges)
    unigram_vocab = [tuple(pair) for pair in json.loads(PEERS["t5"].to_str())["model"]["vocab"]]
    t5 = transformers.T5Tokenizer(vocab=unigram_vocab, extra_ids=20)
    for name, peer in (("llama", llama), ("t5", t5)):
        peer.save_pretrained(tmp_path / name)
        ours = load(tmp_path / name)
        for text in [*SAMPLES[:5], "<s>a</s> b<extra_id_3> c", " x  y ", ""]:
            assert ours.encode(text, add_special_tokens=True) == peer.encode(text), (name, text)
            assert ours.encode(text) == peer.encode(text, add_special_tokens=False), (name, text)
        assert (ours.eos_id, ours.unk_id, ours.vocab_size) == (peer.eos_token_id, peer.unk_token_id, len(peer))
        ours.save(tmp_path / "again")
        assert transformers.AutoTokenizer.from_pretrained(tmp_path / "again").encode(SAMPLES[0]) == peer.encode(SAMPLES[0])
    assert load(tmp_path / "t5").token_to_id("<extra_id_0>") == t5.convert_tokens_to_ids("<extra_id_0>")


def test_llama3_tokenizer_model(tmp_path):
    """tiktoken's list of tokens under SentencePiece's file name."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is the peer")
    from tinyllm.tokenizers.byte_characters import to_bytes
    from tinyllm.tokenizers.sentencepiece_files import LLAMA3_PATTERN

    trained = BPETokenizer.train(SAMPLES, 500, [], patterns=[LLAMA3_PATTERN], use_regex=False)
    ranks = {to_bytes(token): id for token, id in trained.vocab.items()}
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (tmp_path / "tokenizer.model").write_bytes(b"".join(lines))
    ours = load(tmp_path)
    peer = tiktoken.Encoding("llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens=ours.special_tokens)
    for text in [*SAMPLES, "ababababa", "12345", "<|eot_id|>x"]:
        assert ours.encode(text) == peer.encode_ordinary(text)
        assert ours.encode(text, allow_special=True) == peer.encode(text, allowed_special="all")
    assert len(ours.special_tokens) == 256 and ours.encode("", add_special_tokens=True) == [len(ranks)] == [ours.bos_id]
    ours.save(tmp_path / "again")
    for text in SAMPLES:
        assert load(tmp_path / "again").encode(text) == ours.encode(text)
    (tmp_path / "tokenizer.model").write_bytes(b"not base64 !\nat all\n")
    with pytest.raises(TokenizerError, match="tokenizer.model: it is"):
        load(tmp_path)


# Training -------------------------------------------------------------------------------------------------------------


@given(text=texts)
@more
def test_trained_bpe_round_trips(text):
    ours, peer = trained("bpe")
    ids = ours.encode(text)
    assert ids == peer.encode(text, add_special_tokens=False).ids
    if not ({"<s>", "</s>", "<unk>"} & {text[a:b] for a in range(len(text)) for b in range(a, len(text) + 1)}):
        assert ours.decode(ids) == text.replace("▁", " ")


@given(text=texts)
@more
def test_trained_unigram_equals_the_peer(text):
    ours, peer = trained("unigram")
    assert ours.encode(text, add_special_tokens=True) == peer.encode(text).ids
    assert ours.decode(ours.encode(text)) == peer.decode(ours.encode(text), skip_special_tokens=False)


def trained(kind, cache={}):  # noqa: B006  one for every example
    if kind not in cache:
        ours = SentencePieceBPETokenizer.train(SAMPLES, 500) if kind == "bpe" else UnigramTokenizer.train(SAMPLES, 300)
        cache[kind] = ours, tokenizers.Tokenizer.from_str(json.dumps(ours._to_json()))
    return cache[kind]


def test_trained_vocabularies():
    ours, _ = trained("bpe")
    assert [ours.id_to_token(id) for id in range(4)] == ["<unk>", "<s>", "</s>", "<0x00>"] and ours.vocab_size <= 500
    assert ours.encode("The", add_special_tokens=True)[0] == ours.bos_id == 1 and ours.eos_id == 2
    assert not any(sum(letter.isdigit() for letter in piece) > 1 for piece in ours.pieces[259:])
    ours, _ = trained("unigram")
    assert ours.vocab_size <= 300 and ours.token_to_id("<extra_id_0>") == ours.vocab_size - 1
    assert ours.token_to_id("<extra_id_99>") == ours.vocab_size - 100
    assert (ours.pad_id, ours.eos_id, ours.unk_id) == (0, 1, 2) and ours.encode("a", add_special_tokens=True)[-1] == 1
    assert ours.decode(ours.encode("The  fox\n ﬁne.")) == "The fox fine."
    with pytest.raises(TokenizerError, match="too small"):
        UnigramTokenizer.train(SAMPLES, 120)
    with pytest.raises(TokenizerError, match="too small"):
        SentencePieceBPETokenizer.train(SAMPLES, 260)
    steps = []
    small = UnigramTokenizer.train(["ab"], 50, sentinels=2, byte_fallback=False, progress=lambda *step: steps.append(step))
    assert small.vocab_size <= 50 and steps and small.encode("ab ab")
    fallback = UnigramTokenizer.train(SAMPLES, 600, byte_fallback=True)
    peer = tokenizers.Tokenizer.from_str(json.dumps(fallback._to_json()))
    for text in ("☃ snow", "snow ☃", "Où est 3 €?", "日本☃☃"):
        ids = fallback.encode(text)
        assert ids == peer.encode(text, add_special_tokens=False).ids
        assert fallback.decode(ids) == peer.decode(ids) == text
    bytes_of_snow = [fallback.token_to_id(f"<0x{byte:02X}>") for byte in "☃".encode()]
    for ids in (bytes_of_snow[:2], [*bytes_of_snow, bytes_of_snow[0]], bytes_of_snow[::-1]):  # a run is text as a whole
        assert fallback.decode(ids) == peer.decode(ids) == "\N{REPLACEMENT CHARACTER}" * len(ids)


def test_unigram_is_as_good_as_sentencepiece(shakespeare):
    """Held-out text costs no more pieces, and no more nats under the vocabulary's own model, than with its trainer's."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is the peer")
    from tinyllm.tokenizers.protobuf import parse_model
    from tinyllm.tokenizers.sentencepiece_files import from_sentencepiece

    train, held_out = shakespeare[:200_000], shakespeare[200_000:250_000]
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(train.split("\n")), model_writer=file, vocab_size=1000, minloglevel=2
    )
    peer = from_sentencepiece(parse_model(file.getvalue()), {})
    ours = UnigramTokenizer.train(train, 1000, sentinels=0)
    costs = [-sum(one.scores[id] for id in one.encode(held_out)) for one in (ours, peer)]
    sizes = [len(one.encode(held_out)) for one in (ours, peer)]
    assert costs[0] < 1.02 * costs[1] and sizes[0] < 1.02 * sizes[1], (costs, sizes)


@given(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_expectations_follow_the_definition(words, rng):
    """Sum over every segmentation of every word, written out."""
    id_of = {}
    lattice = all_edges(words, id_of, grow=True, whole=True)
    scores = np.array([math.log(rng.random() + 0.01) for _ in id_of])
    counts = np.array([rng.randrange(1, 5) for _ in words], dtype=float)
    expected = np.zeros(len(id_of))
    best = []
    for word, count in zip(words, counts):
        cuts = []
        for marks in product([False, True], repeat=len(word) - 1):
            at = [0, *(i + 1 for i, mark in enumerate(marks) if mark), len(word)]
            pieces = [id_of[word[a:b]] for a, b in zip(at, at[1:])]
            cuts.append((math.exp(scores[pieces].sum()), pieces))
        total = sum(weight for weight, _ in cuts)
        best.append(math.log(max(cuts)[0]))
        for weight, pieces in cuts:
            np.add.at(expected, pieces, count * weight / total)
    np.testing.assert_allclose(lattice.expected(scores, counts), expected, rtol=1e-9)
    np.testing.assert_allclose(lattice.best(scores), best, rtol=1e-9)


@given(st.floats(1e-3, 1e6))
def test_digamma_is_the_derivative_of_log_gamma(x):
    step = 1e-4 * x
    slope = (math.lgamma(x + step) - math.lgamma(x - step)) / (2 * step)
    assert abs(float(digamma(np.float64(x))) - slope) <= 1e-6 * max(1, abs(slope))


def test_learned_pieces_are_a_distribution():
    counts = Counter({"▁abab": 50, "▁ab": 30, "▁c": 5, "▁" + "x" * 100: 3})
    learned = learn_pieces(counts, ["▁", "a", "b", "c", "x"], 9)
    assert len(learned) == 9 and {"▁", "a", "b", "c", "x"} <= {piece for piece, _ in learned}
    assert [score for _, score in learned] == sorted((score for _, score in learned), reverse=True)
    assert learned[0][0] in ("▁abab", "▁ab", "ab")
