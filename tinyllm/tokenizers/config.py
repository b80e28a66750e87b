"""The small files beside a vocabulary: tokenizer_config.json, special_tokens_map.json, added_tokens.json."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import checked_value
from .added import AddedToken
from .base import ROLES
from .files import TokenizerError, read_json, read_text
from .json_types import Id, check_config

OPTIONS = ("special", "lstrip", "rstrip", "single_word", "normalized")  # of an added token


def read_config(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, with special_tokens_map.json and the files of chat templates; each may be missing.

    special_tokens_map.json is the older file. As in transformers, what it says wins, unless tokenizer_config.json lists
    the tokens by id (added_tokens_decoder). A special token that is null is kept as None: the tokenizer has none.
    """
    config = _config(directory / "tokenizer_config.json")
    if "added_tokens_decoder" not in config:
        config |= _config(directory / "special_tokens_map.json")
    config = {key: value for key, value in config.items() if value is not None or key.endswith("_token")}
    templates = read_templates(directory, config.pop("chat_template", None))
    return config | ({"chat_template": templates} if templates else {})


def templates_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says about chat templates, as arguments for Settings: the default one, and those with a name."""
    named = dict(config.get("chat_template") or {})
    return {"chat_template": named.pop("default", None), "named_templates": named}


def read_templates(directory: Path, configured: Any) -> dict[str, str]:
    """The chat templates by name, the usual one as "default": from files of their own, or else tokenizer_config.json's.

    chat_template.jinja is the default, additional_chat_templates/NAME.jinja has another name.
    """
    paths = {path.stem: path for path in sorted((directory / "additional_chat_templates").glob("*.jinja"))}
    if (directory / "chat_template.jinja").is_file():
        paths["default"] = directory / "chat_template.jinja"
    if paths:
        return {name: read_text(path) for name, path in paths.items()}
    if isinstance(configured, str):
        configured = {"default": configured}
    try:
        named = configured or {}
        named = named if isinstance(named, dict) else {each["name"]: each["template"] for each in named}
        if all(isinstance(text, str) for text in (*named, *named.values())):
            return named
    except (KeyError, TypeError):
        pass
    raise TokenizerError(
        f"'chat_template' of {directory / 'tokenizer_config.json'} is {str(configured)[:80]!r}; it should be a text, or a "
        "list or an object of named ones ([{'name': 'default', 'template': '...'}]). Correct it, or remove the field"
    )


def _config(path: Path) -> dict[str, Any]:
    config = _object(path)
    check_config(path, config)
    return config


def _object(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def content_of(token: str | Mapping[str, Any]) -> str:
    """A token's text, given as such or with its options."""
    return token if isinstance(token, str) else token["content"]


def roles_of(config: Mapping[str, Any]) -> dict[str, str | None]:
    """The spelling of each special token that the configuration names, "eos" -> "</s>"; None where it says that none is."""
    named = {role: config[f"{role}_token"] for role in ROLES if f"{role}_token" in config}
    return {role: content_of(token) if token else None for role, token in named.items()}


def token_of(token: str | Mapping[str, Any], id: int = -1) -> AddedToken:
    """A special token of the configuration, given as its text or with its options."""
    if isinstance(token, str):
        return AddedToken(token, id)
    options = {key: token[key] for key in OPTIONS if token.get(key) is not None}
    return AddedToken(token["content"], id, **{"special": True, **options})


def named_tokens(config: Mapping[str, Any]) -> list[AddedToken]:
    """The special tokens that a configuration names, by their roles or in a list, without ids."""
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = extra.values() if isinstance(extra, Mapping) else extra
    others = [key for key in config if key.endswith("_token") and key.removesuffix("_token") not in ROLES]
    named = [config.get(f"{role}_token") for role in ROLES]
    more = [config[key] for key in others if isinstance(config[key], str | Mapping)]  # and not add_bos_token
    return [replace(token_of(token), special=True) for token in [*named, *more, *extra] if token]


def added_by_config(
    directory: Path,
    config: Mapping[str, Any],
    file_tokens: Sequence[AddedToken],
    kept: Sequence[AddedToken],
    vocab: Mapping[str, int],
    more: Sequence[str] = (),
) -> list[AddedToken]:
    """The added tokens of a directory, as transformers puts them together.

    file_tokens: those of its tokenizer.json. kept: those that stay for certain. vocab: token -> id. more: further special
    tokens. The configuration's added_tokens_decoder comes first, or else the tokenizer.json's tokens. Those of
    added_tokens.json follow, and then the special tokens that the configuration names. A token has the id that it has in
    the vocabulary, or its own, or the next.
    """
    named = named_tokens(config)
    special = {token.content for token in named}
    listed: dict[str, AddedToken] = {}
    if "added_tokens_decoder" in config:
        for id, token in config["added_tokens_decoder"].items():
            listed[token["content"]] = token_of({"special": False, **token}, int(id))
    else:
        listed |= {token.content: token for token in file_tokens}
    path = directory / "added_tokens.json"
    for content, id in checked_value(path, "token", _object(path), dict[str, Id], TokenizerError).items():
        is_special = content in special
        listed.setdefault(content, AddedToken(content, id, special=is_special, normalized=not is_special))
    found = {token.content: token for token in kept}
    in_order = sorted(listed.values(), key=lambda token: token.id)
    for token in [*in_order, *named, *(AddedToken(content, -1) for content in more)]:
        if token.content and token.content not in found:
            token = replace(token, special=token.special or token.content in special)
            found[token.content] = replace(token, id=_id_of(token, vocab, found.values()))
    return sorted(found.values(), key=lambda token: token.id)


def _id_of(token: AddedToken, vocab: Mapping[str, int], others: Any) -> int:
    if token.content in vocab:
        return vocab[token.content]
    following = max([len(vocab) - 1, *(other.id for other in others)]) + 1
    return max(token.id, following) if token.id >= 0 else following
