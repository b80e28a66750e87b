"""Split texts into sentences, and make pairs for copying a sentence, which a small model needs for summarizing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .order import key, mix

COPIES = "copies:"  # before the name of data: in place of their targets, sentences of their sources are to be written
GIVEN, NEAR = 3, 3  # words of a sentence that are given, and sentences of which it is one

# A sentence ends after . ! or ? and closing quotes or brackets, or at a line's end, if a capital letter follows. It also
# ends at an empty line.
ENDS = r"""(?<=[.!?])|(?<=[.!?]["'”’)\]])"""
BETWEEN = re.compile(rf"""(?:(?:{ENDS})\s+|[^\S\n]*\n\s*)(?=["'“‘(\[#]*[A-Z])|\s*\n\s*\n\s*""")

# The looser rule: white space after . ! or ?, whatever follows, or an empty line.
BETWEEN_LOOSELY = re.compile(r"(?<=[.!?])\s+(?=\S)|\s*\n\s*\n\s*")


def sentences(text: str, capitals: bool = True) -> list[str]:
    """Split a text into sentences, where one seems to end.

    capitals: whether a sentence ends only where a capital letter follows. Without it "e.g. this" is split too, but so are
    sentences in lower case.
    """
    between = BETWEEN if capitals else BETWEEN_LOOSELY
    return [sentence for part in between.split(text) if (sentence := part.strip())]


def copy_pairs(texts: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """For each few sentences in a row: the first words of one of them, " : ", all of them -> that one.

    To find the words that were written last in the source, and to write what follows there (an induction head, Olsson et
    al. 2022), is most of what summarizing from a few thousand examples comes to, and these are too few to learn it from.
    """
    pairs: list[tuple[str, tuple[str, ...]]] = []
    for text in texts:
        several = [" ".join(one.split()) for one in sentences(text) if 2 * GIVEN <= len(one.split()) <= 40]
        for i in range(max(len(several) - NEAR, 0) + 1 if len(several) > 1 else 0):
            near = several[i : i + NEAR]
            one = near[int(mix(key(len(pairs)))) % len(near)]
            pairs.append((f"{' '.join(one.split()[:GIVEN])} : {' '.join(near)}", (one,)))
    return pairs
