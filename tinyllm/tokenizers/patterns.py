"""Regular expressions, and what is between their matches. Those that come from a file are stopped when they run away."""

from collections.abc import Iterator

import regex

from .files import TokenizerError


class LimitError(TokenizerError):
    """A pattern or a chain of normalizers from a file that was stopped, because it would take all time or all memory."""


PATTERN_SECONDS = 5.0  # a pattern from a file may run for so long on one text,
PATTERN_SECONDS_PER_CHARACTER = 2e-5  # and so much longer for each character of it
LARGEST_GROWTH = 100  # normalizers from a file may make a text so many times as long,
GROWTH_OF_SHORT_TEXTS = 100_000  # and this many characters longer


class Pattern:
    """A pattern of a tokenizer.json, in which ^ and $ match at each line. A match that takes too long is a LimitError."""

    def __init__(self, pattern: str):
        self.pattern = pattern
        try:
            self._compiled = regex.compile(*checked_syntax(pattern))
        except (regex.error, OverflowError, RecursionError) as error:
            raise TokenizerError(f"the pattern {pattern!r} does not compile: {error}") from None
        if self._compiled.fullmatch("", timeout=PATTERN_SECONDS):
            raise TokenizerError(f"the pattern {pattern!r} matches the empty string, which tinyllm does not support")

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the matches begin and end; none is empty, except at places that the pattern describes by what is around."""
        seconds = PATTERN_SECONDS + PATTERN_SECONDS_PER_CHARACTER * len(text)
        done = -1
        try:
            for match in self._compiled.finditer(text, timeout=seconds):
                if match.end() > match.start() or match.start() != done:
                    yield match.span()
                done = match.end()
        except TimeoutError:
            raise LimitError(
                f"the pattern {self.pattern!r} was stopped after {seconds:.0f} s on a text of {len(text):,} characters; "
                "such a pattern backtracks without end: correct it in the file"
            ) from None


def checked_syntax(pattern: str) -> tuple[str, int]:
    """A pattern of the peer's engine (Oniguruma) and the flags with which ours reads it alike, or a TokenizerError.

    Both share most of the syntax. Brackets in brackets, [[a-z]_] and [a-z&&[^x]], need the flag VERSION1.
    """
    nested = False
    depth = at = 0
    while at < len(pattern):
        two = pattern[at : at + 2]
        if two[0] == "\\":
            if two[1:] in _OTHER_ESCAPES:
                raise TokenizerError(f"the pattern {pattern!r} uses {two}, which tinyllm does not support")
            at += 2
            continue
        if depth and two == "[:":
            at = pattern.find(":]", at) + 2 if ":]" in pattern[at:] else at + 2
            continue
        if two[0] == "[":
            nested = nested or depth > 0
            depth += 1
            opens = regex.match(r"\[\^?\]?", pattern[at:])
            at += len(opens[0]) if opens else 1
            continue
        if depth and two in ("&&", "--", "~~", "||"):
            if two != "&&":
                raise TokenizerError(f"the pattern {pattern!r} has {two} in brackets, which tinyllm does not support")
            nested = True
        if two[0] == "]":
            depth = max(depth - 1, 0)
        elif not depth and regex.match(r"\{\d*,?\d*\}\+", pattern[at:]):
            raise TokenizerError(f"the pattern {pattern!r} has a + after braces, which engines read differently")
        at += 1
    return pattern, regex.MULTILINE | (regex.VERSION1 if nested else regex.VERSION0)


_OTHER_ESCAPES = tuple("hHyYONKGgkZz")  # which another engine has, or understands otherwise


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
