"""Directories of transformers: tokenizer_config.json, and the small files of old, give what AutoTokenizer gives."""

import json

import pytest
from tokenizer_texts import SAMPLE

from tinyllm.tokenizers import (
    BertNormalizer,
    BPETokenizer,
    SentencePieceBPETokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    load,
)
from tinyllm.tokenizers.classes import CLASSES

TEXTS = (
    "The cat",
    " the  <mask>  cat's hat , 123",
    "a<mask>b",
    "été Über 日本 the",
    "</s>the <s> cat</s> <pad>",
    "[MASK] the [SEP]cat [mask]",
    "<extra> the<extra2> x",
    "<|endoftext|>the<|im_start|>",
    "<extra_id_0> the <extra_id_1>",
    "it 's n't , do not . ok ' .",
    "",
    " ",
)
BPE = BPETokenizer.train(SAMPLE, 300, special_tokens=())
CASED = WordPieceTokenizer.train(SAMPLE, 120, normalizer=BertNormalizer(lowercase=False))
SPIECES = SentencePieceBPETokenizer.train(SAMPLE, 320)
UNIGRAM = UnigramTokenizer.train(SAMPLE, 160, sentinels=0, special_tokens=("<pad>", "</s>", "<unk>"))


def bpe(*first, last=()):
    """vocab.json and merges.txt, with special tokens before and after the pieces."""
    tokens = [*first, *BPE.vocab, *last]
    lines = "".join(f"{left} {right}\n" for left, right in BPE.merges)
    return {"vocab.json": {token: id for id, token in enumerate(tokens)}, "merges.txt": "#version: 0.2\n" + lines}


ROBERTA = bpe("<s>", "<pad>", "</s>", "<unk>", last=["<mask>"])
OPT = bpe("<s>", "<pad>", "</s>", "<unk>")
GPT2 = bpe(last=["<|endoftext|>"])
QWEN2 = bpe(last=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
BERT = {"vocab.txt": "\n".join(CASED.vocab) + "\n"}
OLD = {"roberta": ROBERTA, "opt": OPT, "gpt2": GPT2, "qwen2": QWEN2, "bert": BERT, "distilbert": BERT}
NEXT = len(ROBERTA["vocab.json"])

MASK = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": True}
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>"}
NAMES |= {"cls_token": "<s>"}
ROBERTA_MAP = NAMES | {"mask_token": MASK}
DECODER = {
    str(id): MASK | {"content": token, "lstrip": token == "<mask>", "special": True}
    for token, id in [("<s>", 0), ("<pad>", 1), ("</s>", 2), ("<unk>", 3), ("<mask>", NEXT - 1), ("<extra>", NEXT)]
}
ADDED = {"<extra>": NEXT, "<extra2>": NEXT + 1}
EXTRA = MASK | {"content": "<extra>", "rstrip": True, "normalized": False, "special": False}
OPT_MAP = {"bos_token": MASK | {"content": "</s>", "lstrip": False}, "eos_token": "</s>", "unk_token": "</s>"}
OPT_MAP |= {"pad_token": "<pad>"}

# Directories without tokenizer.json: the model, tokenizer_config.json, special_tokens_map.json, added_tokens.json
OLD_DIRECTORIES = [
    ("roberta", None, ROBERTA_MAP, None),
    ("roberta", {}, None, None),
    ("roberta", {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True}, ROBERTA_MAP, None),
    ("roberta", NAMES | {"mask_token": {"__type": "AddedToken", **MASK}, "model_max_length": 64}, None, None),
    ("roberta", {}, ROBERTA_MAP, ADDED),
    ("roberta", {}, ROBERTA_MAP | {"additional_special_tokens": ["<extra>"]}, None),
    ("roberta", NAMES | {"mask_token": "<mask>", "added_tokens_decoder": DECODER}, None, None),
    ("roberta", {"split_special_tokens": True, "trim_offsets": False}, ROBERTA_MAP, None),
    ("roberta", {"cls_token": "</s>", "sep_token": "<pad>"}, None, None),
    ("gpt2", None, None, None),
    ("gpt2", {"add_bos_token": True}, None, None),
    ("gpt2", {"add_eos_token": True, "add_prefix_space": True}, None, None),
    ("gpt2", {"pad_token": "<|pad|>", "additional_special_tokens": ["<extra>"]}, None, None),
    ("opt", None, None, None),
    ("opt", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}, OPT_MAP, None),
    ("opt", {"tokenizer_class": "GPT2Tokenizer"}, OPT_MAP, None),
    ("qwen2", None, None, None),
    ("qwen2", {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, None, None),
    ("bert", {}, None, None),
    ("bert", {"do_lower_case": False}, None, {"<extra>": len(CASED.vocab)}),
    ("bert", {"strip_accents": True, "do_lower_case": False, "tokenize_chinese_chars": False}, None, None),
    ("bert", {"strip_accents": False, "clean_up_tokenization_spaces": True, "never_split": ["the"]}, None, None),
    ("bert", {"cls_token": "[SEP]", "sep_token": "[CLS]", "unk_token": "[PAD]"}, None, None),
    ("distilbert", {"do_lower_case": False, "do_basic_tokenize": False}, None, None),
]

BYTES = [{"add_prefix_space": True}, {"add_prefix_space": False}, {"add_bos_token": True, "add_eos_token": True}]
BYTES += [{"split_special_tokens": True, "clean_up_tokenization_spaces": True}]
WORDS = [{"do_lower_case": False}, {"strip_accents": False}, {"strip_accents": True}, {"tokenize_chinese_chars": False}]
WORDS += [{"clean_up_tokenization_spaces": True}, {"split_special_tokens": True}]
SPACES = [
    {"legacy": True},
    {"legacy": False},
    {"add_prefix_space": False},
    {"add_bos_token": False},
    {"add_eos_token": True},
]
SPACES += [{"split_special_tokens": True}]
T5S = [{"extra_ids": 3}, {"extra_ids": 0}, {"add_eos_token": False}, {"clean_up_tokenization_spaces": True}]
EVERY = [{}, {"pad_token": "<|pad|>"}, {"extra_special_tokens": ["<extra>", "<extra2>"]}]
EVERY += [{"extra_special_tokens": {"image_token": "<extra>"}}, {"added_tokens_decoder": {"NEXT": EXTRA}}]
OPTIONS = {
    "GPT2Tokenizer": BYTES,
    "RobertaTokenizer": BYTES,
    "Qwen2Tokenizer": BYTES,
    "BertTokenizer": WORDS,
    "LlamaTokenizer": SPACES,
    "T5Tokenizer": T5S,
}
MODELS = {"GPT2Tokenizer": "gpt2", "RobertaTokenizer": "roberta", "Qwen2Tokenizer": "qwen2", "BertTokenizer": "bert"}
MODELS |= {"LlamaTokenizer": "llama", "T5Tokenizer": "t5"}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is the peer")


def write(directory, files):
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (directory / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def specs(transformers):
    """The tokenizer.json that each class of transformers writes."""
    unigram = [tuple(pair) for pair in UNIGRAM._to_json()["model"]["vocab"]]
    sentinels = [(f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1)]
    model = SPIECES._to_json()["model"]
    made = {
        "LlamaTokenizer": {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]},
        "T5Tokenizer": {"vocab": unigram + sentinels},
        "BertTokenizer": {"vocab": dict(CASED.vocab), "do_lower_case": True},
    }
    for name, files in (("GPT2Tokenizer", GPT2), ("RobertaTokenizer", ROBERTA), ("Qwen2Tokenizer", QWEN2)):
        made[name] = {"vocab": files["vocab.json"], "merges": list(BPE.merges)}
    return {
        name: json.loads(getattr(transformers, name)(**arguments).backend_tokenizer.to_str())
        for name, arguments in made.items()
    }


def compare(transformers, directory, label):
    ours, theirs = load(directory), transformers.AutoTokenizer.from_pretrained(directory)
    for text in TEXTS:
        ids = theirs(text).input_ids
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, (label, text)
        assert ours.encode(text, add_special_tokens=True) == ids, (label, text)
        assert ours.encode_pair(text, "the cat")[0] == theirs(text, "the cat").input_ids, (label, text)
        assert ours.decode(ids) == theirs.decode(ids), (label, text)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True), (label, text)
    for role in ("bos", "eos", "unk", "pad", "cls", "sep", "mask"):
        if (id := getattr(theirs, f"{role}_token_id")) is not None:
            assert getattr(ours, f"{role}_id") == id, (label, role)
    return ours


@pytest.mark.parametrize("model, config, special, added", OLD_DIRECTORIES)
def test_old_directories(transformers, model, config, special, added, tmp_path):
    files = {"tokenizer_config.json": config, "special_tokens_map.json": special, "added_tokens.json": added}
    write(tmp_path, OLD[model] | files | {"config.json": {"model_type": model}})
    ours = compare(transformers, tmp_path, model)
    ours.save(tmp_path / "saved")
    again, theirs = load(tmp_path / "saved"), transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=True)
        assert again.encode(text, add_special_tokens=True) == theirs(text).input_ids == ids, text


@pytest.mark.parametrize("name", OPTIONS)
def test_tokenizer_config_beside_tokenizer_json(transformers, specs, name, tmp_path):
    size = len(specs[name]["model"]["vocab"])
    for i, options in enumerate(EVERY + OPTIONS[name]):
        options = json.loads(json.dumps(options).replace("NEXT", str(size)))
        files = {"tokenizer.json": specs[name], "tokenizer_config.json": {"tokenizer_class": name, **options}}
        write(tmp_path / str(i), files | {"config.json": {"model_type": MODELS[name]}})
        compare(transformers, tmp_path / str(i), options)


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "LlamaTokenizer", "Qwen2Tokenizer"])
def test_options_that_count_only_without_tokenizer_json(transformers, specs, name, tmp_path):
    """transformers drops add_bos_token and add_eos_token beside a tokenizer.json, also if that has no post-processor."""
    spec = {**specs[name], "post_processor": None}
    for i, options in enumerate([{"add_bos_token": True}, {"add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>"}]):
        write(tmp_path / str(i), {"tokenizer.json": spec, "tokenizer_config.json": {"tokenizer_class": name, **options}})
        compare(transformers, tmp_path / str(i), options)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_class_that_reads_a_directory(transformers, specs, name, tmp_path):
    """By tokenizer_config.json, config.json or the kind of model; a file of another class stays as it is."""
    options = {"add_prefix_space": True, "do_lower_case": False, "legacy": True}
    spec, model = {"tokenizer.json": specs[name]}, MODELS[name]
    cases = [
        {"config.json": {"model_type": model}},
        {"config.json": {"model_type": model, "tokenizer_class": name}, "tokenizer_config.json": options},
        {"config.json": {"model_type": model}, "tokenizer_config.json": {"tokenizer_class": f"{name}Fast"} | options},
        {"config.json": {"model_type": model}, "tokenizer_config.json": options},
        {"tokenizer_config.json": {"tokenizer_class": name} | options},
        {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"} | options},
        {"config.json": {"model_type": "mistral"}, "tokenizer_config.json": {"tokenizer_class": name} | options},
        {"config.json": {"model_type": "phi3"}, "tokenizer_config.json": {"tokenizer_class": name} | options},
        {"config.json": {"model_type": "llama"}, "tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer"} | options},
    ]
    for i, files in enumerate(cases[: 9 if name in ("LlamaTokenizer", "GPT2Tokenizer") else 6]):
        write(tmp_path / str(i), spec | files)
        compare(transformers, tmp_path / str(i), files)


def test_other_names_of_the_classes(transformers, specs, tmp_path):
    """transformers knows some classes by several names."""
    for name, known_as in CLASSES.items():
        own = next(own for own in OPTIONS if CLASSES[own] is known_as)
        config = {"tokenizer_class": name, "add_prefix_space": own == "RobertaTokenizer", "do_lower_case": False}
        files = {"tokenizer.json": specs[own], "config.json": {"model_type": MODELS[own]}}
        write(tmp_path / name, files | {"tokenizer_config.json": config})
        compare(transformers, tmp_path / name, name)


def test_files_without_a_name_of_their_class(tmp_path):
    """Nothing but the vocabulary tells: <s>, </s> and <mask> are RoBERTa's, and no token is invented."""
    write(tmp_path / "roberta", ROBERTA | {"special_tokens_map.json": ROBERTA_MAP})
    ours = load(tmp_path / "roberta")
    assert ours.decode(ours.encode("the cat", add_special_tokens=True)) == "<s>the cat</s>"
    assert ours.mask_id == NEXT - 1 and ours.decode(ours.encode("a  <mask>")) == "a<mask>"
    write(tmp_path / "opt", OPT | {"special_tokens_map.json": OPT_MAP})
    assert load(tmp_path / "opt").vocab_size == len(OPT["vocab.json"])
    write(tmp_path / "bert", BERT)
    assert not load(tmp_path / "bert").normalizer.lowercase
    write(tmp_path / "gpt2", GPT2)
    assert len(load(tmp_path / "gpt2").encode("<|endoftext|>")) > 1


def test_an_added_token_keeps_the_id_that_the_file_gives_it(specs, tmp_path):
    """A gap in the ids: transformers would give the token the next free id, which no model has learned."""
    config = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"900": EXTRA}}
    write(tmp_path, {"tokenizer.json": specs["GPT2Tokenizer"], "tokenizer_config.json": config})
    assert load(tmp_path).encode("<extra>") == [900]


def test_no_token_where_the_configuration_says_null(tmp_path):
    write(tmp_path, GPT2 | {"config.json": {"model_type": "gpt2"}, "tokenizer_config.json": {"bos_token": None}})
    ours = load(tmp_path)
    assert ours.bos_id is None and ours.eos_id == len(GPT2["vocab.json"]) - 1
    ours.save(tmp_path / "saved")
    assert load(tmp_path / "saved").bos_id is None


def test_cleaned_text_is_the_same_piece_by_piece(specs, tmp_path):
    from tinyllm.tokenizers import StreamDecoder

    config = {"tokenizer_class": "T5Tokenizer", "clean_up_tokenization_spaces": True}
    write(tmp_path, {"tokenizer.json": specs["T5Tokenizer"], "tokenizer_config.json": config})
    ours = load(tmp_path)
    for text in ("the cat , the hat . it 's n't ' x ' s .", "the ' .", " the  ,"):
        ids, stream = ours.encode(text), StreamDecoder(ours)
        assert "".join([*map(stream.feed, ids), stream.finish()]) == ours.decode(ids)


def test_tokens_beside_a_model_of_sentencepiece(tmp_path):
    """What tokenizer_config.json and added_tokens.json add to the pieces; T5 always ends a text, LLaMA if it is asked to."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is the peer")
    options = {"vocab_size": 60, "hard_vocab_limit": False, "minloglevel": 2, "model_prefix": str(tmp_path / "m")}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([SAMPLE]), model_type="bpe", **options)
    model, size = (tmp_path / "m.model").read_bytes(), 60
    config = {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True, "pad_token": "<pad>"}
    config["added_tokens_decoder"] = {str(size): EXTRA | {"special": True}}
    for name, more in (
        ("llama", config),
        ("t5", {"tokenizer_class": "T5Tokenizer", "add_eos_token": False, "extra_ids": 2}),
    ):
        write(tmp_path / name, {"tokenizer_config.json": more, "added_tokens.json": {"<extra2>": size + 2}})
        (tmp_path / name / "tokenizer.model").write_bytes(model)
    ours = load(tmp_path / "llama")
    assert [ours.token_to_id(token) for token in ("<extra>", "<extra2>", "<pad>")] == [size, size + 2, size + 3]
    assert ours.pad_id == size + 3 and ours.encode("</s><extra>")[0] == ours.eos_id and ours.encode("<extra>") == [size]
    assert ours.wrap([7])[0] == [ours.bos_id, 7, ours.eos_id]
    ours = load(tmp_path / "t5")
    assert ours.token_to_id("<extra_id_1>") == size and ours.encode("", add_special_tokens=True)[-1] == ours.eos_id
