"""What a training reads: batches without end, held-out batches, and how a model is measured on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ..data.batches import IGNORED
from ..layers import without_dropout
from ..models import Model
from ..tokenizers import Tokenizer

Part = TypeVar("Part")
Batch = tuple[np.ndarray, ...]  # the arguments of the model's loss, in the order of model.arguments


class Batches(Protocol):
    """An endless row of batches that can say where it stands, and go on from there.

    count: items in an epoch; step: items in a batch.
    """

    count: int
    step: int

    def __next__(self) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Data:
    """What is learned. A task with other measures than the loss overrides `evaluate`."""

    batches: Batches
    held_out: Callable[[], Iterable[Batch]]  # gives the batches for evaluation, from their beginning
    test: Callable[[], dict[str, Any]] | None = None  # gives the fields in which the Data of the test part differ
    tokenizer: Tokenizer | None = None  # saved with the model
    sample: Callable[[Model], str] | None = None  # something that the model writes, to look at on the way
    fingerprint: str = ""  # the same for the same data: a run goes on with no other
    targets: int = 1  # which of a batch's arrays holds the targets, -100 where they do not count
    best: str = "loss"  # the measure that says which model is the best: the lowest loss, or the highest of another
    loss_options: dict[str, Any] = field(default_factory=dict)  # of model.loss in training: class_weight, label_smoothing
    notes: str = ""  # what a user should know of the data before the first step: which files were read, and which not
    report: Callable[[Model, Path], None] | None = None  # writes into a run's directory what there is to see of its best
    unit: str = "token"  # of which held_out has n
    n: int | None = None  # None: as many as its targets

    def on_test(self) -> Data:
        """The same with the test part as what is held out."""
        assert self.test is not None
        return replace(self, test=None, **self.test())

    def count(self, batch: Batch) -> int:
        """Over how many targets the loss of a batch is the mean."""
        return int(np.count_nonzero(batch[self.targets] != IGNORED))

    def read(self, batch: Batch) -> int:
        """How many tokens the model reads of a batch, padding apart."""
        inputs, options = batch[: self.targets], batch[self.targets + 1 :]
        masks = (np.asarray(option) for option in options if option is not None)
        shapes = [one.shape for one in inputs[:1]]  # of the first input, which a mask is about
        mask = next((mask for mask in masks if mask.dtype == bool and mask.shape in shapes), None)
        size = sum(one.size for one in inputs)
        return size if mask is None else size - int(np.count_nonzero(~mask))

    def weight(self, batch: Batch) -> float:
        """What a batch counts beside others in a step's loss: as much as its targets, all of which count alike."""
        return self.count(batch)

    @property
    def trains_another_loss(self) -> bool:
        """Whether `loss_options` change the loss: label smoothing of 0 does not."""
        return any(value is not None and not (np.isscalar(value) and value == 0) for value in self.loss_options.values())

    @without_dropout()
    def objective(self, model: Model, batches: Iterable[Batch]) -> float:
        """The mean loss of the batches with `loss_options`, as training computes it: to compare with the loss of a step."""
        total, weights = 0.0, 0.0
        with model.without_keeping():
            for batch in batches:
                if weight := self.weight(batch):
                    total += weight * model.loss(**model.named(batch), **self.loss_options)
                    weights += weight
        return total / weights if weights else math.nan

    @without_dropout()
    def evaluate(self, model: Model, batches: Iterable[Batch]) -> dict[str, float]:
        """The mean loss over all targets of the batches, as "loss". A task adds measures of its own."""
        total, count = 0.0, 0
        with model.without_keeping():
            for batch in batches:
                if n := self.count(batch):
                    total += n * model.loss(**model.named(batch))
                    count += n
        if not count:
            raise ValueError("there is nothing to evaluate on: no held-out target counts")
        return {"loss": total / count}


def later(measured: Callable[[Part], dict[str, Any]], part: Part | None) -> Callable[[], dict[str, Any]] | None:
    """Data.test: the fields that `measured` gives for the test part, when they are asked for. None without a test part."""
    return None if part is None else lambda: measured(part)
