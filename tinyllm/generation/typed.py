"""Text that people typed stays text, whatever special token it spells, also after a chat template has worked on it.

A character that a special token would need is followed by a mark while the template runs: the first of a token that the
text spells, and those at its ends with which the template's own characters could make one up. The marks then say which
places of the rendered text were typed, and `Tokenizer.encode` finds no token there. Other text has no marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import regex

from ..tokenizers import Tokenizer
from ..tokenizers.base import well_formed

MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # no characters, says Unicode: each is free for such a use


class Typed:
    """Marks in texts the characters that the tokens `tokens` would need.

    normalize: what the tokenizer makes of a text before it looks for tokens.
    """

    def __init__(self, tokens: Iterable[str], normalize: Callable[[str], str] = str):
        self.normalize = normalize
        self.tokens = sorted(filter(None, tokens), key=len, reverse=True)
        self.whole = regex.compile("|".join(map(regex.escape, self.tokens)) or "(?!)", regex.IGNORECASE)
        self.begins = {token[:n].lower() for token in self.tokens for n in range(1, len(token))}
        self.ends = {token[n:].lower() for token in self.tokens for n in range(1, len(token))}
        self.longest = max(map(len, self.tokens), default=0)

    def marked(self, value: Any, mark: str) -> Any:
        """The same value with marks in its texts: a text, or a list or an object with texts in it."""
        if isinstance(value, str):
            value = well_formed(value)
            places, normal = self.places(value), self.normalize(value)
            if normal != value and self.places(normal):
                places.add(black(value, 0, len(value)))
            return "".join(letter + mark * (place in places) for place, letter in enumerate(value)) if places else value
        if isinstance(value, dict):
            return {key: self.marked(inner, mark) for key, inner in value.items()}
        return [self.marked(inner, mark) for inner in value] if isinstance(value, list | tuple) else value

    def places(self, text: str) -> set[int]:
        """The characters that are marked."""
        places = {black(text, *match.span()) for match in self.whole.finditer(text, overlapped=True)}
        start, stop = len(text) - len(text.lstrip()), len(text.rstrip())
        for first, last in {(0, len(text)), (start, stop)}:  # as it is, and as `trim` leaves it
            core = text[first:last].lower()
            for n in range(1, min(self.longest, last - first) + 1):
                if core[-n:] in self.begins:
                    places.add(black(text, last - n, last))
                if core[:n] in self.ends:
                    places.add(black(text, first, first + n))
            if core and len(core) < self.longest and any(core in token.lower() for token in self.tokens):
                places.add(black(text, first, last))
        return places


def black(text: str, start: int, stop: int) -> int:
    """The first place of a part that is no white space: a mark there does not keep the space from being trimmed."""
    return next((place for place in range(start, stop) if not text[place].isspace()), start)


def free_mark(*values: Any) -> str:
    """A mark that none of the values has, as itself or as JSON escapes it."""
    used = repr(values).lower()  # where a noncharacter is escaped too
    mark = next((mark for mark in MARKS if escaped(mark) not in used), None)
    if mark is None:
        raise ValueError("the dialogue has all of Unicode's noncharacters U+FDD0 to U+FDEF: remove one of them")
    return mark


def escaped(mark: str) -> str:
    return f"\\u{ord(mark):04x}"


def unmarked(text: str, mark: str) -> tuple[str, frozenset[int]]:
    """The text without marks, and the places of the characters that they followed."""
    parts = regex.split(f"{mark}|{regex.escape(escaped(mark))}", text)
    places, length = set(), 0
    for part in parts[:-1]:
        length += len(part)
        places.add(length - 1)
    return "".join(parts), frozenset(places)


def control_tokens(tokenizer: Tokenizer, literals: str) -> tuple[list[str], list[str]]:
    """The special tokens; and those with the further added tokens that the template writes, such as <think>."""
    special = [token.content for token in tokenizer.settings.added if token.special]
    further = [token.content for token in tokenizer.settings.added if token.content in literals]
    return special, [*special, *(content for content in further if not content.isspace())]


def normalizer(tokenizer: Tokenizer) -> Callable[[str], str]:
    """What the tokenizer does to a text before it looks for tokens."""
    return tokenizer._normalize if any(token.normalized for token in tokenizer.settings.added) else str
