"""Regular expressions, and what is between their matches. Those that come from a file are stopped when they run away."""

import math
from collections.abc import Iterator

import regex

from .files import TokenizerError


class LimitError(TokenizerError):
    """A pattern or a chain of normalizers from a file that was stopped, because it would take all time or all memory."""


PATTERN_SECONDS = 5.0  # a pattern from a file may run for so long on one text,
PATTERN_SECONDS_PER_CHARACTER = 2e-5  # and so much longer for each character of it
LARGEST_GROWTH = 100  # normalizers from a file may make a text so many times as long,
GROWTH_OF_SHORT_TEXTS = 100_000  # and this many characters longer


LARGEST_REPEAT = 10_000  # the product of the counts n in {n} and {n,m}: compiling writes out so many copies


def repeats_too_much(pattern: str) -> bool:
    """Whether compiling the pattern could fill the memory, as that of (a{1000}){1000000} does."""
    counts = [int(digits.lstrip("0")[:9] or 0) for digits in regex.findall(r"\{(\d+)", pattern)]
    return sum(math.log(count) for count in counts if count) > math.log(LARGEST_REPEAT)


class Pattern:
    """A pattern of a tokenizer.json, in which ^ and $ match at each line. A match that takes too long is a LimitError."""

    def __init__(self, pattern: str):
        self.pattern = pattern
        if repeats_too_much(pattern):
            raise TokenizerError(f"the pattern {pattern!r} repeats its parts more than {LARGEST_REPEAT:,} times")
        try:
            self._compiled = regex.compile(*translated(pattern))
        except (regex.error, OverflowError, RecursionError) as error:
            raise TokenizerError(f"the pattern {pattern!r} does not compile: {error}") from None
        if self._compiled.fullmatch("", timeout=PATTERN_SECONDS):
            raise TokenizerError(f"the pattern {pattern!r} matches the empty string, which tinyllm does not support")

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the matches begin and end. An empty match at the end of the match before it does not count."""
        done = -1
        try:
            for match in self._compiled.finditer(text, timeout=seconds_for(text)):
                start, end = match.span()
                if end > start or start != done:
                    yield start, end
                done = end
        except TimeoutError:
            raise self._stopped(text) from None

    def replace(self, text: str, content: str, room: int) -> str | None:
        """The text with `content` in place of each match; None if that takes more than `room` new characters."""
        done = -1

        def new(match: regex.Match[str]) -> str:
            nonlocal done, room
            start, end = match.span()
            if start == end == done:
                return ""
            done = end
            room -= len(content)
            if room < 0:
                raise _Full
            return content

        try:
            return self._compiled.sub(new, text, timeout=seconds_for(text))
        except _Full:
            return None
        except TimeoutError:
            raise self._stopped(text) from None

    def _stopped(self, text: str) -> LimitError:
        return LimitError(
            f"the pattern {self.pattern!r} was stopped after {seconds_for(text):.0f} s on a text of {len(text):,} "
            "characters: it backtracks without end. Correct it in the file"
        )


class _Full(Exception):
    """There is no room for more."""


def seconds_for(text: str) -> float:
    """How long a pattern from a file may run on a text."""
    return PATTERN_SECONDS + PATTERN_SECONDS_PER_CHARACTER * len(text)


def translated(pattern: str) -> tuple[str, int]:
    """A pattern of the peer's engine, Oniguruma, in ours, and the flags to compile it with; or a TokenizerError.

    Most of the syntax is the same. Brackets in brackets, [[a-z]_] and [a-e&&[^b]], need the flag VERSION1, and so do the
    classes that the two engines fill differently.
    """
    parts: list[str] = []
    new_sets = False
    depth = at = 0
    while at < len(pattern):
        found = _TOKEN.match(pattern, at)
        assert found is not None
        token = found[0]
        at = found.end()
        if token in _REFUSED or (depth and token in ("--", "~~", "||")) or token.endswith("}+"):
            raise TokenizerError(f"the pattern {pattern!r} uses {token}, which engines read differently: not supported")
        if token.startswith("[:") and depth:
            if token not in _POSIX:
                raise TokenizerError(f"the pattern {pattern!r} uses {token}, which tinyllm does not support")
            token = _POSIX[token]
        elif token.startswith("["):
            new_sets = new_sets or depth > 0
            depth += 1
        elif token == "]":
            depth = max(depth - 1, 0)
        new_sets = new_sets or token in _CLASSES or (depth > 0 and token == "&&")
        parts.append((_CLASSES_IN_BRACKETS if depth else _CLASSES).get(token, token))
    return "".join(parts), regex.MULTILINE | (regex.VERSION1 if new_sets else regex.VERSION0)


_TOKEN = regex.compile(r"\\.|\[:\^?\w+:\]|\[\^?\]?|\{\d*,?\d*\}\+?|&&|--|~~|\|\||.", regex.DOTALL)
_REFUSED = frozenset("\\" + letter for letter in "hHyYONKGgkZz")
# \w of the peer's engine has no joiners, and, outside of brackets, the fractions and superscripts of Latin-1.
_CLASSES_IN_BRACKETS = {r"\w": r"[\w--[\u200c\u200d]]", r"\W": r"[^\w--[\u200c\u200d]]"}
_CLASSES = {r"\w": r"[[\w\xb2\xb3\xb9\xbc-\xbe]--[\u200c\u200d]]", r"\W": r"[^[\w\xb2\xb3\xb9\xbc-\xbe]--[\u200c\u200d]]"}
_POSIX = {"[:digit:]": r"\d", "[:punct:]": r"\p{P}\p{S}", "[:alpha:]": "[:alpha:]", "[:space:]": "[:space:]"}
_POSIX |= {"[:upper:]": "[:upper:]", "[:lower:]": "[:lower:]", "[:alnum:]": r"\p{Alphabetic}\d"}


def cut(pattern: Pattern | regex.Pattern[str], text: str) -> list[str]:
    """Cut a text into the matches of a pattern and the stretches between them, in order."""
    if isinstance(pattern, Pattern):
        return [text[start:end] for start, end, _ in stretches(pattern, text) if end > start]
    words = pattern.findall(text) if not pattern.groups else []
    if sum(map(len, words)) == len(text):
        return words
    words, done = [], 0
    for match in pattern.finditer(text):
        words += [text[done : match.start()], match[0]]
        done = match.end()
    return [word for word in [*words, text[done:]] if word]


def stretches(pattern: Pattern, text: str) -> list[tuple[int, int, bool]]:
    """A text as (start, end, whether the pattern matches there), in order."""
    found: list[tuple[int, int, bool]] = []
    done = 0
    for start, end in pattern.spans(text):
        if start > done:
            found.append((done, start, False))
        found.append((start, end, True))
        done = end
    if done < len(text):
        found.append((done, len(text), False))
    return found
