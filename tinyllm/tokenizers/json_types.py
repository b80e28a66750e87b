"""The types of the values in a tokenizer.json and in the small files beside it.

Each table has the keys that tinyllm reads. A key that is missing is not an error here: many have a default.
"""

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from ..files import checked_value, short
from .files import TokenizerError
from .json_parts import model_type

Id = Annotated[int, Meta(ge=0, lt=1 << 31)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
OneCharacter = Annotated[str, Meta(min_length=1, max_length=1)]


class Added(TypedDict):
    """An added token; `id` is not in the ones of tokenizer_config.json."""

    content: str
    id: Id
    special: bool
    lstrip: bool
    rstrip: bool
    single_word: bool
    normalized: bool


class Pattern(TypedDict, total=False):
    String: str
    Regex: str


class Around(TypedDict):
    id: str
    type_id: Id


class Item(TypedDict, total=False):
    Sequence: Around
    SpecialToken: Around


class Special(TypedDict):
    """What a special token of TemplateProcessing stands for."""

    ids: list[Id]


class Step(TypedDict):
    """A normalizer, pre-tokenizer, post-processor or decoder. Where two have the same key, its type is the same."""

    type: str
    pattern: Pattern
    content: str
    behavior: str
    invert: bool
    prepend: str
    strip_left: bool
    strip_right: bool
    precompiled_charsmap: str | None
    clean_text: bool
    handle_chinese_chars: bool
    strip_accents: bool | None
    lowercase: bool
    individual_digits: bool
    add_prefix_space: bool
    use_regex: bool
    trim_offsets: bool
    replacement: OneCharacter
    prepend_scheme: str
    split: bool
    prefix: str
    cleanup: bool
    start: Count
    stop: Count
    cls: tuple[str, Id]
    sep: tuple[str, Id]
    single: list[Item]
    pair: list[Item]
    special_tokens: dict[str, Special]


class Model(TypedDict):
    """BPE, Unigram, WordPiece or WordLevel."""

    type: str
    vocab: dict[str, Id] | list[tuple[str, float]]
    merges: list[str | tuple[str, str]]
    unk_token: str | None
    unk_id: Id | None
    dropout: float | None
    byte_fallback: bool | None
    fuse_unk: bool | None
    ignore_merges: bool | None
    continuing_subword_prefix: str | None
    end_of_word_suffix: str | None
    max_input_chars_per_word: Count


class Truncation(TypedDict):
    """What encode_batch cuts off."""

    max_length: Id
    direction: str


class Fixed(TypedDict):
    Fixed: Count


class Padding(TypedDict):
    """How encode_batch fills up."""

    strategy: str | Fixed
    direction: str
    pad_id: Id
    pad_to_multiple_of: Count | None


class Config(TypedDict):
    """tokenizer_config.json and special_tokens_map.json; chat_template is checked where it is read."""

    tokenizer_class: str | None
    added_tokens_decoder: dict[str, dict[str, Any]]
    extra_special_tokens: list[str | dict[str, Any]] | dict[str, str | dict[str, Any]] | None
    additional_special_tokens: list[str | dict[str, Any]] | None
    extra_ids: Count | None
    split_special_tokens: bool | None
    clean_up_tokenization_spaces: bool | None
    add_bos_token: bool | None
    add_eos_token: bool | None
    add_prefix_space: bool | None
    do_lower_case: bool | None
    strip_accents: bool | None
    tokenize_chinese_chars: bool | None
    legacy: bool | None


INNER = ("normalizers", "pretokenizers", "processors", "decoders")
SECTIONS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
ROLE_TOKENS = tuple(f"{role}_token" for role in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"))
SWITCHES = ("add_bos_token", "add_eos_token")  # the keys that end in _token and are no token


def check_tokenizer(path: Path, spec: Mapping[str, Any]) -> None:
    """TokenizerError for a value of a tokenizer.json that is of another type, with its place in the file."""
    check_fields(path, "model", spec.get("model"), Model)
    pieces = list if model_type(spec["model"]) == "Unigram" else dict
    checked_value(path, "model.vocab", spec["model"].get("vocab", pieces()), pieces, TokenizerError)
    for at, token in enumerate(checked_value(path, "added_tokens", spec.get("added_tokens") or [], list, TokenizerError)):
        check_fields(path, f"added_tokens[{at}]", token, Added, required=("id", "content"))
    for name in SECTIONS:
        if spec.get(name) is not None:
            check_step(path, name, spec[name])
    for name, kind in (("truncation", Truncation), ("padding", Padding)):
        if spec.get(name) is not None:
            check_fields(path, name, spec[name], kind)


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """TokenizerError for a value of a tokenizer_config.json or special_tokens_map.json that is of another type."""
    check_fields(path, "", config, Config)
    tokens = {key: value for key, value in config.items() if key.endswith("_token") and key not in SWITCHES}
    for key, token in tokens.items():
        if isinstance(token, dict):
            check_fields(path, key, token, Added, required=("content",))
        elif not isinstance(token, bool) or key in ROLE_TOKENS:  # other switches are of classes that we do not have
            checked_value(path, key, token, str | None, TokenizerError)
    extra = config.get("extra_special_tokens") or []
    extra = [*(extra.values() if isinstance(extra, dict) else extra), *(config.get("additional_special_tokens") or [])]
    for token in filter(lambda token: isinstance(token, dict), extra):
        check_fields(path, "a special token", token, Added, required=("content",))
    for id, token in (config.get("added_tokens_decoder") or {}).items():
        name = f"added_tokens_decoder[{short(id)}]"
        if not (id.isascii() and id.isdigit() and len(id) < 10):
            raise TokenizerError(f"{path}: {name} has a key that is not an id; expected a whole number from 0")
        check_fields(path, name, token, Added, required=("content",))


def check_step(path: Path, name: str, step: Any) -> None:
    """The same for one step, and for those of a Sequence."""
    check_fields(path, name, step, Step, required=("type",))
    for key in INNER:
        for at, inner in enumerate(checked_value(path, f"{name}.{key}", step.get(key) or [], list, TokenizerError)):
            check_step(path, f"{name}.{key}[{at}]", inner)


def check_fields(path: Path, name: str, values: Any, kind: Any, required: tuple[str, ...] = ()) -> None:
    """TokenizerError where `values` is not an object, lacks a key, or has a value that is not of the type in `kind`."""
    checked_value(path, name, values, dict, TokenizerError)
    for key in required:
        if key not in values:
            raise TokenizerError(f"{path}: {name} is {short(values)}; it lacks {key!r}")
    prefix = f"{name}." if name else ""
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        if key in values:
            checked_value(path, f"{prefix}{key}", values[key], hint, TokenizerError)
