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
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
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
