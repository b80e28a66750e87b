"""Words with labels, to learn tagging from: CoNLL files, JSON lines, and notes of our own."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .files import DataError
from .order import key
from .tables import held_out, read_table

NOTES = "notes"  # the name of the notes that come with tinyllm

# name of a label -> what stands for it in a note
NAMES = {
    "PERSON": ("Anna", "Ben Carter", "Chloe", "Dr. Evans", "Farid Haddad", "Grandma", "Hanna Koch", "Mr. Silva", "Yuki"),
    "PLACE": ("Oslo", "the town hall", "Lisbon", "room 12", "the old bridge", "Graz", "Platform 4", "New York"),
    "TIME": ("Monday", "at noon", "tomorrow", "3 May", "on Friday evening", "at 7 o'clock", "next week", "tonight"),
}
NOTE_FORMS = (
    "Meet PERSON in PLACE TIME .", "TIME : lunch with PERSON and PERSON .", "Call PERSON TIME .", "Buy bread and milk .",
    "The train to PLACE leaves TIME .", "PERSON and PERSON will wait near PLACE .", "Send the keys to PERSON TIME .",
    "No rehearsal TIME , PERSON is in PLACE .", "Ask PERSON about the tickets to PLACE .", "Dinner TIME at PLACE ?",
    "PERSON calls from PLACE TIME .", "The package for PERSON is at PLACE .", "PERSON has moved to PLACE .",
    "Water the plants TIME .",
)  # fmt: skip


@dataclass(frozen=True)
class Tagged:
    """Texts in words, a label number for each word, and the labels' names."""

    words: list[list[str]]
    labels: list[list[int]]
    names: list[str]

    def __len__(self) -> int:
        return len(self.words)

    def split(self, fraction: float, seed: int = 0) -> tuple["Tagged", "Tagged"]:
        """(to learn from, held out): about this fraction is held out, and equal texts stay together."""
        out = held_out([" ".join(words) for words in self.words], fraction, seed)

        def part(which: np.ndarray) -> "Tagged":
            rows = which.nonzero()[0].tolist()
            return replace(self, words=[self.words[i] for i in rows], labels=[self.labels[i] for i in rows])

        return part(~out), part(out)

    def fingerprint(self) -> str:
        """The same for the same texts and labels."""
        return hashlib.sha256(repr((self.words, self.labels, self.names)).encode("utf-8")).hexdigest()


def read_tagged(files: Iterable[str | Path], column: int = -1, names: Sequence[str] | None = None) -> Tagged:
    """Tagged texts of files, one after the other: JSON lines with "tokens" and "tags" (lists of one length), or CoNLL's
    form, a word a line with its label in `column` (from 0, or from the end by -1), an empty line between texts; "notes" is
    our own. names: the labels in their order; else those that occur, "O" first.

    Raises DataError, which names the file and the line, where that cannot be.
    """
    texts: list[tuple[list[str], list[str], str]] = []
    for what in files:
        if what == NOTES:
            texts += notes()
        elif "".join(Path(what).suffixes).removesuffix(".gz").endswith((".json", ".jsonl")):
            texts += _json(what)
        else:
            texts += _conll(Path(what), column)
    found = {tag for _, tags, _ in texts for tag in tags}
    names = list(names) if names else sorted(found, key=lambda name: (name != "O", name))
    number = {name: i for i, name in enumerate(names)}
    for _, tags, where in texts:
        if unknown := [tag for tag in tags if tag not in number]:
            raise DataError(f"{where} has the label {unknown[0]!r}; there are {', '.join(names)}")
    if len(names) < 2:
        raise DataError(f"all words have the label {', '.join(names)}: is it the right column?")
    return Tagged([words for words, _, _ in texts], [[number[tag] for tag in tags] for _, tags, _ in texts], names)


def _json(path: str | Path) -> list[tuple[list[str], list[str], str]]:
    table, texts = read_table(path), []
    words = table.known(("tokens", "words")) or "tokens"
    tags = table.known(("tags", "ner_tags", "pos_tags", "labels")) or "tags"
    for i, (row, labels) in enumerate(zip(table.values(words), table.values(tags))):
        where = f"{path}, entry {i + 1},"
        if not isinstance(row, list) or not isinstance(labels, list) or len(row) != len(labels) or not row:
            raise DataError(f"{where} should have lists of one length as {words} and {tags}")
        texts.append(([str(word) for word in row], [str(label) for label in labels], where))
    return texts


def _conll(path: Path, column: int) -> list[tuple[list[str], list[str], str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: give a CoNLL file, JSON lines, or {NOTES}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: byte {error.start} cannot be read") from None
    texts: list[tuple[list[str], list[str], str]] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        cells = line.split()
        if cells and cells[0] != "-DOCSTART-":
            if len(cells) < 2 or not -len(cells) <= column < len(cells):
                raise DataError(f"{path}, line {number}, has {len(cells)} columns: no word with a label in column {column}")
            words.append(cells[0])
            tags.append(cells[column])
        elif words:
            texts.append((words, tags, f"{path}, before line {number},"))
            words, tags = [], []
    if not texts:
        raise DataError(f"{path} holds no words")
    return texts


def notes(count: int = 600) -> list[tuple[list[str], list[str], str]]:
    """Short notes written for tinyllm, (words, their labels, where from): who, where and when, as B-, I- and O."""
    made = []
    for number in range(count):
        words, tags = [], []
        for place, part in enumerate(NOTE_FORMS[key(7, number) % len(NOTE_FORMS)].split()):
            if part not in NAMES:
                words.append(part)
                tags.append("O")
                continue
            name = NAMES[part][key(7, number, place + 1) % len(NAMES[part])].split()
            words += name
            tags += [f"B-{part}"] + [f"I-{part}"] * (len(name) - 1)
        made.append((words, tags, f"note {number + 1}"))
    return made
