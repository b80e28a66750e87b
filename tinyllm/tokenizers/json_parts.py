"""The parts that all kinds of tokenizer.json share: the envelope, the added tokens and the post-processor."""

from typing import Any

from .base import Template, Tokenizer
from .files import TokenizerError
from .json_steps import Json, flat, refuse, sequence

ADDED_KEYS = ("content", "id", "special", "lstrip", "rstrip", "single_word", "normalized")


def envelope(tokenizer: Tokenizer, **parts: Any) -> Json:
    """Build a tokenizer.json from its parts: normalizer, pre_tokenizer, decoder, model."""
    settings = tokenizer.settings
    added = sorted(settings.added, key=lambda token: token.id)
    parts = {"normalizer": None, "post_processor": write_template(tokenizer), **parts}
    if settings.decoder is not None:
        parts["decoder"] = sequence(settings.decoder, "decoders")
    order = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
    return {
        "version": "1.0",
        "truncation": settings.truncation,
        "padding": settings.padding,
        "added_tokens": [{key: getattr(token, key) for key in ADDED_KEYS} for token in added],
        **{key: parts[key] for key in order},
    }


def model_type(model: Json) -> str:
    """The model's name; files older than tokenizers 0.8 do not give it."""
    if "type" in model:
        return model["type"]
    return "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def read_merges(model: Json) -> list[tuple[str, str]]:
    """The merges of a BPE model. Those with the unknown token, or with bytes in place of characters, are refused."""
    merges = [read_merge(merge) for merge in model["merges"]]
    strange = {model.get("unk_token"), *(f"<0x{byte:02X}>" for byte in range(256) if model.get("byte_fallback"))}
    for left, right in merges:
        if left in strange or right in strange:
            raise TokenizerError(f"the merge {left!r} {right!r} merges what stands for unknown text, which is not supported")
    return merges


def read_merge(merge: str | list[str]) -> tuple[str, str]:
    """A merge, written "left right" before tokenizers 0.20 and ["left", "right"] since."""
    left, *right = merge.split(" ") if isinstance(merge, str) else merge
    if len(right) != 1:
        raise TokenizerError(f"the merge {merge!r} is not two tokens with a space between")
    return left, right[0]


# The post-processor ------------------------------------------------------------------------------------------------


def read_template(part: Json | None) -> Template:
    """Special tokens around a text, from TemplateProcessing, BertProcessing or RobertaProcessing."""
    template = Template()
    for step in flat(part, "processors"):
        if step["type"] == "ByteLevel":  # trims offsets, which touches no id
            continue
        if template != Template():
            raise refuse(step, "after another one")
        if step["type"] == "TemplateProcessing":
            template = Template(_items(step, "single"), _items(step, "pair"))
        elif step["type"] == "BertProcessing":
            cls, sep = step["cls"][1], step["sep"][1]
            single = ((cls, 0), ("A", 0), (sep, 0))
            template = Template(single, (*single, ("B", 1), (sep, 1)))
        elif step["type"] == "RobertaProcessing":
            cls, sep = step["cls"][1], step["sep"][1]
            single = ((cls, 0), ("A", 0), (sep, 0))
            template = Template(single, (*single, (sep, 0), ("B", 0), (sep, 0)))
        else:
            raise refuse(step, "as post-processor")
    return template


def _items(step: Json, name: str) -> tuple[tuple[int | str, int], ...]:
    items: list[tuple[int | str, int]] = []
    for item in step[name]:
        if "Sequence" in item:
            items.append((item["Sequence"]["id"], item["Sequence"]["type_id"]))
        else:
            special = item["SpecialToken"]
            items += [(id, special["type_id"]) for id in step["special_tokens"][special["id"]]["ids"]]
    return tuple(items)


def write_template(tokenizer: Tokenizer) -> Json | None:
    template = tokenizer.settings.template
    if template == Template():
        return None
    special: Json = {}

    def item(entry: tuple[int | str, int]) -> Json:
        what, kind = entry
        if isinstance(what, str):
            return {"Sequence": {"id": what, "type_id": kind}}
        token = tokenizer.id_to_token(what)
        special[str(token)] = {"id": token, "ids": [what], "tokens": [token]}
        return {"SpecialToken": {"id": token, "type_id": kind}}

    single, pair = [item(entry) for entry in template.single], [item(entry) for entry in template.pair]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
