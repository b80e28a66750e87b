"""What an evaluation gives: measures with their intervals, a baseline on the same examples, and each prediction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import atomic_file
from . import intervals
from .intervals import Difference, Measure, Statistic


@dataclass(frozen=True)
class Prediction:
    """One example: what the model read, what is right (a text, a list of texts, labels), what it gave, and how good that is.

    score: the larger the better, for every task: a share of what is right, or a mean log-probability.
    """

    input: Any
    reference: Any
    prediction: Any
    score: float


@dataclass(frozen=True)
class Scored:
    """What a task found out about a model: each measure as a statistic, and those of a plain baseline."""

    unit: str  # what n counts
    n: int
    measures: Mapping[str, Statistic]
    baseline_name: str
    baseline: Mapping[str, Statistic]
    predictions: list[Prediction]
    notes: dict[str, Any] = field(default_factory=dict)  # more to show: a confusion matrix, the signature of BLEU


@dataclass(frozen=True)
class Evaluation:
    """The result of tinyllm.evaluate.

    n: how many examples (`unit` names them); measures: name -> value, low, high, the ends of the 95 % interval. baseline: in
    the same form, what `baseline_name` reaches on the same examples. predictions: every example.
    """

    task: str
    n: int
    unit: str
    measures: dict[str, Measure]
    baseline: dict[str, Measure]
    baseline_name: str
    predictions: list[Prediction] = field(repr=False)
    notes: dict[str, Any] = field(default_factory=dict, repr=False)
    statistics: Mapping[str, Statistic] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, task: str, scored: Scored, resamples: int, seed: int) -> Evaluation:
        """With intervals from so many bootstrap samples."""
        found, plain = (intervals.measures(part, resamples, seed) for part in (scored.measures, scored.baseline))
        return cls(
            task, scored.n, scored.unit, found, plain, scored.baseline_name, scored.predictions, scored.notes,
            scored.measures,
        )  # fmt: skip

    def worst(self, count: int = 10) -> list[Prediction]:
        """The predictions with the lowest scores, the lowest first."""
        return sorted(self.predictions, key=lambda one: one.score)[:count]

    def compare(self, other: Evaluation, resamples: int = intervals.RESAMPLES, seed: int = 0) -> dict[str, Difference]:
        """Each measure minus the other model's on the same data, by a paired bootstrap.

        If two tokenizers divide a plain text differently, only bits_per_byte is compared: the others are means over tokens.
        ValueError if the tasks or the examples are not the same.
        """
        if other.task != self.task:
            raise ValueError(f"one model was evaluated for {self.task} and the other for {other.task}; give both one --task")
        if self.task == "text":
            names = {"bits_per_byte"} if self.n != other.n else {*self.statistics}
            ours = {name: one for name, one in self.statistics.items() if name in names}
            return intervals.differences(ours, other.statistics, resamples, seed)
        if [one.reference for one in self.predictions] != [one.reference for one in other.predictions]:
            raise ValueError(
                f"the models were evaluated on different {self.unit}s, and a paired comparison needs the same ones: give "
                "both one file; models that guess hidden tokens also need one tokenizer and length"
            )
        return intervals.differences(self.statistics, other.statistics, resamples, seed)

    def write(self, path: str | Path) -> None:
        """Writes the predictions as JSON lines: input, reference, prediction, score."""
        with atomic_file(Path(path)) as file:
            for one in self.predictions:
                file.write((json.dumps(vars(one), ensure_ascii=False) + "\n").encode("utf-8"))

    def as_dict(self) -> dict[str, Any]:
        """The numbers, as `tinyllm evaluate --json` prints them."""
        return {
            "task": self.task,
            "n": self.n,
            "unit": self.unit,
            "measures": intervals.as_json(self.measures),
            "baseline": intervals.as_json(self.baseline),
            "baseline_name": self.baseline_name,
            **self.notes,
        }
