"""The small files beside a vocabulary: tokenizer_config.json, special_tokens_map.json, added_tokens.json."""

from pathlib import Path
from typing import Any

from .added import AddedToken
from .base import CONVENTIONS, ROLES
from .files import TokenizerError, read_json, read_text


def read_config(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, completed by special_tokens_map.json and chat_template.jinja; each may be missing."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            values = read_json(directory / name)
            if not isinstance(values, dict):
                raise TokenizerError(f"{directory / name} is not a configuration: it should be a JSON object")
            config |= {key: value for key, value in values.items() if value is not None}
    if isinstance(config.get("chat_template"), list):  # several, each with a name
        named = {each["name"]: each["template"] for each in config["chat_template"]}
        config["chat_template"] = named.get("default")
    if (directory / "chat_template.jinja").is_file():
        config["chat_template"] = read_text(directory / "chat_template.jinja")
    return config


def content_of(token: str | dict[str, Any]) -> str:
    """A token's text, given as such or with its options."""
    return token if isinstance(token, str) else token["content"]


def roles_of(config: dict[str, Any]) -> dict[str, str]:
    """The spelling of each special token that the configuration names: "eos" -> "</s>"."""
    return {role: content_of(config[f"{role}_token"]) for role in ROLES if config.get(f"{role}_token")}


def added_tokens(directory: Path, config: dict[str, Any], vocab: dict[str, int]) -> list[AddedToken]:
    """The added tokens of a directory that has no tokenizer.json.

    From tokenizer_config.json's added_tokens_decoder and from added_tokens.json; and the special tokens that the
    configuration names, or convention knows, where the vocabulary has them.
    """
    found: dict[str, AddedToken] = {}
    for id, token in config.get("added_tokens_decoder", {}).items():
        options = {key: token[key] for key in ("special", "lstrip", "rstrip", "single_word", "normalized") if key in token}
        found[token["content"]] = AddedToken(token["content"], int(id), **options)
    if (directory / "added_tokens.json").is_file():
        for content, id in read_json(directory / "added_tokens.json").items():
            found.setdefault(content, AddedToken(content, id, special=content in CONVENTIONS))
    for content in (*roles_of(config).values(), *CONVENTIONS):
        if content in vocab:
            found.setdefault(content, AddedToken(content, vocab[content]))
    return sorted(found.values(), key=lambda token: token.id)
