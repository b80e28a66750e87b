"""The pre-tokenizers of a tokenizer.json that cut a text, each a function from a text to its words."""

from collections.abc import Callable, Sequence
from itertools import chain

import regex

from .added import WHITE_SPACE
from .bert_characters import PUNCTUATION, character_class
from .files import TokenizerError
from .json_steps import Json, refuse
from .patterns import Pattern, cut, stretches


def isolated(pattern: str) -> Json:
    """The pre-tokenizer that cuts a text into the matches of a pattern and what is between them."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


Splitter = Callable[[str], list[str]]

CUTTERS = ("Split", "Digits", "Punctuation", "WhitespaceSplit")


def splitter(step: Json) -> Splitter:
    """The function that a pre-tokenizer stands for, one of CUTTERS."""
    kind = step["type"]
    if kind == "Split":
        pattern = step["pattern"]
        wanted = Pattern(pattern["Regex"] if "Regex" in pattern else regex.escape(pattern["String"]))
        return split(wanted, step["behavior"], step.get("invert", False))
    if kind == "Digits":
        return split(_DIGIT, "Isolated" if step["individual_digits"] else "Contiguous")
    if kind == "Punctuation":
        return split(_PUNCTUATION, step.get("behavior", "Isolated"))
    if kind == "WhitespaceSplit":
        return split(_WHITE_SPACE, "Removed")
    raise refuse(step, "as pre-tokenizer")


def split(pattern: Pattern, behavior: str, invert: bool = False) -> Splitter:
    """Cut at the matches of a pattern (at what lies between them if invert is true).

    behavior: what becomes of a match. "Isolated", it is a word; "Removed", it is dropped; "MergedWithPrevious" or
    "MergedWithNext", it joins its neighbour unless that is a match too; "Contiguous", matches in a row are one word.
    """
    if behavior not in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        raise TokenizerError(f"Split with the behavior {behavior!r} is not supported")
    if behavior == "Isolated":  # the same whether inverted or not
        return lambda text: cut(pattern, text)

    def words(text: str) -> list[str]:
        parts = [(text[start:end], match != invert) for start, end, match in stretches(pattern, text)]
        if behavior == "Removed":
            return [part for part, match in parts if part and not match]
        if behavior == "MergedWithNext":
            return [word for word in _merged(parts[::-1], lambda word, part: part + word)[::-1] if word]
        return [word for word in _merged(parts, str.__add__, behavior == "Contiguous") if word]

    return words


def _merged(parts: Sequence[tuple[str, bool]], join: Callable[[str, str], str], alike: bool = False) -> list[str]:
    """The parts as words: a match joins the word before it if that is no match, or, if `alike`, parts join their like."""
    words: list[str] = []
    before: bool | None = None
    for part, match in parts:
        if words and (match == before if alike else match and not before):
            words[-1] = join(words[-1], part)
        else:
            words.append(part)
        before = match
    return words


def splitting(steps: Sequence[Json]) -> Splitter:
    """The function that applies the pre-tokenizers in order, each to the words of the one before it."""
    functions = [splitter(step) for step in steps]

    def words(text: str) -> list[str]:
        found = [text]
        for function in functions:
            found = list(chain.from_iterable(map(function, found)))
        return found

    return words


_DIGIT = Pattern(r"\p{N}")
_PUNCTUATION = Pattern(f"[{character_class(PUNCTUATION)}]")
_WHITE_SPACE = Pattern(f"[{WHITE_SPACE}]")
