"""The test part of the data: measured once, at the end, with the best model. The run's directory keeps the result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from .. import kernels
from ..checkpoints.files import json_text
from ..checkpoints.state import read_as
from ..files import atomic_file
from ..models import Model
from .data import Data
from .trainer import Trainer

TEST = "test.json"


@dataclass
class Measure:
    """A measure on the test part."""

    value: float


@dataclass
class Tested:
    """The fields of test.json.

    n: how many examples the test part has. unit: what one is, such as a text or a token. step: that of the measured model.
    """

    n: Annotated[int, Meta(ge=0)]
    unit: str
    step: Annotated[int, Meta(ge=0)]
    measures: dict[str, Measure]

    @property
    def values(self) -> dict[str, float]:
        """Each measure's value."""
        return {name: measure.value for name, measure in self.measures.items()}

    def __str__(self) -> str:
        shown = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.values.items())
        return f"test part, {self.n:,} {self.unit}{'s' * (self.n != 1)}, the model of step {self.step:,}: {shown}"


def tested_once(trainer: Trainer) -> Tested:
    """Measure the trainer's best model on the test part; or read the result, where the run has that of this model."""
    step = trainer.step if trainer.best_step is None else trainer.best_step
    path = trainer.run.path / TEST if trainer.run else None
    before: Tested | None = read_as(Tested, path) if path and path.exists() else None
    if before and before.step == step:
        return before
    if before:
        trainer.watcher.say(
            f"The test part was measured before, with the model of step {before.step:,}. If you have chosen something by "
            "that result, the new one is too good: take another test part."
        )
    with trainer.best_model() as model, kernels.autocast(trainer.config.dtype):
        result = measured(trainer.data.on_test(), model, step)
    if path:
        write(path, result)
    return result


def measured(data: Data, model: Model, step: int) -> Tested:
    """Measure a model on all that is held out."""
    measures = data.evaluate(model, data.held_out())
    n = sum(map(data.count, data.held_out())) if data.n is None else data.n
    return Tested(n, data.unit, step, {name: Measure(value) for name, value in measures.items()})


def write(path: Path, result: Tested) -> None:
    with atomic_file(path) as file:
        file.write(json_text(asdict(result)).encode("utf-8"))
