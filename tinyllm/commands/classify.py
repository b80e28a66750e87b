"""`tinyllm classify MODEL TEXT ...`: a label for each text, and how sure the model is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..checkpoints.loading import load
from ..checkpoints.runs import is_run, task_options
from ..models.classification import SequenceClassifier
from ..pipelines.text_classification import classify, label_names
from .inputs import FromFile, one_line, place_of, texts_and_table
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice, FromFile):
    model: Path  # a fine-tuned classifier: a training run, a saved model, or a Hugging Face directory
    text: list[str]  # texts to label

    second_column: str | None = None  # the table's column with the second text of each pair
    pairs: bool | None = None  # whether a tab is between the two texts of a pair; as the model was trained, if that is known
    max_length: int | None = None  # longer texts are cut at so many tokens; at the model's own limit if not given
    batch_size: int = 32  # so many texts are computed together
    all: bool = False  # every label with its probability, the likeliest first

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}, and must be 1 or more")


EXAMPLES = """
tinyllm classify runs/spam "You have won a free phone!" "See you at six"
tinyllm classify runs/spam --file messages.txt > labels.tsv
tinyllm classify runs/spam --file mails.csv --text-column body
tinyllm classify runs/mood --all "It was neither good nor bad."
"""


@command_of(Options, EXAMPLES, name="classify")
def command(options: Options) -> None:
    """Label texts with a model that was fine-tuned for it (BERT, GPT, Llama or OPT; `finetune KIND --task classification`).

    One line for each text: the label, its probability, the text, with tabs between them. A blank line stays blank.
    """
    model, tokenizer = load(options.model, options.device)
    names = label_names(model)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: use tinyllm.load and the model from Python, with tokens")
    may_be_pairs = not isinstance(model, SequenceClassifier) and trained_on_pairs(options.model) is not False
    firsts, seconds = texts_and_seconds(options, may_be_pairs, names)
    rows = [firsts] if seconds is None else [firsts, seconds]
    filled = [i for i, row in enumerate(zip(*rows)) if any(tokenizer.encode(text, allow_special=False) for text in row)]
    taken: list[Any] = [[row[i] for i in filled] for row in rows]
    sizes: dict[str, Any] = {"batch_size": options.batch_size, "max_length": options.max_length}
    probabilities = classify(model, tokenizer, taken[0], *taken[1:], **sizes)
    lines = [""] * len(firsts)
    for i, p in zip(filled, probabilities):
        order = p.argsort()[::-1] if options.all else [p.argmax()]
        lines[i] = "\t".join([*(f"{names[k]}\t{p[k]:.4f}" for k in order), *(one_line(row[i]) for row in rows)])
    for line in lines:
        click.echo(line)


def trained_on_pairs(path: Path) -> bool | None:
    """Whether a training run learned pairs of texts; None if that is not known, as of a model that is not in a run."""
    return task_options(path).get("second_column") is not None if is_run(path) else None


def texts_and_seconds(options: Options, for_pairs: bool, names: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The texts, and the second ones of pairs. for_pairs: whether the model can have been trained on pairs. names: of its
    labels, which say whether lines are labelled ones."""
    texts, table = texts_and_table(options, options.text, "texts to label", options.second_column)
    if options.second_column is not None:
        if table is None or options.text:
            raise ValueError("--second-column names a column of a table: give the table with --file, and no other texts")
        return texts, table.texts(options.second_column)
    if table is None and options.pairs is None and (form := labelled_form(texts, names)):
        raise ValueError(
            f"each line is {form}, and classify labels texts alone: measure the model on them with tinyllm evaluate "
            f"{options.model} --data {options.file or 'FILE'}, or pass --pairs no (one text) or --pairs yes (two texts)"
        )
    if options.pairs is False or table is not None or not (options.pairs or for_pairs):
        return texts, None
    return parted(texts, options.pairs is True, lambda i: place_of(options, options.text, i))


def labelled_form(texts: Sequence[str], names: Sequence[str]) -> str:
    """What lines of a label and a text are; "" if they are none: one tab in each, and on the same side of it only labels of
    the model, by name or number, or a few words that come again and again."""
    lines = [text.split("\t") for text in texts if text.strip()]
    if not lines or any(len(line) != 2 for line in lines):
        return ""
    known = {*(name.lower() for name in names), *map(str, range(len(names)))}
    for side, form in ((0, "a label, a tab and a text"), (1, "a text, a tab and a label")):
        values = {line[side].strip().lower() for line in lines}
        few = len(values) <= len(names) and 4 * len(values) <= len(lines) and not any(" " in value for value in values)
        if values <= known or few:
            return form
    return ""


def parted(texts: Sequence[str], must: bool, place: Callable[[int], str]) -> tuple[list[str], list[str] | None]:
    """Texts with a tab in them are two each: all of them but for blank ones, or none; must: all. place(i) names text i."""
    tabs = {i: text.count("\t") for i, text in enumerate(texts) if text.strip()}
    if not must and not any(tabs.values()):
        return [*texts], None
    if wrong := [i for i, count in tabs.items() if count != 1]:
        raise ValueError(
            f"{place(wrong[0])} has {tabs[wrong[0]]} tabs, and one tab is between the two texts of a pair: "
            "either every line has one, or none. Pass --pairs no if tabs belong to the texts"
        )
    parts = [text.partition("\t") for text in texts]
    return [first for first, _, _ in parts], [second for _, _, second in parts]
