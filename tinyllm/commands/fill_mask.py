"""`tinyllm fill-mask MODEL TEXT`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from ..checkpoints.loading import load
from ..pipelines.mask_filling import fill_mask
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice):
    model: Path  # directory of a BERT with its masked-LM head
    text: str  # a text with [MASK] where a word is missing; - reads texts from standard input, one a line

    top_k: int = 5  # words shown for each gap
    batch_size: int = 32  # texts read at once
    dtype: str = "float32"  # float32 or float64


EXAMPLES = """
tinyllm fill-mask runs/bert-1 "Return a list of the [MASK] in the file."
cat gaps.txt | tinyllm fill-mask runs/bert-1 - --top-k 1
"""


@command_of(Options, EXAMPLES, name="fill-mask")
def command(options: Options) -> None:
    """Tell which words may stand where a text has [MASK]."""
    texts = list(filter(None, sys.stdin.read().split("\n"))) if options.text == "-" else [options.text]
    if not texts:
        raise ValueError("there is no text: write one with [MASK] where a word is missing")
    model, tokenizer = load(options.model, options.device, options.dtype)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: its words cannot be read")
    for gaps in fill_mask(model, tokenizer, texts, options.top_k, options.batch_size):  # type: ignore[arg-type]
        for words in gaps:
            for word in words:
                click.echo(f"{word.probability:6.1%}  {word.token:<16} {word.text}")
