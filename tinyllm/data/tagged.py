"""Words with labels, to learn tagging from: CoNLL files, JSON lines, and notes of our own."""

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import regex

from .conll import TaggedText, conll_texts
from .files import DataError
from .order import key
from .reading import UTF8, read_file
from .tables import as_label, as_text, held_out, read_table, table_kind

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

    def keys(self) -> list[str]:
        """What each row is about: its text."""
        return [" ".join(words) for words in self.words]

    def take(self, which: np.ndarray) -> "Tagged":
        """The rows that `which`, (N,) bool, says."""
        rows = which.nonzero()[0].tolist()
        return replace(self, words=[self.words[i] for i in rows], labels=[self.labels[i] for i in rows])

    def split(self, fraction: float, seed: int = 0) -> tuple["Tagged", "Tagged"]:
        """(to learn from, held out): about this fraction is held out, and equal texts stay together."""
        out = held_out(self.keys(), fraction, seed)
        return self.take(~out), self.take(out)

    def fingerprint(self) -> str:
        """The same for the same texts and labels."""
        return hashlib.sha256(repr((self.words, self.labels, self.names)).encode("utf-8")).hexdigest()


def read_tagged(
    files: Iterable[str | Path], column: int = -1, names: Sequence[str] | None = None, encoding: str = UTF8
) -> Tagged:
    """Tagged texts of files, one after the other: JSON lines with "tokens" and "tags" (lists of one length), or CoNLL's
    form (conll.py), a word a line with its label in `column` (from 0, or from the end by -1), an empty line between texts;
    "notes" is our own. names: the labels in their order; else those that occur, "O" first.

    Raises DataError, which names the file and the line, if that cannot be.
    """
    texts: list[TaggedText] = []
    for what in files:
        if what == NOTES:
            texts += notes()
        elif table_kind(Path(what)) == "json":
            texts += _json(what, encoding)
        else:
            text = read_file(what, encoding, f"give a CoNLL file, JSON lines, or {NOTES}")
            texts += conll_texts(text, str(what), column)
    found = {tag for _, tags, _ in texts for tag in tags}
    names = list(names) if names else sorted(found, key=lambda name: (name != "O", name))
    number = {name: i for i, name in enumerate(names)}
    for _, tags, where in texts:
        if unknown := [tag for tag in tags if tag not in number]:
            raise DataError(f"{where} has the label {unknown[0]!r}; there are {', '.join(names)}")
    if len(names) < 2:
        raise DataError(f"all words have the label {', '.join(names)}: is it the right column?")
    return Tagged([words for words, _, _ in texts], [[number[tag] for tag in tags] for _, tags, _ in texts], names)


def _json(path: str | Path, encoding: str) -> list[TaggedText]:
    table = read_table(path, encoding=encoding)
    texts: list[TaggedText] = []
    words = table.known(("tokens", "words")) or "tokens"
    tags = table.known(("tags", "ner_tags", "pos_tags", "labels")) or "tags"
    for i, (row, labels) in enumerate(zip(table.values(words), table.values(tags))):
        where = f"{table.where(i)},"
        if not isinstance(row, list) or not isinstance(labels, list) or len(row) != len(labels) or not row:
            raise DataError(f"{where} should have lists of one length as {words} and {tags}")
        texts.append(([as_text(word, where) for word in row], [as_label(label, where) for label in labels], where))
    return texts


def words_of(text: str) -> list[tuple[str, int, int]]:
    """The words of a text as (word, start, end), by Unicode's word boundaries (UAX 29); a mark is a word too, white space is
    not."""
    found = []
    for match in WORD.finditer(text):
        if word := match[0].strip():
            start = match.start() + match[0].index(word)
            found.append((word, start, start + len(word)))
    return found


def parts(tagged: Tagged) -> Tagged:
    """The texts in the words that `words_of` finds, each with its label: what a tagger meets in plain text."""
    words, labels = [], []
    for row, numbers in zip(tagged.words, tagged.labels):
        cut = [[part for part, *_ in words_of(word)] or [word] for word in row]
        names = [divided(tagged.names[n], len(several), tagged.names) for n, several in zip(numbers, cut)]
        words.append([part for several in cut for part in several])
        labels.append([tagged.names.index(name) for several in names for name in several])
    return replace(tagged, words=words, labels=labels)


def divided(label: str, count: int, names: Container[str]) -> list[str]:
    """The labels of a word's parts, where Unicode's word boundaries divide it into several: B-X of "Dr." is B-X of "Dr" and
    I-X of the point. A label that the data do not have is replaced by the word's own."""
    first, between, last = PARTS.get(label[:1], ("",) * 3) if label[1:2] in ("", "-") else ("",) * 3
    letters = [label] if count == 1 else [first + label[1:], *[between + label[1:]] * (count - 2), last + label[1:]]
    return [part if part in names else label for part in letters]


# A label's letter -> those of the first, the middle and the last part of its word
PARTS = {
    "B": ("B", "I", "I"), "I": ("I", "I", "I"), "E": ("I", "I", "E"), "L": ("I", "I", "L"), "S": ("B", "I", "E"),
    "U": ("B", "I", "L"),
}  # fmt: skip
WORD = regex.compile(r"(?V1w).+?\b", regex.DOTALL)


def notes(count: int = 600) -> list[TaggedText]:
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
