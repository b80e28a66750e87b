"""Tables of texts, as rows of named columns: CSV, TSV, JSON and JSON lines, plain or .gz; data sets by their names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .delimited import delimited_rows
from .download import fetch
from .files import DataError
from .json_rows import json_rows
from .order import key, shuffled
from .reading import UTF8, read_file
from .registry import DATASETS, find_dataset

# Columns that speak for themselves: where one of these stands in the first line, this line is a header
TEXTS = ("text", "sentence", "message", "review", "comment", "content", "sms", "tweet", "document")
LABELS = ("label", "labels", "class", "category", "sentiment", "intent", "topic", "score")
INPUTS = ("input", "source", "prompt", "question", "article", "dialogue", "mr", "instruction", *TEXTS)
TARGETS = ("target", "output", "summary", "ref", "response", "completion", "answer", "reply", "highlights")
KNOWN = frozenset({*TEXTS, *LABELS, *INPUTS, *TARGETS, "context"})


@dataclass(frozen=True)
class Table:
    """Rows of columns. A file without a header has the columns "1", "2", ... places: where each row is in the file."""

    name: str
    rows: list[dict[str, Any]]
    places: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def where(self, i: int) -> str:
        """The file and the line of row i, as errors name them."""
        return f"{self.name}, {self.places[i] if self.places else f'entry {i + 1}'}"

    def values(self, column: str) -> list[Any]:
        """A column from top to bottom; DataError if it does not exist, or a row lacks it."""
        if column not in self.columns:
            raise DataError(f"{self.name} has no column {column!r}: it has {', '.join(self.columns)}")
        for i, row in enumerate(self.rows):
            if row.get(column) is None:
                raise DataError(f"{self.where(i)}, has no {column}")
        return [row[column] for row in self.rows]

    def texts(self, column: str) -> list[str]:
        """A column as texts: numbers as they are written, the strings of a list joined by spaces."""
        return [as_text(value, f"{self.where(i)}, {column}") for i, value in enumerate(self.values(column))]

    def labels(self, column: str) -> list[str]:
        """A column as labels, each one text, number or truth value. A number that is whole is written so: 1.0 is 1."""
        return [as_label(value, f"{self.where(i)}, {column}") for i, value in enumerate(self.values(column))]

    def known(self, names: Iterable[str]) -> str | None:
        """The first of these names that is a column, whatever its case."""
        lower = {column.lower(): column for column in reversed(self.columns)}
        return next((lower[name] for name in names if name in lower), None)

    def text_column(self, taken: Sequence[str | None] = ()) -> str:
        """The column that has the text: one with a name that says so (TEXTS), or the only one that is not taken."""
        if known := self.known(name for name in TEXTS if name not in taken):
            return known
        free = [column for column in self.columns if column not in taken]
        if len(free) == 1:
            return free[0]
        raise DataError(f"{self.name}: which column has the text? Give text_column, one of {', '.join(self.columns)}")


def as_text(value: Any, where: str) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, (str, int, float)) and not (isinstance(value, float) and not math.isfinite(value)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise DataError(f"{where} is neither a text nor a number: {str(value)[:60]!r}")


def as_label(value: Any, where: str) -> str:
    if isinstance(value, list):
        raise DataError(f"{where} is a list, {str(value)[:60]}: a label is one text or one number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return as_text(value, where)


def read_table(
    what: str | Path, columns: Sequence[str | None] = (), delimiter: str | None = None, encoding: str = UTF8
) -> Table:
    """A table from a file, from standard input ("-"), or from a data set by name ("sst2", or "sst2:dev" for its dev.tsv).

    columns: those that will be asked for. The first line of a CSV or TSV file is a header if it holds one of them, or a
    name that speaks for itself (TEXTS, LABELS, INPUTS, TARGETS); else columns are called "1", "2", ... A column without a
    name is called by its number too. delimiter: what is between the columns, or None to find it out (delimited.py says how).
    encoding: that of the file.
    Raises DataError, which names the file and the line, if it cannot be read, or can be read in two ways.
    """
    path = table_path(what)
    text = read_file(path, encoding, "give a file, or one of the names in `tinyllm data list`")
    kind = table_kind(path)
    if kind == "json" or kind == "" and delimiter is None and text.lstrip()[:1] in ("[", "{"):
        rows, places = json_rows(text, str(path))
    else:
        asked = {column for column in columns if column and not column.isdecimal()}
        rows, places = delimited_rows(text, kind, str(path), delimiter, lambda header: is_header(header, asked))
    if not rows:
        raise DataError(f"{path} holds no rows")
    return Table(str(path), rows, places)


def is_header(cells: Iterable[str], asked: Iterable[str] = ()) -> bool:
    """Whether the first line of a file names its columns: with one that is asked for, or a name that speaks for itself."""
    names = [cell.strip() for cell in cells]
    return bool(set(asked) & set(names)) or any(name.lower() in KNOWN for name in names)


def table_kind(path: Path) -> str:
    """What a file's name says of it: "csv", "tsv", "json", or "" for nothing."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}.get(
        suffix, ""
    )


def table_path(what: str | Path) -> Path:
    """The file that is meant: a path, or the first file of a data set, or with "name:file" that one of it."""
    name, _, part = str(what).partition(":")
    if not isinstance(what, str) or name not in DATASETS:
        return Path(what)
    files = [file.name for file in find_dataset(name).files]
    chosen = [file for file in files if file.partition(".")[0] == part] if part else files[:1]
    if not chosen:
        parts = ", ".join(f"{name}:{file.partition('.')[0]}" for file in files)
        raise DataError(f"the data set {name} has no file {part!r}: there are {parts}")
    return fetch(name) / chosen[0]


def held_out(keys: Sequence[str], fraction: float, seed: int = 0, groups: Sequence[Any] | None = None) -> np.ndarray:
    """Which rows are held out, (N,) bool: of every group about this fraction, at least one of two; equal keys stay together.

    Rows with the same key (the same text twice) are never on both sides. DataError where nothing remains to learn from.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the fraction of held-out data must lie between 0 and 1, and is {fraction}")
    first: dict[str, int] = {}
    for i, text in enumerate(keys):
        first.setdefault(text, i)
    kinds: dict[Any, list[int]] = {}
    for i in first.values():
        kinds.setdefault(groups[i] if groups is not None else None, []).append(i)
    chosen: set[int] = set()
    for rows in kinds.values():
        order = shuffled(np.arange(len(rows)), len(rows), key(seed))
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen.update(rows[place] for place in order[:count])
    which = np.array([first[text] in chosen for text in keys], bool)
    if not which.any():
        raise DataError(f"there are too few different rows, {len(first)}, to hold some out: give a file of its own for that")
    return which
