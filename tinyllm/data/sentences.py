"""The sentences of texts, and copying them: what a small model that shall summarize has to be able to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .order import key, mix

COPIES = "copies:"  # before the name of data: in place of their targets, sentences of their sources are to be written
GIVEN, NEAR = 3, 3  # words of a sentence that are given, and sentences of which it is one

# where a sentence ends: behind . ! or ? (and what closes there), or at a line's end, where a capital follows; an empty line
ENDS = r"""(?<=[.!?])|(?<=[.!?]["'”’)\]])"""
BETWEEN = re.compile(rf"""(?:(?:{ENDS})\s+|[^\S\n]*\n\s*)(?=["'“‘(\[#]*[A-Z])|\s*\n\s*\n\s*""")


def sentences(text: str) -> list[str]:
    """The sentences of a text, lines of it included: split where one ends by its looks."""
    return [sentence for part in BETWEEN.split(text) if (sentence := part.strip())]


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
