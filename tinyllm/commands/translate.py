"""`tinyllm translate MODEL` and `tinyllm summarize MODEL`: texts on the command line, of a file, or of standard input."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from ..checkpoints.loading import load
from ..data.reading import lines_of, read_file
from ..data.sentences import sentences
from ..data.text_pairs import read_pairs
from ..pipelines.extraction import extracts
from ..pipelines.text2text import answers, use_of
from ..tasks.pairs import MEASURES
from .options import Command, OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice):
    model: Path  # a run of tinyllm finetune t5, a model saved by tinyllm, or a Hugging Face directory of T5
    text: list[str]  # the texts; where there are none, those of --file or of standard input are taken

    # Texts
    file: Path | None = None  # a UTF-8 file, plain or .gz, with a text on each line; - is standard input
    lines: bool = True  # a text on each line; else all of it is one text
    task: str | None = None  # which of the model's tasks, where it has several: translation_en_to_de
    references: Path | None = None  # a file of right texts, line for line: says at the end how near they are
    data: str | None = None  # in place of --file, a table or two files as tinyllm finetune reads them; a source counts once
    source: str | None = None  # of --data: the column, or the file's ending, of the texts
    target: str | None = None  # of --data: that of the right ones
    delimiter: str | None = None  # of --data: what is between a table's columns; found if not given
    encoding: str = "utf-8"  # how the files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    batch_size: int = 32  # so many texts of like lengths are computed together

    # Search (what is not given is as the model was trained for)
    num_beams: int | None = None  # how many texts are followed at a time; 1 takes the likeliest token each time
    length_penalty: float | None = None  # above 0 favours longer texts, below 0 shorter ones
    no_repeat_ngram_size: int | None = None  # no n tokens in a row come twice; 0: they may
    max_length: int | None = None  # tokens of the longest text that is written
    prefix: str | None = None  # what the model is told to do before each text

    # Numbers
    dtype: Literal["float32", "float64"] = "float32"  # what the model computes in


@dataclass
class SummaryOptions(Options):
    # Texts
    lines: bool = False  # a text on each line; else all of it is one text
    extract: bool = False  # takes the likeliest of the text's own sentences, so that nothing is made up


EXAMPLES = """
tinyllm translate runs/de "A dog runs through the snow."
tinyllm translate runs/de --file val.en.gz --references val.de.gz > val.out
cat letter.txt | tinyllm translate runs/de --num-beams 8
tinyllm translate t5-small --task translation_en_to_fr "Good morning."
"""
SUMMARY_EXAMPLES = """
tinyllm summarize runs/summaries --file article.txt
tinyllm summarize runs/functions "def area(r): return math.pi * r ** 2"
tinyllm summarize t5-small --lines --file articles.txt --length-penalty 2
tinyllm summarize runs/papers --data dev.jsonl --extract
"""


@command_of(Options, EXAMPLES, name="translate")
def translate(options: Options) -> None:
    """Translate texts with an encoder-decoder, by beam search.

    What stands before each text ("translate English to German: "), and how long it may be, is kept with the model.
    """
    write(options, "transl", ("bleu", "chrf"))


@command_of(SummaryOptions, SUMMARY_EXAMPLES, name="summarize")
def summarize(options: SummaryOptions) -> None:
    """Summarize a text, or several, with an encoder-decoder, by beam search.

    What stands before a text ("summarize: "), and how long a summary may be, is kept with the model.
    """
    write(options, "summar", ("rouge1", "rouge2", "rougeL"), options.extract)


def write(options: Options, stem: str, measures: Sequence[str], extract: bool = False) -> None:
    """Reads the texts, and prints what the model makes of each on a line."""
    if options.batch_size < 1:
        raise ValueError(f"batch_size is {options.batch_size}, and must be 1 or more")
    if sum(map(bool, (options.text, options.file, options.data))) > 1:
        raise ValueError("give the texts themselves, --file or --data, and not both")
    if (options.references or options.source or options.target) and bool(options.references) == bool(options.data):
        raise ValueError("--references goes with --file; --source and --target say what is read of --data")
    model, tokenizer = load(options.model, options.device, options.dtype)
    use = use_of(model, stem, options.task)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: use tinyllm.generate from Python, with tokens")
    given = {name: value for name in vars(use) if (value := getattr(options, name, None)) is not None}
    use = dataclasses.replace(use, **given)

    def made(texts: Sequence[str]) -> list[str]:
        if extract:
            return extracts(model, tokenizer, texts, use, progress(len(texts)))
        return answers(model, tokenizer, texts, use, options.batch_size, progress(len(texts)))

    if not options.text and options.file is None and options.data is None and sys.stdin.isatty():
        return each_line(lambda text: made([text])[0])
    texts, references = texts_of(options)
    written = made(texts)
    for text in written:
        click.echo(" ".join(text.split()))
    if references is not None:
        measure(written, references, measures)
        if stem == "summar":
            measure([next(iter(sentences(text)), "") for text in texts], references, measures, "the first sentence: ")


def texts_of(options: Options) -> tuple[list[str], list[Any] | None]:
    """The texts, and what is right for each where that is known: one text, or several."""
    if options.data is not None:
        pairs = read_pairs(options.data, options.source, options.target, options.delimiter, options.encoding).grouped()
        return pairs.sources, list(pairs.references)
    texts = options.text or read(options.file, options.lines, options.encoding)
    return texts, None if options.references is None else read(options.references, options.lines, options.encoding)


def each_line(answer: Any) -> None:
    """On a terminal: a text for each line that is typed, until Ctrl-D."""
    while True:
        try:
            text = input(click.style("> ", bold=True)).strip()
        except (EOFError, KeyboardInterrupt):
            return click.echo()
        if text:
            click.echo(answer(text))


def read(file: Path | None, lines: bool, encoding: str) -> list[str]:
    """The texts of a file or of standard input."""
    text = read_file(file or "-", encoding, "give a file with a text on each line")
    return lines_of(text) if lines else [text.strip()]


def progress(count: int) -> Any:
    """Says on a terminal how many are done, where that takes a while."""
    if count < 100 or not sys.stderr.isatty():
        return None
    return lambda done: click.echo(f"\r{done:,} of {count:,}" + "\n" * (done == count), nl=False, err=True)


def measure(written: Sequence[str], references: Sequence[Any], measures: Sequence[str], what: str = "") -> None:
    if len(written) != len(references):
        raise ValueError(f"there are {len(written)} texts and {len(references)} references: they must be line for line")
    click.echo(what + "  ".join(f"{name} {MEASURES[name](written, references):.4g}" for name in measures), err=True)


command: Command = translate
