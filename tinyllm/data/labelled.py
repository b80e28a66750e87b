"""Texts with labels, to learn classification from: files in the forms that users have, and sentences of our own."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .files import DataError
from .messages import messages
from .reading import UTF8
from .reviews import reviews
from .tables import LABELS, Table, held_out, read_table

REVIEWS, MESSAGES = "reviews", "messages"  # the names of the sentences that come with tinyllm
OURS = {REVIEWS: reviews, MESSAGES: messages}


@dataclass(frozen=True)
class Labelled:
    """Texts, (N,) label numbers and the labels' names; `seconds` where texts come in pairs (a question and an answer)."""

    texts: list[str]
    labels: np.ndarray
    names: list[str]
    seconds: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, which: np.ndarray) -> "Labelled":
        """The rows that `which`, (N,) bool, says."""
        rows = which.nonzero()[0]
        seconds = None if self.seconds is None else [self.seconds[i] for i in rows]
        return replace(self, texts=[self.texts[i] for i in rows], labels=self.labels[rows], seconds=seconds)

    def joined(self, other: "Labelled") -> "Labelled":
        """These rows, and those of another with the same labels."""
        seconds = None if self.seconds is None or other.seconds is None else self.seconds + other.seconds
        labels = np.concatenate([self.labels, other.labels])
        return replace(self, texts=self.texts + other.texts, labels=labels, seconds=seconds)

    def keys(self) -> list[str]:
        """What each row is about: its text, or its pair of texts."""
        return self.texts if self.seconds is None else [f"{a}\t{b}" for a, b in zip(self.texts, self.seconds)]

    def split(self, fraction: float, seed: int = 0) -> tuple["Labelled", "Labelled"]:
        """(to learn from, held out): of every label about this fraction is held out, and equal texts stay together."""
        which = held_out(self.keys(), fraction, seed, self.labels.tolist())
        return self.take(~which), self.take(which)

    def counts(self) -> np.ndarray:
        """How many rows each label has."""
        return np.bincount(self.labels, minlength=len(self.names))

    def class_weight(self) -> np.ndarray:
        """A weight for each label with which all count alike, however many rows they have: N / (labels * rows)."""
        return len(self) / (len(self.names) * np.maximum(self.counts(), 1))

    def fingerprint(self) -> str:
        """The same for the same rows."""
        content = repr((self.texts, self.seconds, self.labels.tolist(), self.names))
        return hashlib.sha256(content.encode("utf-8")).hexdigest()


def read_labelled(
    what: str | Path,
    text_column: str | None = None,
    label_column: str | None = None,
    second_column: str | None = None,
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str = UTF8,
) -> Labelled:
    """Labelled texts of a CSV, TSV, JSON or JSON lines file; of a data set by name (sst2, sst2:dev, sms-spam); or our
    own: "reviews", "messages".

    Columns without a header are called "1", "2", ... A column that is not given is found by a name that speaks for itself
    (tables.TEXTS, tables.LABELS); of two columns without such names the one with fewer different values has the labels.
    names: the labels in their order; else those that occur, sorted. Numbers 0, 1, ... stand for `names` too. A label that is
    a whole number is written without a point: 1.0 of a JSON file is 1. delimiter, encoding: of the file, see read_table.
    Raises DataError, which names the file and the line, if that cannot be.
    """
    if what in OURS:
        texts, words = OURS[str(what)]()
        return Labelled(texts, *_numbered(words, names, Table(str(what), [])))
    table = read_table(what, [text_column, label_column, second_column], delimiter, encoding)
    label_column = label_column or _label_column(table, [text_column, second_column])
    text_column = text_column or table.text_column([label_column, second_column])
    texts = table.texts(text_column)
    if empty := [i for i, text in enumerate(texts) if not text.strip()]:
        raise DataError(f"{table.where(empty[0])}: its text, in column {text_column}, is empty")
    labels, names = _numbered([word.strip() for word in table.labels(label_column)], names, table)
    return Labelled(texts, labels, names, table.texts(second_column) if second_column else None)


def _label_column(table: Table, taken: Sequence[str | None]) -> str:
    if known := table.known(name for name in LABELS if name not in taken):
        return known
    free = [column for column in table.columns if column not in taken]
    different = [len(set(table.texts(column))) for column in free]
    if len(free) == 1 or len(free) == 2 and len(set(different)) == 2:
        return free[int(np.argmin(different))]
    raise DataError(f"{table.name}: which column has the labels? Give label_column, one of {', '.join(table.columns)}")


def _numbered(words: list[str], names: Sequence[str] | None, table: Table) -> tuple[np.ndarray, list[str]]:
    """Labels as numbers, and their names."""
    if names is None:
        names = _names(words, table)
    if len(set(names)) != len(names) or len(names) < 2:
        raise DataError(f"labels must be two different names or more, and are {', '.join(names)}")
    number = {str(i): i for i in range(len(names))} if not set(words) <= set(names) else {}
    number |= {name: i for i, name in enumerate(names)}
    if unknown := next((word for word in words if word not in number), None):
        raise DataError(f"{table.where(words.index(unknown))}, has the label {unknown!r}; there are {', '.join(names)}")
    return np.array([number[word] for word in words], np.int64), list(names)


def _names(words: list[str], table: Table) -> list[str]:
    """The labels that occur, numbers in the order of numbers; DataError if they can hardly be labels."""
    counts, where = Counter(words), table.name
    if "" in counts:
        raise DataError(f"{table.where(words.index(''))}, has no label")
    numbers: dict[float, str] = {}
    for word in counts:
        if (value := _number(word)) is not None and (other := numbers.setdefault(value, word)) != word:
            raise DataError(
                f"{table.where(words.index(word))}, has the label {word!r}, and {table.where(words.index(other))}, has "
                f"{other!r}: they are the same number. Write it in one way, or give the names of all labels"
            )
    if len(counts) < 2:
        raise DataError(f"{where}: all {len(words)} rows have the label {words[0]!r}, and there must be two or more")
    if len(words) > 20 and len(counts) > len(words) / 2:
        raise DataError(f"{where}: {len(counts)} different labels in {len(words)} rows: is it the right label_column?")
    if len(words) > 20 and counts[words[0]] == 1 and len(counts) < len(words) / 10:
        raise DataError(
            f"{where}: the first label, {words[0]!r}, occurs only there. Where the first line is a header, name its columns "
            "with text_column and label_column; where it is no mistake, give the names of all labels"
        )
    return sorted(counts, key=lambda word: (0, int(word), "") if word.lstrip("-").isdecimal() else (1, 0, word))


def _number(word: str) -> float | None:
    """The number that a label spells, if it does."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
