"""`tinyllm fill-mask MODEL TEXT ...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..checkpoints.loading import load
from ..pipelines.mask_filling import Word, fill_mask
from .inputs import FromFile, one_line, place_of, texts_and_table
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice, FromFile):
    model: Path  # directory of a BERT with its masked-LM head
    text: list[str]  # texts with [MASK] where a word is missing; - is standard input, as --file -

    top_k: int = 5  # words shown for each gap
    batch_size: int = 32  # texts read at once
    dtype: str = "float32"  # float32 or float64


EXAMPLES = """
tinyllm fill-mask runs/bert-1 "Return a list of the [MASK] in the file."
cat gaps.txt | tinyllm fill-mask runs/bert-1 - --top-k 1
tinyllm fill-mask runs/bert-1 --file gaps.txt > words.tsv
"""


@command_of(Options, EXAMPLES, name="fill-mask")
def command(options: Options) -> None:
    """Tell which words may stand where a text has [MASK].

    A text that is an argument gets a line for each word. Of a file or standard input each line gets one: the words and their
    probabilities with tabs between them, the gaps of one text with a bar between them. A blank line stays blank.
    """
    for name in ("top_k", "batch_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}, and must be 1 or more")
    if options.text == ["-"]:
        options.text, options.file = [], Path("-")
    if options.text and options.file:
        raise ValueError("give the texts themselves or --file, and not both")
    texts, table = texts_and_table(options, options.text, "texts with [MASK] where a word is missing")
    model, tokenizer = load(options.model, options.device, options.dtype)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: its words cannot be read")
    filled = [i for i, text in enumerate(texts) if text.strip()]
    mask = tokenizer.id_to_token(tokenizer.mask_id) if tokenizer.mask_id is not None else None
    if mask and (wrong := [i for i in filled if mask not in texts[i]]):
        place = place_of(options, options.text, wrong[0], table)
        raise ValueError(f"{place}: there is no {mask} in {texts[wrong[0]][:60]!r}: write one")
    encoder: Any = model
    found = dict(zip(filled, fill_mask(encoder, tokenizer, [texts[i] for i in filled], options.top_k, options.batch_size)))
    for i in range(len(texts)):
        show_words(found[i]) if options.text else click.echo(in_a_line(found.get(i, [])))


def show_words(gaps: Sequence[Sequence[Word]]) -> None:
    for words in gaps:
        for word in words:
            click.echo(f"{word.probability:6.1%}  {word.token:<16} {word.text}")


def in_a_line(gaps: Sequence[Sequence[Word]]) -> str:
    """The words of all gaps of one text."""
    return "\t|\t".join("\t".join(f"{one_line(word.token)}\t{word.probability:.4f}" for word in words) for words in gaps)
