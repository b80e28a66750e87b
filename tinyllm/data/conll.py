"""Files in CoNLL's form: a word on each line with its columns, an empty line between texts.

Where the lines of a file have tabs, tabs alone are between its columns, and a cell may hold any space. Else spaces are.
Files that number the words of a text from 1 in their first column and have three columns or more (CoNLL-U, CoNLL 2009) have
the word in the second one; their lines 2-3 (a word of several syntactic ones) and 4.1 (a word that is not written) are left
out. Before the first word of a text, a line that begins with # is a comment if it has other columns than the text, or if its
first column is # and its label occurs nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .files import DataError
from .reading import lines_of

TaggedText = tuple[list[str], list[str], str]  # words, their labels, and where they are from

DOCUMENT = "-DOCSTART-"
SPACES = re.compile(" +")
EXTRA = re.compile(r"\d+[-.]\d+")  # the number of a line that is no word of its own


@dataclass(frozen=True)
class Line:
    """A line that is not empty: its number in the file, its cells."""

    number: int
    cells: list[str]

    @property
    def hash(self) -> bool:
        return self.cells[0].startswith("#")


def conll_texts(text: str, name: str, column: int = -1) -> list[TaggedText]:
    """The texts of a file, with the labels in a column (from 0, or from the end by -1).

    Raises DataError, which names the file and the line, if a line has no word with a label, or other columns than the text
    that it belongs to.
    """
    blocks = blocks_of(text, name)
    labels = {line.cells[column] for block in blocks for line in block if not line.hash and has(line, column)}
    blocks = [without_comments(block, column, labels) for block in blocks]
    blocks = [block for block in blocks if block]
    if not blocks:
        raise DataError(f"{name} holds no words")
    word = int(is_numbered(blocks))
    texts: list[TaggedText] = []
    for block in blocks:
        lines = [line for line in block if not (word and EXTRA.fullmatch(line.cells[0]))]
        for line in lines:
            check(line, block[0], column, word, name)
        words = [line.cells[word] for line in lines]
        texts.append((words, [line.cells[column] for line in lines], f"{name}, before line {block[-1].number + 1},"))
    return texts


def blocks_of(text: str, name: str) -> list[list[Line]]:
    """The lines between empty ones, in cells."""
    lines = [(number, line.strip(" ")) for number, line in enumerate(lines_of(text), 1)]
    words = [(number, line) for number, line in lines if line.strip("\t") and not line.startswith("#")]
    tabs = [number for number, line in words if "\t" in line.strip("\t")]
    bare = [number for number, line in words if "\t" not in line and not line.startswith(DOCUMENT)]
    if tabs and bare:
        raise DataError(
            f"{name}, line {bare[0]}, has no tab, and line {tabs[0]} has: put tabs between all columns, or spaces"
        )
    blocks: list[list[Line]] = [[]]
    for number, line in lines:
        cells = [cell.strip(" ") for cell in line.split("\t")] if tabs else SPACES.split(line)
        if not any(cells) or cells[0].startswith(DOCUMENT):
            blocks.append([])
        else:
            blocks[-1].append(Line(number, cells))
    return [block for block in blocks if block]


def has(line: Line, column: int) -> bool:
    return -len(line.cells) <= column < len(line.cells)


def without_comments(block: Sequence[Line], column: int, labels: set[str]) -> list[Line]:
    """A text without the comments before its first word."""
    columns = next((len(line.cells) for line in block if not line.hash), None)
    for i, line in enumerate(block):
        known = has(line, column) and line.cells[column] in labels
        comment = len(line.cells) != (columns or len(line.cells)) or line.cells[0] == "#" and not known
        if not line.hash or not comment:
            return list(block[i:])
    return []


def is_numbered(blocks: Sequence[Sequence[Line]]) -> bool:
    """Whether the first column counts the words of each text from 1."""
    for block in blocks:
        lines = [line for line in block if not EXTRA.fullmatch(line.cells[0])]
        if [line.cells[0] for line in lines] != [str(i + 1) for i in range(len(lines))] or len(block[0].cells) < 3:
            return False
    return True


def check(line: Line, first: Line, column: int, word: int, name: str) -> None:
    count = len(line.cells)
    if count < 2 + word or not has(line, column):
        raise DataError(f"{name}, line {line.number}, has {count} columns: no word with a label in column {column}")
    if count != len(first.cells):
        raise DataError(
            f"{name}, line {line.number}, has {count} columns, and line {first.number} of the same text has "
            f"{len(first.cells)}: so its label is not in column {column}"
        )
    if not line.cells[word] or not line.cells[column]:
        raise DataError(f"{name}, line {line.number}: its word or its label, in column {column}, is empty")
