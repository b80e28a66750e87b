"""The tokenizer classes of transformers: which one reads a directory, and what it builds around the vocabulary.

transformers 5 takes from a tokenizer.json only the vocabulary, the merges, the added tokens and, for some classes, the
post-processor. The class that tokenizer_config.json or config.json names makes the rest again, from the options in
tokenizer_config.json. A directory without tokenizer.json is built in the same way. An option that the class does not read
changes nothing. A class that is not listed here leaves tokenizer.json as it is, as transformers' TokenizersBackend does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .added import AddedToken
from .base import ROLES
from .config import added_by_config, roles_of
from .files import read_json
from .json_parts import ADDED_KEYS, model_type
from .json_steps import Json, flat
from .sentencepiece_files import LLAMA3_PATTERN
from .spacing import SPACE

Roles = Mapping[str, str]


@dataclass(frozen=True)
class TokenizerClass:
    """One class of transformers.

    model: the kind of vocabulary that it takes. tokens: its special tokens, where the configuration names no others.
    parts(spec, config): the sections of tokenizer.json that the class makes again.
    surround(roles): the special tokens around a text and around a pair. None: those of tokenizer.json. Only in a directory
    without that file, those that add_bos_token and add_eos_token ask for.
    more(config): further special tokens.
    """

    model: str
    tokens: Roles
    parts: Callable[[Json, Json], Json]
    surround: Callable[[Roles], tuple[list[str], list[str]]] | None = None
    more: Callable[[Json], list[str]] = lambda config: []


def chosen_class(directory: Path, config: Json, byte_level: bool = False) -> TokenizerClass | None:
    """The class with which AutoTokenizer reads a directory, or None if it takes tokenizer.json as it is.

    byte_level: whether the directory's tokenizer.json cuts a text into bytes.
    """
    path = directory / "config.json"
    model = read_json(path) if path.is_file() else {}
    model = model if isinstance(model, dict) else {}
    kind = model.get("model_type")
    name = str(config.get("tokenizer_class") or model.get("tokenizer_class") or OF_MODEL.get(kind, "")).removesuffix("Fast")
    if kind in ("mistral", "phi3") or (byte_level and name == "LlamaTokenizer"):
        return None  # transformers knows that such directories often name the wrong class
    return CLASSES.get("Qwen2Tokenizer" if kind == "qwen2" else name)


def rebuilt(spec: Json, config: Json, chosen: TokenizerClass | None, directory: Path) -> tuple[Json, Json]:
    """A tokenizer.json, and its tokenizer_config.json, as the class makes them."""
    if chosen is not None and model_type(spec["model"]) != chosen.model:
        chosen = None
    file_tokens = [AddedToken(**{key: token[key] for key in ADDED_KEYS}) for token in spec.get("added_tokens") or ()]
    kept: list[AddedToken] = file_tokens
    if chosen is not None:
        config = {f"{role}_token": chosen.tokens.get(role) for role in ROLES} | config
        spec = {**spec, **chosen.parts(spec, config)}
        kept = []
    added = added_by_config(directory, config, file_tokens, kept, _ids(spec["model"]), chosen.more(config) if chosen else ())
    spec = {**spec, "added_tokens": [{key: getattr(token, key) for key in ADDED_KEYS} for token in added]}
    if chosen is None:
        return spec, config
    roles = {role: content for role, content in roles_of(config).items() if content}
    if chosen.surround is not None:
        spec["post_processor"] = _template(*chosen.surround(roles), spec)
    elif not (directory / "tokenizer.json").is_file():  # transformers drops both options beside this file
        before = [roles["bos"]] if config.get("add_bos_token") and "bos" in roles else []
        after = [roles["eos"]] if config.get("add_eos_token") and "eos" in roles else []
        spec["post_processor"] = _template([*before, "A", *after], [*before, "A", *after, "|", *before, "B", *after], spec)
    return spec, config


def _ids(model: Json) -> dict[str, int]:
    vocab = model.get("vocab") or {}
    return dict(vocab) if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}


def _template(single: list[str], pair: list[str], spec: Json) -> Json:
    """Special tokens around "A" and "B" as TemplateProcessing. Token types after "|" are 1."""
    ids = {**_ids(spec["model"]), **{token["content"]: token["id"] for token in spec["added_tokens"]}}
    items: dict[str, list[Json]] = {"single": [], "pair": []}
    special: Json = {}
    for name, sequence in (("single", single), ("pair", pair)):
        kind = 0
        for item in sequence:
            if item == "|":
                kind = 1
            elif item in ("A", "B"):
                items[name].append({"Sequence": {"id": item, "type_id": kind}})
            else:
                special[item] = {"id": item, "ids": [ids[item]], "tokens": [item]}
                items[name].append({"SpecialToken": {"id": item, "type_id": kind}})
    return {"type": "TemplateProcessing", **items, "special_tokens": special}


# The classes -------------------------------------------------------------------------------------------------------


def byte_level(spec: Json, config: Json, *, normalizer: Json | None = None, pattern: str | None = None) -> Json:
    """Byte-level BPE: GPT-2's pattern, or another one, and a space before the text if add_prefix_space says so."""
    step = {
        "type": "ByteLevel",
        "add_prefix_space": bool(config.get("add_prefix_space", False)),
        "trim_offsets": True,
        "use_regex": pattern is None,
    }
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "normalizer": normalizer,
        "pre_tokenizer": step if pattern is None else {"type": "Sequence", "pretokenizers": [split, step]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": spec["model"]["vocab"], "merges": spec["model"]["merges"]},
    }


def qwen2(spec: Json, config: Json) -> Json:
    return byte_level(spec, config, normalizer={"type": "NFC"}, pattern=QWEN2_PATTERN)


def bert(spec: Json, config: Json) -> Json:
    """BERT's normaliser as do_lower_case, strip_accents and tokenize_chinese_chars say."""
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "vocab": spec["model"]["vocab"],
            "unk_token": roles_of(config)["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }


def llama(spec: Json, config: Json) -> Json:
    """LLaMA 2's spaces: one before the text (add_prefix_space), with `legacy` also after each special token."""
    prefix = config.get("add_prefix_space", True)
    scheme = ("always" if config.get("legacy", False) else "first") if prefix else "never"
    decoders: list[Json] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    decoders += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    model = spec["model"]
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "vocab": model["vocab"],
            "merges": model["merges"],
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def t5(spec: Json, config: Json) -> Json:
    """T5's spaces, with the table of characters that the file brings along."""
    steps = [step for step in flat(spec.get("normalizer"), "normalizers") if step["type"] == "Precompiled"]
    space = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
    return {
        "normalizer": steps[0] if steps else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
        "decoder": space,
        "model": {"type": "Unigram", "vocab": spec["model"]["vocab"], "unk_id": 2, "byte_fallback": False},
    }


def sentinels(config: Json) -> list[str]:
    """T5's <extra_id_0> and following, as many as extra_ids says, unless the configuration lists its further tokens."""
    listed = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    return [] if listed else [f"<extra_id_{i}>" for i in range(config.get("extra_ids", 100))]


END_OF_TEXT = "<|endoftext|>"
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")  # digits one by one
BERT_TOKENS = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
ROBERTA_TOKENS = {
    "bos": "<s>",
    "eos": "</s>",
    "sep": "</s>",
    "cls": "<s>",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "<mask>",
}


def around_bert(roles: Roles) -> tuple[list[str], list[str]]:
    """[CLS] A [SEP], and [CLS] A [SEP] B [SEP] with types 0 and 1."""
    cls, sep = roles["cls"], roles["sep"]
    return [cls, "A", sep], [cls, "A", sep, "|", "B", sep]


def around_roberta(roles: Roles) -> tuple[list[str], list[str]]:
    """<s> A </s>, and <s> A </s> </s> B </s>, all of type 0."""
    cls, sep = roles["cls"], roles["sep"]
    return [cls, "A", sep], [cls, "A", sep, sep, "B", sep]


def around_t5(roles: Roles) -> tuple[list[str], list[str]]:
    """A </s>, and A </s> B </s>."""
    return ["A", roles["eos"]], ["A", roles["eos"], "B", roles["eos"]]


GPT2 = TokenizerClass("BPE", {"unk": END_OF_TEXT, "bos": END_OF_TEXT, "eos": END_OF_TEXT}, byte_level)
ROBERTA = TokenizerClass("BPE", ROBERTA_TOKENS, byte_level, around_roberta)
BERT = TokenizerClass("WordPiece", BERT_TOKENS, bert, around_bert)
QWEN2 = TokenizerClass("BPE", {"unk": END_OF_TEXT, "eos": END_OF_TEXT, "pad": END_OF_TEXT}, qwen2)
LLAMA = TokenizerClass("BPE", {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}, llama)
T5 = TokenizerClass("Unigram", {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}, t5, around_t5, sentinels)

CLASSES: dict[str, TokenizerClass] = {
    "GPT2Tokenizer": GPT2,
    **{f"{name}Tokenizer": ROBERTA for name in ("Roberta", "Bart", "LED", "Longformer", "Mvp")},
    **{f"{name}Tokenizer": BERT for name in ("Bert", "DistilBert", "Electra", "LayoutLM", "Lxmert")},
    **{f"{name}Tokenizer": BERT for name in ("MobileBert", "SqueezeBert")},
    "Qwen2Tokenizer": QWEN2,
    **{f"{name}Tokenizer": LLAMA for name in ("Llama", "Phi3")},
    "T5Tokenizer": T5,
}

# The class for a model whose directory names none. A LLaMA's is not known: there are three kinds.
OF_MODEL: dict[Any, str] = {
    "gpt2": "GPT2Tokenizer",
    "opt": "GPT2Tokenizer",
    "roberta": "RobertaTokenizer",
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
}
