"""Tables of texts, as rows of named columns: CSV, TSV, JSON and JSON lines, plain or .gz; data sets by their names."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .download import fetch
from .files import DataError
from .order import key, shuffled
from .registry import DATASETS, find_dataset

# Columns that speak for themselves: where one of these stands in the first line, this line is a header
TEXTS = ("text", "sentence", "message", "review", "comment", "content", "sms", "tweet", "document")
LABELS = ("label", "labels", "class", "category", "sentiment", "intent", "topic", "score")
INPUTS = ("input", "source", "prompt", "question", "article", "dialogue", "mr", "instruction", *TEXTS)
TARGETS = ("target", "output", "summary", "ref", "response", "completion", "answer", "reply", "highlights")


@dataclass(frozen=True)
class Table:
    """Rows of columns; a file without a header has the columns "1", "2", ..."""

    name: str
    rows: list[dict[str, Any]]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def values(self, column: str) -> list[Any]:
        """A column from top to bottom; DataError where it does not exist, or a row lacks it."""
        if column not in self.columns:
            raise DataError(f"{self.name} has no column {column!r}: it has {', '.join(self.columns)}")
        for i, row in enumerate(self.rows):
            if row.get(column) is None:
                raise DataError(f"{self.name}, entry {i + 1}, has no {column}")
        return [row[column] for row in self.rows]

    def texts(self, column: str) -> list[str]:
        """A column as texts: numbers as they are written, the strings of a list joined by spaces."""
        return [as_text(value, f"{self.name}, entry {i + 1}, {column}") for i, value in enumerate(self.values(column))]

    def known(self, names: Iterable[str]) -> str | None:
        """The first of these names that is a column, whatever its case."""
        lower = {column.lower(): column for column in reversed(self.columns)}
        return next((lower[name] for name in names if name in lower), None)


def as_text(value: Any, where: str) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, (str, int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise DataError(f"{where} is neither a text nor a number: {str(value)[:60]!r}")


def read_table(what: str | Path, columns: Sequence[str | None] = ()) -> Table:
    """A table from a file, or from a data set by name ("sst2", or "sst2:dev" for its file dev.tsv).

    columns: those that will be asked for. The first line of a CSV or TSV file is a header where it holds one of them, or a
    name that speaks for itself (TEXTS, LABELS, INPUTS, TARGETS); else columns are called "1", "2", ... TSV has no quotes.
    Raises DataError, which names the file and the line, where it cannot be read.
    """
    path = table_path(what)
    text = _read(path)
    suffix = "".join(path.suffixes[-2:]).lower().removesuffix(".gz")[-6:]
    if suffix in (".json", ".jsonl") or suffix not in (".csv", ".tsv") and text.lstrip()[:1] in ("[", "{"):
        rows = _json_rows(text, str(path))
    else:
        tabs = suffix == ".tsv" or suffix != ".csv" and "\t" in text.partition("\n")[0]
        rows = _delimited_rows(text, tabs, str(path), [column for column in columns if column and not column.isdecimal()])
    if not rows:
        raise DataError(f"{path} holds no rows")
    return Table(str(path), rows)


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


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: give a file, or one of the names in `tinyllm data list`") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: give one of the files in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: byte {error.start} cannot be read") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(f"{path} is no whole gzip file: fetch it again") from None


def _json_rows(text: str, name: str) -> list[dict[str, Any]]:
    try:
        lines = [line for line in text.split("\n") if line.strip()]
        entries = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise DataError(f"{name} is neither JSON nor JSON lines: {error}") from None
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{name}, entry {i + 1}: it should be an object with named values, and is {str(entry)[:60]}")
    return entries


def _delimited_rows(text: str, tabs: bool, name: str, asked: list[str]) -> list[dict[str, Any]]:
    if tabs:
        numbered = [(i + 1, line.removesuffix("\r").split("\t")) for i, line in enumerate(text.split("\n"))]
    else:
        reader = csv.reader(io.StringIO(text, newline=""))
        numbered = [(reader.line_num, row) for row in reader]
    numbered = [(line, row) for line, row in numbered if any(cell.strip() for cell in row)]
    if not numbered:
        return []
    header = [cell.strip() for cell in numbered[0][1]]
    known = {*TEXTS, *LABELS, *INPUTS, *TARGETS}
    if set(asked) & set(header) or any(cell.lower() in known for cell in header):
        numbered = numbered[1:]
    else:
        header = [str(i + 1) for i in range(len(header))]
    for line, row in numbered:
        if len(row) != len(header):
            kind = "tabs" if tabs else "commas"
            raise DataError(
                f"{name}, line {line}, has {len(row)} columns between {kind}, and its first line has {len(header)}"
            )
    return [dict(zip(header, row)) for _, row in numbered]


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
