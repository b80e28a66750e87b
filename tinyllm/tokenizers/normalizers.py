"""The normalizers of a tokenizer.json, each a function from text to text."""

import base64
import unicodedata
from collections.abc import Callable, Sequence

import regex

from .added import WHITE_SPACE
from .bert_characters import MARKS, NEVER_DECOMPOSED, NEVER_REPLACED, OTHER_MARKS, character_class, lower, members
from .charsmap import Charsmap
from .files import TokenizerError
from .json_steps import Json
from .patterns import GROWTH_OF_SHORT_TEXTS, LARGEST_GROWTH, LimitError, Pattern

# Nmt: what SentencePiece's rule "nmt" does beside NFKC. Characters to drop, and characters that become a space.
_NMT = dict.fromkeys([*range(0x01, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F, 0x8F, 0x9F])
_NMT |= dict.fromkeys([0x09, 0x0A, 0x0C, 0x0D, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD], " ")


def normalizing(steps: Sequence[Json]) -> Callable[[str], str]:
    """The function that applies the steps in order. A text that grows out of all proportion is a LimitError."""
    functions = [(step, normalizer(step)) for step in steps]

    def normalize(text: str) -> str:
        longest = longest_result(text)
        for step, function in functions:
            text = function(text)
            if len(text) > longest:
                raise too_long(step)
        return text

    return normalize


def normalizer(step: Json) -> Callable[[str], str]:
    """The function that a normalizer of a tokenizer.json stands for."""
    kind = step["type"]
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return lambda text: unicode_form(kind, text)
    if kind == "Precompiled":
        try:
            blob = base64.b64decode(step["precompiled_charsmap"] or "", validate=True)
        except ValueError:
            raise TokenizerError("its precompiled_charsmap is not base64: the file is damaged") from None
        return Charsmap(blob).by_grapheme if blob else str
    if kind == "Prepend":
        return lambda text: step["prepend"] + text if text else text
    if kind == "Lowercase":
        return lambda text: "".join(map(lower, text))
    if kind == "Strip":
        left, right = WHITE_SPACE * step["strip_left"], WHITE_SPACE * step["strip_right"]
        return lambda text: text.lstrip(left).rstrip(right)
    if kind == "StripAccents":
        return lambda text: "".join([character for character in text if character not in _MARKS])
    if kind == "Nmt":
        return lambda text: text.translate(_NMT)
    if kind == "Replace":
        return replacer(step)
    raise TokenizerError(f"the normalizer {kind} is not supported: {step}")


_MARKS = members(MARKS) | members(OTHER_MARKS)
_NEWER = regex.compile(f"([{character_class(f'{NEVER_DECOMPOSED} {NEVER_REPLACED}')}])")


def unicode_form(form: str, text: str) -> str:
    """unicodedata.normalize, but for the characters that are newer than the peers' tables, which stay as they are."""
    if not _NEWER.search(text):
        return unicodedata.normalize(form, text)  # type: ignore[arg-type]
    parts = _NEWER.split(text)
    parts[::2] = [unicodedata.normalize(form, part) for part in parts[::2]]  # type: ignore[arg-type]
    return "".join(parts)


def replacer(step: Json) -> Callable[[str], str]:
    """The function of a Replace, which is a normalizer and a step of a decoder."""
    content = step["content"]
    if "String" in step["pattern"]:
        wanted = step["pattern"]["String"]
        if not wanted:
            raise TokenizerError(f"Replace of the empty string is not supported: {step}")

        def replace(text: str) -> str:
            if len(text) + text.count(wanted) * len(content) > longest_result(text):
                raise too_long(step)
            return text.replace(wanted, content)

        return replace
    pattern = Pattern(step["pattern"]["Regex"])

    def substitute(text: str) -> str:
        result = pattern.replace(text, content, longest_result(text) - len(text))
        if result is None:
            raise too_long(step)
        return result

    return substitute


def longest_result(text: str) -> int:
    """How many characters a text may have after normalization."""
    return LARGEST_GROWTH * len(text) + GROWTH_OF_SHORT_TEXTS


def too_long(step: Json) -> LimitError:
    return LimitError(
        f"the normalizer {step['type']} was stopped: it made a text more than {LARGEST_GROWTH} times as long "
        f"(and {GROWTH_OF_SHORT_TEXTS:,} characters). Correct it in the file: {str(step)[:200]}"
    )
