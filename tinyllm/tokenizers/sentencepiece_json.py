"""Read SentencePiece-style tokenizers from a tokenizer.json. The classes themselves write theirs."""

from .base import Settings, by_id
from .files import TokenizerError
from .json_parts import Json, flat, read_merge, refuse
from .sentencepiece import SentencePieceBPETokenizer
from .spacing import SPACE, Pipeline
from .unigram import UnigramTokenizer


def read_sentencepiece_bpe(spec: Json, settings: Settings) -> SentencePieceBPETokenizer:
    model = spec["model"]
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise TokenizerError(f"BPE with {option} = {model[option]!r} is not supported")
    pieces = by_id(model["vocab"])
    merges = [(*read_merge(merge), rank) for rank, merge in enumerate(model["merges"])]
    return SentencePieceBPETokenizer(
        pieces,
        merges,
        read_spacing(spec),
        settings,
        ignore_merges=model.get("ignore_merges", False),
        unknown=model["vocab"].get(model.get("unk_token")),
        byte_fallback=model.get("byte_fallback", False),
        fuse_unknown=model.get("fuse_unk", False),
        strip=read_strip(spec),
    )


def read_unigram(spec: Json, settings: Settings) -> UnigramTokenizer:
    model = spec["model"]
    return UnigramTokenizer(
        [piece for piece, _ in model["vocab"]],
        [score for _, score in model["vocab"]],
        read_spacing(spec),
        settings,
        unknown=model["unk_id"],
        byte_fallback=model.get("byte_fallback", False),
        strip=read_strip(spec),
    )


def read_spacing(spec: Json) -> Pipeline:
    """The normalizer and pre_tokenizer: [WhitespaceSplit], [Metaspace], or both."""
    whitespace_split, metaspace, split = False, None, True
    for step in flat(spec.get("pre_tokenizer"), "pretokenizers"):
        if step["type"] == "WhitespaceSplit" and metaspace is None:
            whitespace_split = True
        elif step["type"] == "Metaspace" and metaspace is None and step["replacement"] == SPACE:
            always = "always" if step.get("add_prefix_space", True) else "never"
            metaspace, split = step.get("prepend_scheme", always), step.get("split", True)
        else:
            raise refuse(step, "as pre-tokenizer")
    return Pipeline(flat(spec.get("normalizer"), "normalizers"), whitespace_split, metaspace, split)


def read_strip(spec: Json) -> str:
    """What the decoder drops at the beginning of a text."""
    steps = flat(spec.get("decoder"), "decoders")
    strip = "none"
    for step in steps:
        if step["type"] == "Metaspace" and len(steps) == 1:
            always = "always" if step.get("add_prefix_space", True) else "never"
            strip = "all" if step.get("prepend_scheme", always) != "never" else "none"
        elif step["type"] == "Strip" and (step["content"], step["start"], step["stop"]) == (" ", 1, 0):
            strip = "one"
        elif step["type"] == "Replace" and (step["pattern"], step["content"]) == ({"String": SPACE}, " "):
            continue
        elif step["type"] not in ("ByteFallback", "Fuse"):
            raise refuse(step, "as decoder of a SentencePiece-style vocabulary")
    return strip
