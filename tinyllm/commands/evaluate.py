"""`tinyllm evaluate MODEL --data FILE`: how good a model is, with intervals and a baseline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from ..evaluation import Difference, Evaluation, Measure, Settings, evaluate
from ..evaluation.losses import OnBatch
from .inputs import one_line
from .options import OnDevice
from .options import command as command_of

WORST = 10  # predictions that are shown
WIDEST = 100  # characters of a text that is shown
MOST_LABELS = 12  # of a confusion matrix that is shown


@dataclass
class Options(OnDevice, Settings):
    model: Path  # a training run, a saved model, or a Hugging Face directory
    data: str = ""  # the file to measure on, in a form that the task is trained on; or a data set of `tinyllm data list`

    # Output
    out: Path | None = None  # file for the predictions, JSON lines with input, reference, prediction and score
    json: bool = False  # print the numbers as one JSON object, and nothing else
    compare: Path | None = None  # another model, to be evaluated on the same data; says which differences are real

    # Numbers
    dtype: Literal["float32", "float64"] = "float32"  # what the model computes in


EXAMPLES = """
tinyllm evaluate runs/spam --data messages.tsv
tinyllm evaluate gpt2 --data book.txt --stride 512
tinyllm evaluate runs/de --data test --source en --target de --out predictions.jsonl
tinyllm evaluate runs/mood --data sst2:test --compare runs/mood-2
tinyllm evaluate gpt2 --data hellaswag_val.jsonl --json
"""


@command_of(Options, EXAMPLES, name="evaluate")
def command(options: Options) -> None:
    """Measure a model on labelled data or on a text, with a 95 % interval for each number and a plain baseline.

    The model's class and the form of the data say what is measured, or --task does. Language models on plain text: loss in
    nats a token, perplexity, bits per byte. Classifiers: accuracy, F1 per class, calibration, a confusion matrix. Taggers:
    F1 of names. Questions: SQuAD's F1 and exact match. Translations, summaries and other texts: BLEU, chrF, ROUGE. Files of
    HellaSwag and ARC: accuracy by likelihood. The ten worst predictions are shown.
    """
    if not options.data:
        raise ValueError("data is missing: give the file to measure on, --data FILE")
    settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}

    def measured(path: Path, **given: Any) -> Evaluation:
        with progress(str(path)) as on_batch:
            where: dict[str, Any] = {"device": options.device, "dtype": options.dtype, "on_batch": on_batch}
            return evaluate(path, options.data, **where, **settings | given)

    result = measured(options.model)
    other = None if options.compare is None else measured(options.compare, task=result.task)
    differences = None if other is None else result.compare(other, options.resamples, options.seed)
    if options.out is not None:
        result.write(options.out)
    if options.json:
        made = result.as_dict()
        if differences is not None and other is not None:
            made["other"] = other.as_dict()
            made["difference"] = {name: vars(one) | {"real": one.real} for name, one in differences.items()}
        click.echo(json.dumps(made, ensure_ascii=False))
        return
    show(options.model, result)
    if other is not None and differences is not None:
        show_differences(options.compare, other.measures, differences)
    show_worst(result)
    if options.out is not None:
        click.echo(f"All {len(result.predictions):,} predictions are in {options.out}.")


@contextmanager
def progress(name: str) -> Iterator[OnBatch | None]:
    """A bar on stderr, on a terminal; the block gets the function that moves it."""
    from rich.console import Console  # here, because rich takes a tenth of a second, which --help need not wait for
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(model: Path, result: Evaluation) -> None:
    """The numbers as a table."""
    click.echo(f"{model}: {result.task}, {result.n:,} {result.unit}{'s' * (result.n != 1)}. Intervals are of 95 %.\n")
    rows = [["measure", "value", "interval", f"baseline: {one_line(result.baseline_name)}"]]
    for name, one in result.measures.items():
        plain = result.baseline.get(name)
        rows.append([name, f"{one.value:.4f}", ends(one), "" if plain is None else f"{plain.value:.4f}  {ends(plain)}"])
    echo_table(rows)
    for name in ("stride", "length", "bleu_signature", "chrf_signature"):
        if name in result.notes:
            click.echo(f"{name.replace('_', ' ')}: {result.notes[name]}")
    if len(result.notes.get("labels", ())) > MOST_LABELS:
        click.echo(f"\nThe confusion matrix of {len(result.notes['labels'])} labels is in what --json prints.")
    elif "confusion" in result.notes:
        labels = [one_line(label) for label in result.notes["labels"]]
        click.echo("\nLabels in rows, predictions in columns:")
        counts = zip(labels, result.notes["confusion"])
        echo_table([["", *labels], *([label, *map(str, row)] for label, row in counts)])


def show_differences(other: Path | None, theirs: Mapping[str, Measure], differences: Mapping[str, Difference]) -> None:
    """What --compare found."""
    click.echo(f"\nMinus {other}, by a paired bootstrap:")
    rows = [["measure", "its value", "difference", "interval", "p", ""]]
    for name, one in differences.items():
        said = "real" if one.real else "may be chance"
        rows.append([name, f"{theirs[name].value:.4f}", f"{one.value:+.4f}", ends(one), f"{one.p:.3f}", said])
    echo_table(rows)


def show_worst(result: Evaluation) -> None:
    worst = result.worst(WORST)
    click.echo(f"\nThe {len(worst)} worst (score, prediction, reference, input):")
    for one in worst:
        parts = (shortened(part) for part in (one.prediction, one.reference, one.input))
        click.echo("\t".join([f"{one.score:.4f}", *parts]))


def shortened(part: Any) -> str:
    """A text, or what JSON holds, on one line of at most WIDEST characters."""
    text = one_line(part if isinstance(part, str) else json.dumps(part, ensure_ascii=False))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def ends(one: Measure) -> str:
    return f"{one.low:.4f} to {one.high:.4f}"


def echo_table(rows: list[list[str]]) -> None:
    """Columns that are aligned, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        click.echo("  ".join(cells).rstrip())
