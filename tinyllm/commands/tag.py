"""`tinyllm tag MODEL TEXT ...`: a label for each word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from ..checkpoints.loading import load
from ..pipelines.token_classification import Tag, tag
from .inputs import FromFile, texts_of
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice, FromFile):
    model: Path  # a BERT that was fine-tuned for tagging: a training run, a saved model, or a Hugging Face directory
    text: list[str]  # texts to tag

    # Output
    format: Literal["line", "conll", "json"] = "line"  # word/label side by side; a word a line, as CoNLL; or JSON lines
    batch_size: int = 32  # so many texts are computed together


EXAMPLES = """
tinyllm tag runs/names "Meet Anna in Oslo tomorrow."
tinyllm tag runs/names --file notes.txt > tagged.txt
tinyllm tag runs/names --file notes.csv --text-column note --format json
cat notes.txt | tinyllm tag runs/names --format conll
"""


@command_of(Options, EXAMPLES, name="tag")
def command(options: Options) -> None:
    """Label each word of texts with a model that was fine-tuned for it (`finetune bert --task tagging`).

    One line for each text, and a blank one for a blank text. With --format conll a line for each word, and a blank line
    after each text. Words are cut by Unicode's word boundaries. A word that the tokenizer does not know has the label O.
    """
    if options.batch_size < 1:
        raise ValueError(f"batch_size is {options.batch_size}, and must be 1 or more")
    texts = texts_of(options, options.text, "texts to tag")
    model, tokenizer = load(options.model, options.device)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: use tinyllm.load and the model from Python, with tokens")
    tagger: Any = model
    for tags in tag(tagger, tokenizer, texts, options.batch_size):
        click.echo(shown(tags, options.format))


def shown(tags: Sequence[Tag], format: str) -> str:
    """The words of one text with their labels."""
    if format == "json":
        values = [
            {"word": t.word, "label": t.label, "start": t.start, "end": t.end, "score": round(t.score, 4)} for t in tags
        ]
        return json.dumps(values, ensure_ascii=False)
    between, after = ("\t", "\n") if format == "conll" else ("/", " ")
    words = [f"{t.word}{between}{t.label or '_'}" for t in tags]
    return after.join(words) + after * (format == "conll" and bool(tags))
