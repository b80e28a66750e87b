"""Hugging Face's tokenizer.json: what the tokenizers library writes, we read with the same ids, and write again."""

import json

import pytest
from hypothesis import given
from tokenizer_texts import SAMPLE, more, texts

from tinyllm.tokenizers import TokenizerError, load
from tinyllm.tokenizers.tokenizer_json import from_json

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split  # noqa: E402

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")


def foreign(pre_tokenizer, normalizer=None, special=("<|endoftext|>",), **model):
    """A byte-level BPE tokenizer trained by the tokenizers library, with the given parts."""
    peer = tokenizers.Tokenizer(models.BPE(**model))
    peer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        peer.normalizer = normalizer
    peer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False
    )
    peer.train_from_iterator([SAMPLE], trainer)
    return peer


def variants():
    plain = ByteLevel(add_prefix_space=False, use_regex=False)
    yield "gpt2", foreign(ByteLevel(add_prefix_space=False))
    yield "prefix", foreign(ByteLevel(add_prefix_space=True))
    yield "nothing cut", foreign(plain)
    yield "llama3", foreign(Sequence([Split(Regex(LLAMA3_PATTERN), "isolated"), plain]), ignore_merges=True)
    yield "qwen2", foreign(Sequence([Split(Regex(QWEN2_PATTERN), "isolated"), plain]), normalizers.NFC())
    yield "smollm", foreign(Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]))
    yield "digits and prefix", foreign(Sequence([Digits(), ByteLevel(add_prefix_space=True)]))
    yield "gaps", foreign(Sequence([Split(Regex(r"\p{L}+"), "isolated"), plain]))
    yield "nfkc", foreign(ByteLevel(), normalizers.NFKC())

    added = foreign(ByteLevel(add_prefix_space=False), special=("<s>", "</s>", "<unk>"))
    added.add_tokens([AddedToken("hello", single_word=True), AddedToken("aaa"), AddedToken("The", lstrip=True, rstrip=True)])
    added.add_tokens([AddedToken("ab", normalized=True), AddedToken("aaaa", normalized=False)])
    added.add_special_tokens(
        [
            AddedToken("xy"),
            AddedToken("xyz"),
            AddedToken("[SEP]", lstrip=True),
            AddedToken("[CLS]", rstrip=True, normalized=False),
        ]
    )
    added.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    yield "added", added
    roberta = foreign(ByteLevel(add_prefix_space=False), special=("<s>", "</s>"))
    roberta.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    yield "roberta", roberta


VARIANTS = dict(variants())
OURS = {name: from_json(json.loads(peer.to_str())) for name, peer in VARIANTS.items()}


@pytest.mark.parametrize("name", VARIANTS)
@given(text=texts, other=texts)
@more
def test_same_ids(name, text, other):
    peer, ours = VARIANTS[name], OURS[name]
    for special in (False, True):
        assert ours.encode(text, add_special_tokens=special) == peer.encode(text, add_special_tokens=special).ids
    ids = ours.encode(text, add_special_tokens=True)
    assert ours.decode(ids) == peer.decode(ids, skip_special_tokens=False)
    assert ours.decode(ids, skip_special_tokens=True) == peer.decode(ids)
    pair = peer.encode(text, other)
    assert ours.encode_pair(text, other) == (pair.ids, pair.type_ids)
    peer.encode_special_tokens = True
    assert ours.encode(text, allow_special=False) == peer.encode(text, add_special_tokens=False).ids
    peer.encode_special_tokens = False


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_again_it_is_the_same(name, tmp_path):
    VARIANTS[name].save(str(tmp_path / "tokenizer.json"))
    load(tmp_path / "tokenizer.json").save(tmp_path / "again")
    peer, ours = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json")), load(tmp_path / "again")
    text = SAMPLE[:200] + " hello aaaa xyz The é[SEP] x <s> don't 1234 <|endoftext|> Å"
    expected = VARIANTS[name].encode(text)
    assert peer.encode(text).ids == ours.encode(text, add_special_tokens=True) == expected.ids
    assert ours.vocab_size == VARIANTS[name].get_vocab_size()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace as pre-tokenizer"),
        ({"normalizer": {"type": "ByteLevel"}}, "ByteLevel"),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "BertPreTokenizer"}]}},
            "Bert",
        ),
        ({"truncation": {"max_length": "8"}}, "truncation.max_length is '8'"),
        ({"truncation": {"max_length": 8, "direction": "Up"}}, "'Up'"),
        ({"padding": {"strategy": {"Fixed": "8"}, "pad_id": 0}}, "padding"),
        ({"padding": {"strategy": "BatchLongest", "pad_id": "0"}}, "pad_id"),
        ({"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}, "BPEDecoder"),
        ({"post_processor": {"type": "Unheard"}}, "Unheard"),
        ({"model": {"type": "Unheard"}}, "Unheard"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}, "merge 0"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [], "dropout": 0.1}}, "dropout"),
        ({"model": {"type": "BPE"}}, "vocab"),
        ({"model": None}, "no 'model'"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(change, words, tmp_path):
    spec = json.loads(foreign(ByteLevel(add_prefix_space=False)).to_str()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(TokenizerError, match=words):
        load(tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": []}, "no 'model'"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": "1"}, "merges": []}}, "model.vocab"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a"], 5]}}, r"model.merges\[1\] is 5"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b"]]}}, "model.vocab"),
        ({"model": {"type": 5, "vocab": {}}}, "model.type is 5"),
        ({"added_tokens": {"a": 1}}, "added_tokens is"),
        ({"added_tokens": ["a"]}, r"added_tokens\[0\] is 'a'"),
        ({"added_tokens": [{"id": 300}]}, r"added_tokens\[0\] is .* lacks 'content'"),
        ({"added_tokens": [{"id": 1.5, "content": "a"}]}, r"added_tokens\[0\].id is 1.5"),
        ({"added_tokens": [{"id": 10**12, "content": "a"}]}, r"added_tokens\[0\].id is 1000000000000"),
        ({"added_tokens": [{"id": 1, "content": "a"}]}, "'special' is missing"),
        ({"normalizer": "NFC"}, "normalizer is 'NFC'"),
        ({"normalizer": {}}, "normalizer is {}; it lacks 'type'"),
        ({"normalizer": {"type": "Sequence"}}, "'normalizers' is missing"),
        ({"normalizer": {"type": "Sequence", "normalizers": [None]}}, r"normalizer.normalizers\[0\] is None"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "A"}}, "precompiled_charsmap is not base64"),
        ({"normalizer": {"type": "Replace", "pattern": "a", "content": ""}}, "normalizer.pattern is 'a'"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": None}}, "normalizer.content is None"),
        ({"pre_tokenizer": {"type": "ByteLevel", "use_regex": "no"}}, "pre_tokenizer.use_regex is 'no'"),
        ({"decoder": {"type": "Strip", "content": " ", "start": 10**9, "stop": 0}}, "decoder.start is 1000000000"),
        ({"decoder": {"type": "Strip", "start": 0, "stop": 0}}, "content"),
        (
            {"normalizer": {"type": "Replace", "pattern": {"Regex": "(?:a|b){100000000}"}, "content": ""}},
            "more than 10,000 times",
        ),
        (
            {"normalizer": {"type": "Replace", "pattern": {"Regex": "((a{99}){99}){99}"}, "content": ""}},
            "more than 10,000 times",
        ),
        ({"post_processor": {"type": "BertProcessing", "cls": "a", "sep": ["b", 1]}}, "post_processor.cls is 'a'"),
        ({"padding": {"strategy": {"Fixed": 10**9}, "pad_id": 0}}, "padding.strategy"),
        ({"truncation": []}, r"truncation is \[\]"),
        ({"normalizer": {"type": "\ud800"}}, "surrogate"),
    ],
)
def test_values_of_other_types_are_refused_by_name(change, words, tmp_path):
    spec = json.loads(foreign(ByteLevel(add_prefix_space=False)).to_str()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(TokenizerError, match=words) as raised:
        load(tmp_path)
    assert str(tmp_path / "tokenizer.json") in str(raised.value)


@pytest.mark.parametrize(
    "file, config, words",
    [
        ("tokenizer_config.json", {"added_tokens_decoder": 5}, "added_tokens_decoder is 5"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "a"}}}, "not an id"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {"content": 1}}}, "content is 1"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {}}}, "lacks 'content'"),
        ("tokenizer_config.json", {"bos_token": 5}, "bos_token is 5"),
        ("tokenizer_config.json", {"bos_token": True}, "bos_token is True"),
        ("tokenizer_config.json", {"eos_token": {"special": True}}, "eos_token is .* lacks 'content'"),
        ("tokenizer_config.json", {"extra_special_tokens": [5]}, r"extra_special_tokens.* is .*5"),
        ("tokenizer_config.json", {"tokenizer_class": 5}, "tokenizer_class is 5"),
        ("tokenizer_config.json", {"extra_ids": 10**9}, "extra_ids is 1000000000"),
        ("tokenizer_config.json", {"add_prefix_space": "yes"}, "add_prefix_space is 'yes'"),
        ("special_tokens_map.json", {"pad_token": ["a"]}, "pad_token is"),
        ("added_tokens.json", {"a": "b"}, r"token\['a'\] is 'b'"),
        ("added_tokens.json", {"a": -1}, r"token\['a'\] is -1"),
        ("config.json", [], "not a JSON object"),
    ],
)
def test_values_of_other_types_beside_a_tokenizer_are_refused_by_name(file, config, words, tmp_path):
    (tmp_path / "tokenizer.json").write_text(foreign(ByteLevel(add_prefix_space=False)).to_str(), encoding="utf-8")
    (tmp_path / file).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TokenizerError, match=words) as raised:
        load(tmp_path)
    assert str(tmp_path / file) in str(raised.value)


def added(content, id, **flags):
    return {
        "content": content,
        "id": id,
        **dict.fromkeys(["special", "lstrip", "rstrip", "single_word", "normalized"], False),
    } | flags


def test_added_tokens_that_contradict_each_other_are_refused():
    spec = json.loads(foreign(ByteLevel(add_prefix_space=False)).to_str())
    for tokens, words in (
        ([added("a", 7)], "'a' has the id 7"),
        ([added("", 400, normalized=True)], "nothing"),
        ([added("É", 400, normalized=True), added("é", 401, normalized=True)], "normalized"),
    ):
        with pytest.raises(TokenizerError, match=words):
            from_json(spec | {"added_tokens": tokens, "normalizer": {"type": "Lowercase"}})


@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("length", [None, 12])
def test_truncation_and_padding(direction, length):
    """encode_batch applies them as the peer does; encode gives the whole text."""
    peer = foreign(ByteLevel(add_prefix_space=False), special=("<s>", "</s>", "<pad>"))
    peer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    peer.enable_truncation(7, direction=direction)
    peer.enable_padding(direction=direction, pad_id=2, pad_token="<pad>", length=length, pad_to_multiple_of=5)
    ours = from_json(json.loads(peer.to_str()))
    again = from_json(json.loads(json.dumps(ours._to_json())))
    rows = ["The cat sat on the mat. 日本", "The", ""]
    for special in (False, True):
        expected = peer.encode_batch(rows, add_special_tokens=special)
        for one in (ours, again):
            tokens, mask = one.encode_batch(rows, add_special_tokens=special)
            assert tokens.tolist() == [row.ids for row in expected]
            assert mask.tolist() == [list(map(bool, row.attention_mask)) for row in expected]
    peer.no_truncation()
    peer.no_padding()
    assert ours.encode(rows[0], add_special_tokens=True) == peer.encode(rows[0]).ids


def falcon():
    steps = [
        pre_tokenizers.Punctuation("contiguous"),
        ByteLevel(add_prefix_space=False),
        Digits(),
        Split(Regex("[0-9][0-9][0-9]"), "isolated"),
    ]
    return foreign(Sequence(steps))


def gemma():
    vocab = {token: id for id, token in enumerate(["<pad>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))])}
    for token in (*"▁aehTtcsmn.1", "\n", "he", "The", "at", "▁c", "▁cat", "▁▁"):
        vocab[token] = len(vocab)
    merges = [("h", "e"), ("T", "he"), ("a", "t"), ("▁", "c"), ("▁c", "at"), ("▁", "▁")]
    peer = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    peer.normalizer = normalizers.Replace(" ", "▁")
    peer.pre_tokenizer = Split(" ", "merged_with_previous")
    peer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    peer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("<start_of_turn>", normalized=False)])
    return peer


PIPELINES = {"falcon": falcon(), "gemma": gemma()}


@pytest.mark.parametrize("name", PIPELINES)
@given(text=texts)
@more
def test_pipelines_of_falcon_and_gemma(name, text):
    peer = PIPELINES[name]
    ours = from_json(json.loads(peer.to_str()))
    ids = peer.encode(text).ids
    assert ours.encode(text) == ids and ours.decode(ids) == peer.decode(ids, skip_special_tokens=False)
    assert from_json(json.loads(json.dumps(ours._to_json()))).encode(text) == ids


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_pattern_that_runs_away_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyllm.tokenizers.patterns.PATTERN_SECONDS", 0.2)
    pattern = {"Regex": r"(?:[^\s]|\S)+\s$"}
    spec = json.loads(foreign(ByteLevel(add_prefix_space=False)).to_str())
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    replace = {"type": "Replace", "pattern": pattern, "content": ""}
    for change in (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, spec["pre_tokenizer"]]}},
        {"normalizer": replace},
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(spec | change), encoding="utf-8")
        ours = load(tmp_path)
        assert ours.decode(ours.encode("a few words\n")) is not None
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: the pattern .*\[.* was stopped after .* 40 characters"):
            ours.encode("a" * 40)
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec | {"decoder": replace}), encoding="utf-8")
    ours = load(tmp_path)
    ours.add_special_tokens(["a" * 40])
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: the pattern"):
        ours.decode([ours.vocab_size - 1])


@pytest.mark.parametrize(
    "steps",
    [
        [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 12,
        [{"type": "Replace", "pattern": {"Regex": "a"}, "content": "a" * 10}] * 12,
        [{"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10**6}],
        [{"type": "Prepend", "prepend": "x" * 10**6}],
        [{"type": "NFKD"}, *[{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 60],
    ],
)
def test_normalizers_that_blow_a_text_up_are_stopped(steps, tmp_path):
    spec = json.loads(foreign(ByteLevel(add_prefix_space=False)).to_str())
    spec["normalizer"] = {"type": "Sequence", "normalizers": steps}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: the normalizer \w+ was stopped"):
        load(tmp_path).encode("banana" * 100)


@pytest.mark.parametrize(
    "pattern, words", [("(", "compile"), ("x*", "empty"), (r"\h+", "uses"), ("[a-z--b]", "uses --"), ("a{2}+", "uses")]
)
def test_patterns_of_another_engine_are_refused(pattern, words):
    spec = json.loads(foreign(ByteLevel(add_prefix_space=False)).to_str())
    spec["normalizer"] = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    with pytest.raises(TokenizerError, match=words):
        from_json(spec)


def test_chat_templates(tmp_path):
    OURS["gpt2"].save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    for template, expected in (("yes", "yes"), (several, "yes"), (several[:1], None), (None, None)):
        path.write_text(json.dumps({"chat_template": template}), encoding="utf-8")
        assert load(tmp_path).chat_template == expected
    (tmp_path / "chat_template.jinja").write_text("from the file\n", encoding="utf-8")
    assert load(tmp_path).chat_template == "from the file\n"


def test_opt_directory(tmp_path):
    """OPT: GPT-2's files, special tokens first, </s> before each text."""
    peer = foreign(ByteLevel(add_prefix_space=False), special=("<s>", "<pad>", "</s>", "<unk>"))
    spec = json.loads(peer.to_str())
    (tmp_path / "vocab.json").write_text(json.dumps(spec["model"]["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in spec["model"]["merges"])]
    (tmp_path / "merges.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    token = {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True, "rstrip": False}
    config = {"bos_token": token, "eos_token": token, "unk_token": token, "pad_token": "<pad>", "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ours = load(tmp_path)
    assert ours.encode("The cat</s>", add_special_tokens=True) == [2, *peer.encode("The cat").ids, 2]
    assert (ours.bos_id, ours.eos_id, ours.unk_id, ours.pad_id) == (2, 2, 2, 1)


def test_added_tokens_without_tokenizer_json(tmp_path):
    """They are in tokenizer_config.json since transformers 4.34, and in added_tokens.json before."""
    spec = json.loads(VARIANTS["gpt2"].to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(spec["vocab"]), encoding="utf-8")
    lines = "".join(" ".join(merge) + "\n" for merge in spec["merges"])
    (tmp_path / "merges.txt").write_text(lines, encoding="utf-8")
    size = len(spec["vocab"])
    chat = {
        "content": "<|chat|>",
        "lstrip": False,
        "rstrip": True,
        "single_word": False,
        "normalized": False,
        "special": True,
    }
    config = {
        "added_tokens_decoder": {str(size): chat},
        "eos_token": {"content": "<|endoftext|>"},
        "split_special_tokens": False,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"word": size + 1, "<|chat|>": size}), encoding="utf-8")
    ours = load(tmp_path)
    assert ours.encode("<|chat|>  word") == [size, size + 1] and ours.vocab_size == size + 2
    assert ours.special_tokens == {"<|chat|>": size, "<|endoftext|>": ours.eos_id}
    (tmp_path / "tokenizer_config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(TokenizerError, match="tokenizer_config.json"):
        load(tmp_path)


def test_vocabulary_without_all_bytes():
    """What a peer's vocabulary lacks vanishes there, or gives its unknown token: the same here."""
    vocab = {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4}
    for options in ({}, {"unk_token": "<unk>"}, {"unk_token": "<unk>", "fuse_unk": True}):
        peer = tokenizers.Tokenizer(models.BPE(vocab, [("a", "b")], **options))
        peer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        ours = from_json(json.loads(peer.to_str()))
        for text in ("ab", "axb", "axyb xx日b ", "", "x", "xay"):
            assert ours.encode(text) == peer.encode(text).ids, (options, text)


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_text_without_a_piece_is_left_out_before_the_merges(byte_fallback):
    """Without an unknown token its neighbours merge, unless pieces of bytes stand between them."""
    vocab = {piece: id for id, piece in enumerate(["a", "b", "ab", "<0xC3>", "<0xA9>"])}
    peer = tokenizers.Tokenizer(models.BPE(vocab, [("a", "b")], byte_fallback=byte_fallback))
    ours = from_json(json.loads(peer.to_str()))
    for text in ("a<b", "<a<<b>", "aéb", "<", "aé<b", "ab", ""):
        assert ours.encode(text) == peer.encode(text).ids, text


@pytest.mark.parametrize("normalized", [False, True])
def test_added_tokens_in_byte_characters(normalized):
    """The ByteLevel decoder reads an added token as it reads all others: "é" is the byte 0xE9, "Ġ" a space."""
    peer = tokenizers.Tokenizer.from_str(VARIANTS["gpt2"].to_str())
    peer.add_tokens([AddedToken(content, normalized=normalized) for content in ("é", "Ġx", "<é>", "日", "Ã", "©")])
    ours = from_json(json.loads(peer.to_str()))
    for ids in (range(peer.get_vocab_size() - 6, peer.get_vocab_size()), peer.encode("The é cat 日 <é>").ids):
        assert ours.decode(ids) == peer.decode(ids, skip_special_tokens=False)


ADDED = {
    "content": "X",
    "id": 900,
    "special": True,
    "lstrip": False,
    "rstrip": False,
    "single_word": False,
    "normalized": False,
}
WRONG = [
    ("tokenizer.json", {"added_tokens": 5}),
    ("tokenizer.json", {"added_tokens": [5]}),
    ("tokenizer.json", {"added_tokens": [ADDED | {"id": -1}]}),
    ("tokenizer.json", {"added_tokens": [ADDED | {"id": 10**12}]}),
    ("tokenizer.json", {"added_tokens": [ADDED | {"id": "5"}]}),
    ("tokenizer.json", {"added_tokens": [ADDED | {"content": None}]}),
    ("tokenizer.json", {"added_tokens": [ADDED | {"lstrip": 3}]}),
    ("tokenizer.json", {"normalizer": 5}),
    ("tokenizer.json", {"pre_tokenizer": []}),
    ("tokenizer.json", {"decoder": {"type": 5}}),
    ("tokenizer.json", {"post_processor": {}}),
    ("tokenizer.json", {"truncation": "x"}),
    ("tokenizer.json", {"padding": True}),
    ("tokenizer.json", {"model": {"vocab": [["a", 1]]}}),
    ("tokenizer.json", {"model": {"vocab": {"a": -1}}}),
    ("tokenizer.json", {"model": {"merges": 5}}),
    ("tokenizer.json", {"model": {"merges": ["a b c"]}}),
    ("tokenizer.json", {"model": {"merges": [["a", "b", "c"]]}}),
    ("tokenizer.json", {"model": {"type": 5}}),
    ("tokenizer.json", {"model": {"unk_token": 5}}),
    ("tokenizer.json", {"model": {"ignore_merges": "no"}}),
    ("tokenizer_config.json", {"added_tokens_decoder": 5}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"-1": {"content": "X"}}}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"5": {}}}),
    ("tokenizer_config.json", {"additional_special_tokens": 5}),
    ("tokenizer_config.json", {"extra_special_tokens": [5]}),
    ("tokenizer_config.json", {"bos_token": 5}),
    ("tokenizer_config.json", {"eos_token": {}}),
    ("tokenizer_config.json", {"split_special_tokens": "yes"}),
    ("special_tokens_map.json", {"pad_token": []}),
    ("added_tokens.json", {"X": -1}),
    ("added_tokens.json", {"X": "5"}),
]


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_values_of_another_type(name, change, tmp_path):
    """One error that names the file and the field."""
    field = next(iter(change["model"] if "model" in change else change))
    spec = json.loads(VARIANTS["gpt2"].to_str())
    if name == "tokenizer.json":
        spec |= {key: spec[key] | value if key == "model" else value for key, value in change.items()}
    else:
        (tmp_path / name).write_text(json.dumps(change), encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(TokenizerError, match=f"{name}.*{field.removesuffix('s')}"):
        load(tmp_path)
