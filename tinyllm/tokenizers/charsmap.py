"""SentencePiece's precompiled normalisation: strings to replace and what replaces them, in a double-array trie.

How it is applied differs: SentencePiece takes the longest match from left to right; the tokenizers library goes grapheme
by grapheme, and the ids of a tokenizer.json depend on it.
"""

import struct
from collections.abc import Iterator

import regex

from .files import TokenizerError
from .words import Cache

LONGEST_RESULT = 1000  # bytes of what replaces a string; SentencePiece's own maps have at most 33


class Charsmap:
    """A precompiled_charsmap: the size of the trie (uint32), the trie (uint32 each), the results, each ended by a zero.

    A unit of the trie (Yata's darts-clone): bits 0 to 7 and bit 31 the label, bit 8 whether a value hangs below,
    bits 9 to 30 the offset. The child by byte b of the unit at place p is at p ^ offset ^ b; a value, by byte 0.
    """

    def __init__(self, blob: bytes):
        try:
            (size,) = struct.unpack_from("<I", blob)
            self._units = [unit for (unit,) in struct.iter_unpack("<I", blob[4 : 4 + size])]
            self._results = blob[4 + size :]
            if size + 4 > len(blob) or not self._units:
                raise ValueError("cut off")
        except (struct.error, ValueError):
            raise TokenizerError("the precompiled_charsmap is damaged") from None
        self.blob = blob
        self._single = Cache(lambda character: next((found for _, found in self._matches(character)), character))
        self._extends = Cache(self._leads_on)
        self._grapheme = Cache(self._replace_grapheme)

    def by_longest_match(self, text: str) -> str:
        """SentencePiece's way: at each place the longest string that the map has, else the character as it is."""
        return "".join(self.parts(text))

    def parts(self, text: str, keep: regex.Pattern[str] | None = None) -> list[str]:
        """What each step of SentencePiece's way gives, in order. A match of `keep` is one step and stays as it is."""
        if keep is None and not any(map(self._extends.__getitem__, {a + b for a, b in zip(text, text[1:])})):
            return list(map(self._single.__getitem__, text))
        parts, at = [], 0
        while at < len(text):
            if keep is not None and (kept := keep.match(text, at)):
                parts.append(kept[0])
                at = kept.end()
                continue
            length, found = 1, self._single[text[at]]
            if self._extends[text[at : at + 2]]:
                for length, found in self._matches(text[at : at + 64]):  # noqa: B007  the last is the longest
                    pass
            parts.append(found)
            at += length
        return parts

    def by_grapheme(self, text: str) -> str:
        """The tokenizers library's way, its oddities kept, since ids depend on them.

        A grapheme of less than six bytes becomes, as a whole, what the shortest of its beginnings in the map becomes; one
        without any in the map, or a longer one, is looked up character by character.
        """
        return "".join(map(self._grapheme.__getitem__, regex.findall(r"\X", text)))

    def _replace_grapheme(self, grapheme: str) -> str:
        if len(grapheme.encode()) < 6:
            for _, found in self._matches(grapheme):
                return found
        return "".join(map(self._single.__getitem__, grapheme))

    def _matches(self, text: str) -> Iterator[tuple[int, str]]:
        """(length, replacement) of each beginning of the text that is in the map, the shortest first."""
        for end, unit, place in self._walk(text.encode()):
            if unit & 0x100:
                try:
                    at = self._units[place] & 0x7FFFFFFF
                    result = self._results[at : self._results.index(0, at, at + LONGEST_RESULT)]
                    found = len(text.encode()[:end].decode()), result.decode()
                except (IndexError, ValueError):
                    raise TokenizerError(f"the precompiled_charsmap is damaged: it says nothing for {text[:1]!r}") from None
                yield found

    def _leads_on(self, text: str) -> bool:
        """Whether some string of the map begins with the text."""
        size = len(text.encode())
        return any(end == size for end, _, _ in self._walk(text.encode()))

    def _walk(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Down the trie along the bytes: (bytes read, the unit there, where its value is if it has one)."""
        place = _offset(self._units[0])
        for end, byte in enumerate(data, 1):
            place ^= byte
            unit = self._units[place] if place < len(self._units) else 0
            if unit & 0x800000FF != byte or byte == 0:
                return
            place ^= _offset(unit)
            yield end, unit, place


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)
