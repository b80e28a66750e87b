"""Tokens that stand beside a vocabulary: found in the text as they are written, before anything else looks at it."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import regex

from .files import TokenizerError


@dataclass(frozen=True)
class AddedToken:
    """A token of its own, with the options that Hugging Face's tokenizer.json gives it.

    special: controls the model (decoding may skip it); lstrip, rstrip: swallows the white space before or after it;
    single_word: only where no letter touches it; normalized: looked for in the normalised text, not in the raw one.
    """

    content: str
    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


class AddedTokens:
    """Finds added tokens in a text: leftmost first, and the longest of those that begin at one place."""

    def __init__(self, tokens: Iterable[AddedToken], spelling=lambda content: content):
        """`spelling` turns a content into what stands in the text searched (the normaliser, for normalised tokens)."""
        self.tokens: dict[str, AddedToken] = {}
        for token in tokens:
            spelled = spelling(token.content)
            other = self.tokens.setdefault(spelled, token)
            if not spelled or other.content != token.content:
                like = "nothing" if not spelled else f"{spelled!r}, like {other.content!r}"
                raise TokenizerError(
                    f"the added token {token.content!r} has normalized = true and its normal form is {like}: "
                    "no text can say which is meant; set normalized to false in the file"
                )
            self.tokens[spelled] = token
        self.pattern = any_of(self.tokens)

    def split(
        self, text: str, allow_special: bool = True, typed: Collection[int] = ()
    ) -> list[tuple[str, AddedToken | None, int]]:
        """The text as (part, its added token or None, where it starts); special tokens are plain text unless allowed.

        A match counts even if the one before it has swallowed white space that belongs to it, as in the tokenizers
        library: such white space is then in both parts.
        typed: the places of characters that belong to no token.
        """
        parts: list[tuple[str, AddedToken | None, int]] = []
        done = 0
        for match in self._matches(text, typed):
            token = self.tokens[match[0]]
            start, end = match.span()
            if token.special and not allow_special:
                continue
            if token.single_word and (_letter(text[start - 1 : start]) or _letter(text[end : end + 1])):
                continue
            if token.lstrip:
                start = max(done, len(text[:start].rstrip(WHITE_SPACE)))
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip(WHITE_SPACE))
            if start > done:
                parts.append((text[done:start], None, done))
            if end > start:
                parts.append((text[start:end], token, start))
            done = end
        if done < len(text):
            parts.append((text[done:], None, done))
        return parts

    def _matches(self, text: str, typed: Collection[int]) -> Iterator[regex.Match[str]]:
        """The tokens in a text without a character of `typed`, none over another."""
        match = self.pattern.search(text) if self.pattern else None
        while self.pattern and match:
            allowed = not typed or not any(place in typed for place in range(*match.span()))
            if allowed:
                yield match
            match = self.pattern.search(text, match.end() if allowed else match.start() + 1)

    def carried(self, typed: Collection[int], start: int, raw: str, text: str) -> Collection[int]:
        """`typed`, which are places of the whole text, for a part that begins at `start`: `text`, normalised from `raw`.

        Where the two differ, the tokens of one are compared with those of the other, in order. If they are not the same
        tokens, the part has none.
        """
        here = {place - start for place in typed if 0 <= place - start < len(raw)}
        if not here or raw == text:
            return here
        written = any_of(token.content for token in self.tokens.values())
        before = list(written.finditer(raw)) if written else []
        after = list(self.pattern.finditer(text)) if self.pattern else []
        if [match[0] for match in before] != [self.tokens[match[0]].content for match in after]:
            return range(len(text))
        pairs = [(old.span(), new.span()) for old, new in zip(before, after)]
        return {place for old, new in pairs if here.intersection(range(*old)) for place in range(*new)}


def any_of(strings: Iterable[str]) -> regex.Pattern[str] | None:
    """Compile a pattern that matches the longest of the strings at each place, as its only group. None if there are none."""
    longest_first = sorted(filter(None, strings), key=len, reverse=True)
    return regex.compile(f"({'|'.join(map(regex.escape, longest_first))})") if longest_first else None


# Unicode's White_Space property. Python's str.strip() would add U+001C to U+001F, which the peers do not.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _letter(character: str) -> bool:
    return regex.match(r"\w", character) is not None


def well_formed(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that UTF-8 can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
