"""`tinyllm classify MODEL TEXT ...`: a label for each text, and how sure the model is."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..checkpoints.loading import load
from ..pipelines.text_classification import classify, label_names
from .options import TYPES, Argument, Command, OnDevice, parameters


@dataclass
class Options(OnDevice):
    # Texts
    file: Path | None = None  # a UTF-8 file with a text on each line; - is standard input; of pairs, a tab between the two
    max_length: int | None = None  # longer texts are cut at so many tokens; at the model's own limit if not given
    batch_size: int = 32  # so many texts are computed together

    # Output
    all: bool = False  # every label with its probability, the likeliest first

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}, and must be 1 or more")


EXAMPLES = """
tinyllm classify runs/spam "You have won a free phone!" "See you at six"
tinyllm classify runs/spam --file messages.txt > labels.tsv
tinyllm classify runs/mood --all "It was neither good nor bad."
"""


def call(model: Path, text: Sequence[str], **values: Any) -> None:
    """Label texts with a model that was fine-tuned for it (BERT, GPT, Llama or OPT; `finetune KIND --task classification`).

    One line for each text: the label, its probability, the text, with tabs between them.
    """
    options = Options(**values)
    texts = [*text, *(lines(options.file) if options.file is not None else [])]
    if not texts:
        raise ValueError("give texts to label, or a file of them: --file lines.txt")
    loaded, tokenizer = load(model, options.device)
    names = label_names(loaded)
    if tokenizer is None:
        raise ValueError(f"{model} has no tokenizer: use tinyllm.load and the model from Python, with tokens")
    firsts, seconds = pairs(texts)
    probabilities = classify(loaded, tokenizer, firsts, seconds, options.batch_size, options.max_length)
    for row, text_ in zip(probabilities, texts):
        order = row.argsort()[::-1] if options.all else [row.argmax()]
        click.echo("\t".join([*(f"{names[i]}\t{row[i]:.4f}" for i in order), text_]))


def lines(path: Path) -> list[str]:
    """The lines of a file that are not blank."""
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    return [line for line in text.split("\n") if line.strip()]


def pairs(texts: list[str]) -> tuple[list[str], list[str] | None]:
    """Texts with a tab in them are two each; either all are, or none."""
    split = [text.split("\t") for text in texts]
    if all(len(parts) == 1 for parts in split):
        return texts, None
    if all(len(parts) == 2 for parts in split):
        return [parts[0] for parts in split], [parts[1] for parts in split]
    raise ValueError("a tab parts the two texts of a pair: either every line has one, or none")


def argument(name: str, about: str, **options: Any) -> Argument:
    made = Argument([name], **options)
    made.about = about
    return made


command = Command("classify", callback=call, help=inspect.getdoc(call))
command.params += [
    argument(
        "model", "A fine-tuned classifier: a training run, a saved model, or a Hugging Face directory.", type=TYPES[Path]
    ),
    argument("text", "Texts to label.", nargs=-1),
    *parameters(Options),
]
command.examples = EXAMPLES
