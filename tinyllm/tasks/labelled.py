"""What classification is about, whichever model learns it: labelled texts, how they are measured, what is reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from .. import kernels, metrics
from ..data.batches import IGNORED
from ..data.labelled import REVIEWS, Labelled, read_labelled
from ..data.parts import Parts, three_parts
from ..files import atomic_file
from ..kernels.device import to_host
from ..layers import without_dropout
from ..pipelines.text_classification import classify
from ..training.data import Batch, Data
from ..training.plots import plot_confusion
from .task import Task, lasting, listed


@dataclass
class LabelledTexts(Task):
    """The options of a task whose data are labelled texts. Stands before a Task among the bases of a class."""

    # Data
    data: list[str] = field(default_factory=lambda: [REVIEWS])  # TSV, CSV, JSON lines, a data set's name, or reviews
    text_column: str | None = None  # where the text stands; 1, 2, ... where the file has no header
    label_column: str | None = None  # where its label stands
    labels: list[str] = field(default_factory=list)  # the labels in their order; those that occur, if not given
    val_data: str | None = None  # a file to measure on; a part of the data if not given
    val_fraction: float = 0.1  # which part; of every label alike, and equal texts stay together
    balance: bool = False  # labels that are rare count as much as others
    delimiter: str | None = (
        None  # what is between a table's columns: comma, semicolon, tab, or any character; found if not given
    )
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    measure: Literal["accuracy", "f1", "matthews"] = "accuracy"  # says which model is best; f1: of the second of two labels

    help: ClassVar = "a label for each text"
    unit: ClassVar = "text"
    use: ClassVar = 'Label texts: tinyllm classify {out} "a text"'

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [lasting(name) for name in listed(self.data)]
        self.val_data = self.val_data and lasting(self.val_data)

    @cached_property
    def divided(self) -> Parts[Labelled]:
        """What to learn from, to validate on, and to test on: of every label alike."""
        rows = self.read_all(self.data, self.labels or None)
        validation = self.read(self.val_data, rows.names) if self.val_data else None
        test = self.read_all(self.test_data, rows.names) if self.test_data else None
        return three_parts(
            rows, validation, test, self.fractions, Labelled.keys, Labelled.take, lambda part: part.labels.tolist()
        )

    @property
    def parts(self) -> tuple[Labelled, Labelled]:
        """(to learn from, held out)."""
        return self.divided.learned, self.divided.validation

    def read_all(self, files: Sequence[str], names: Sequence[str] | None) -> Labelled:
        """The texts of several files."""
        rows = self.read(files[0], names)
        for name in files[1:]:
            rows = rows.joined(self.read(name, rows.names))
        return rows

    def read(self, name: str, names: Sequence[str] | None) -> Labelled:
        return read_labelled(
            name, self.text_column, self.label_column, names=names, delimiter=self.delimiter, encoding=self.encoding
        )

    def texts(self) -> Iterable[str]:
        """What a fresh tokenizer learns from."""
        learned, _ = self.parts
        return [*learned.texts, *(learned.seconds or [])]

    def head_fields(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.parts[0].names))}

    def data_fields(self) -> dict[str, Any]:
        """The fields of LabelData that follow from the data."""
        return {
            "fingerprint": "+".join(part.fingerprint() for part in (*self.parts, self.divided.test) if part is not None),
            "best": self.measure,
            "loss_options": {"class_weight": self.parts[0].class_weight().tolist()} if self.balance else {},
            "unit": self.unit,
            "notes": self.divided.notes,
        }


@dataclass
class LabelData(Data):
    """Measured by accuracy, F1 (of the second label where there are two, else the mean over labels) and Matthews'."""

    shown: Labelled | None = None  # the held-out texts, which the report is about
    length: int | None = None  # tokens at which texts are cut

    def __post_init__(self) -> None:
        self.report = self.write_report

    def weight(self, batch: Batch) -> float:
        """The sum of its rows' weights, over which the loss is a mean where labels count unequally."""
        if "class_weight" not in self.loss_options:
            return super().weight(batch)
        labels = batch[self.targets]
        return float(np.asarray(self.loss_options["class_weight"])[labels[labels != IGNORED]].sum())

    @without_dropout()
    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """loss, accuracy, f1, matthews; the loss without weights of labels."""
        loss, predictions, targets = 0.0, [], []
        for batch in batches:
            inputs = model.named(batch)
            labels = inputs.pop("targets")
            logits = model(**inputs)
            loss += kernels.cross_entropy_forward(logits, labels)[0] * len(labels)
            predictions.append(to_host(logits).argmax(-1))
            targets.append(labels)
        said, true = np.concatenate(predictions), np.concatenate(targets)
        return {
            "loss": loss / len(true),
            "accuracy": metrics.accuracy(said, true),
            "f1": metrics.f1(said, true, positive=1 if model.config.num_labels == 2 else None),
            "matthews": metrics.matthews(said, true),
        }

    def write_report(self, model: Any, path: Path) -> None:
        """held_out.tsv: each held-out text, its label, what the model says and how surely; confusion.png."""
        part = self.shown
        assert part is not None and self.tokenizer is not None
        probabilities = classify(model, self.tokenizer, part.texts, part.seconds, max_length=self.length)
        said = probabilities.argmax(1)
        lines = ["label\tpredicted\tprobability\ttext"]
        for i, (text, true) in enumerate(zip(part.texts, part.labels)):
            shown = text if part.seconds is None else f"{text} | {part.seconds[i]}"
            row = (part.names[true], part.names[said[i]], f"{probabilities[i].max():.4f}", " ".join(shown.split()))
            lines.append("\t".join(row))
        with atomic_file(path / "held_out.tsv") as file:
            file.write(("\n".join(lines) + "\n").encode("utf-8"))
        try:
            plot_confusion(path / "confusion.png", said, part.labels, part.names, f"{path.name}, held-out texts")
        except ModuleNotFoundError:
            pass  # the curve of the loss says what is missing
