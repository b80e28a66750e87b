"""Pairs of texts, one to be made of the other: a translation, a summary, an answer.

A source and its target (or several targets, each as good) come from a table, from two files whose lines belong together, or
from what needs no file: dates in several languages, functions of Python's library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cldr import CLDR, letter_pairs
from .files import DataError
from .forms import MADE
from .made import DATES, FUNCTIONS, date_pairs, function_pairs
from .reading import UTF8
from .sentences import COPIES, copy_pairs
from .tables import INPUTS, TARGETS, Table, held_out, read_table
from .text import read_text


@dataclass(frozen=True)
class Pairs:
    """Sources, and for each the targets that are right; the first of them is learned.

    origins: the text that each source was made from; None if the sources are the texts themselves.
    """

    sources: list[str]
    references: list[tuple[str, ...]]
    origins: list[str] | None = None

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def targets(self) -> list[str]:
        return [group[0] for group in self.references]

    def take(self, which: np.ndarray) -> Pairs:
        """The pairs that `which`, (N,) bool, says."""
        rows = which.nonzero()[0]
        origins = None if self.origins is None else [self.origins[i] for i in rows]
        return Pairs([self.sources[i] for i in rows], [self.references[i] for i in rows], origins)

    def keys(self) -> list[str]:
        """What each pair is about: the text that its source is, or was made from."""
        return self.sources if self.origins is None else self.origins

    def split(self, fraction: float, seed: int = 0) -> tuple[Pairs, Pairs]:
        """(to learn from, held out): about this fraction is held out, and equal sources stay together."""
        which = held_out(self.keys(), fraction, seed)
        return self.take(~which), self.take(which)

    def grouped(self) -> Pairs:
        """Each source once, with the targets of all its pairs as references."""
        groups: dict[str, tuple[str, ...]] = {}
        for source, references in zip(self.sources, self.references):
            groups[source] = groups.get(source, ()) + references
        return Pairs(list(groups), list(groups.values()))

    def fingerprint(self) -> str:
        """The same for the same pairs."""
        return hashlib.sha256(repr((self.sources, self.references)).encode("utf-8")).hexdigest()


def read_pairs(
    what: str | Path,
    source: str | None = None,
    target: str | None = None,
    delimiter: str | None = None,
    encoding: str = UTF8,
) -> Pairs:
    """The pairs of a table, of two files, or of what tinyllm makes. `source` and `target` name the two sides of it:

    a table (CSV, TSV, JSON, JSON lines, also .gz; or a data set by name): two of its columns. Not given, they are found by
    names that speak for themselves (tables.INPUTS, tables.TARGETS), or are the first two. A list of texts as source is
    joined by spaces; as target each is taken for a right one (several reference summaries).
    two files, `what` their common beginning: their ends. "train", "en", "de" reads train.en and train.de, or their .gz.
    "dates": two languages of made.LANGUAGES. "cldr": places with dates in any two languages (cldr.py). "functions": Python
    functions, and what their documentation says first. "forms" and "replies": what forms.py makes.
    "copies:" before any of these: a sentence of a source to be written again, its first words being given (sentences.py).

    Pairs of which a side is empty are left out. delimiter, encoding: of the files, see read_table. Raises DataError, which
    names the file, if that cannot be.
    """
    origins: list[str] | None = None
    if isinstance(what, str) and what.startswith(COPIES):
        texts = read_pairs(what.removeprefix(COPIES), source, target, delimiter, encoding).sources
        pairs, origins = copy_pairs(texts), [text for text in texts for _ in copy_pairs([text])]
    elif what == DATES:
        pairs = date_pairs(source or "en", target or "de")
    elif what == CLDR:
        pairs = letter_pairs(source or "en", target or "de")
    elif what == FUNCTIONS:
        pairs = function_pairs()
    elif what in MADE:
        pairs = MADE[str(what)]()
    elif files := parallel_files(what, source, target):
        pairs = read_parallel(*files, encoding)
    else:
        pairs = table_pairs(read_table(what, [source, target], delimiter, encoding), source, target)
    whole = [(source, group) for source, group in pairs if source.strip() and group]
    if not whole:
        raise DataError(f"{what} holds no pair of texts")
    return Pairs([source for source, _ in whole], [group for _, group in whole], origins)


def parallel_files(what: str | Path, source: str | None, target: str | None) -> tuple[Path, Path] | None:
    """what.source and what.target, or their .gz; None where neither is there. DataError where one of them is missing."""
    if not source or not target:
        return None
    candidates = [[Path(f"{what}.{side}{end}") for end in ("", ".gz")] for side in (source, target)]
    found = [next((path for path in paths if path.is_file()), None) for paths in candidates]
    if found[0] and found[1]:
        return found[0], found[1]
    if found[0] or found[1]:
        there, missing = (found[0] or found[1]), candidates[found[0] is not None][0]
        raise DataError(f"{there} is there and {missing} is not: translations are two files with as many lines")
    return None


def read_parallel(source: Path, target: Path, encoding: str = UTF8) -> list[tuple[str, tuple[str, ...]]]:
    """Line n of one file with line n of the other."""
    sides = [read_text(path, encoding=encoding).removesuffix("\n").split("\n") for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{source} has {len(sides[0]):,} lines and {target} {len(sides[1]):,}: line n of one must translate line n of "
            "the other"
        )
    return [(a, (b,) if b.strip() else ()) for a, b in zip(*sides)]


def table_pairs(table: Table, source: str | None, target: str | None) -> list[tuple[str, tuple[str, ...]]]:
    """Two columns of a table as pairs."""
    target = target or table.known(name for name in TARGETS if name != source) or second(table, source, "target")
    source = source or table.known(name for name in INPUTS if name != target) or second(table, target, "source")
    groups = []
    for value in table.values(target):
        several = value if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
        groups.append(tuple(text for text in several if text.strip()) if several is not None else None)
    if None in groups:  # not lists of texts
        groups = [(text,) if text.strip() else () for text in table.texts(target)]
    return list(zip(table.texts(source), groups))  # type: ignore[arg-type]  # no None is left


def second(table: Table, other: str | None, side: str) -> str:
    """The column that is meant where there are two: the one that is left; or the first as source, the second as target."""
    columns = table.columns
    if other is not None and len(columns) == 2 and other in columns:
        return columns[1 - columns.index(other)]
    if other is None and len(columns) >= 2 and columns[:2] == ["1", "2"]:
        return columns[side == "target"]
    if other == "2" and columns[0] == "1":
        return "1"
    raise DataError(f"{table.name}: which column is the {side}? Give {side}, one of {', '.join(columns)}")


def fingerprint(parts: Sequence[Pairs]) -> str:
    return "+".join(pairs.fingerprint() for pairs in parts)
