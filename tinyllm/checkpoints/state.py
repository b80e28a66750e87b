"""state.json of a checkpoint: all that training must know to go on, apart from the arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from .files import STATE, CheckpointError, read_json
from .validation import InvalidValue, whole

Count = Annotated[int, Meta(ge=0)]


@dataclass
class AverageState:
    """What state.json says of the mean of the weights (optim/averaging.py)."""

    name: str  # ema:0.999, say
    count: Count  # steps or evaluations that it has seen
    evaluated: Count  # the step of the latest such evaluation


@dataclass
class TrainingState:
    """The fields of state.json."""

    step: Count  # updates of the weights
    tokens: Count  # targets that they learned from
    seconds: Annotated[float, Meta(ge=0)]  # spent so far
    evaluated: bool  # at this step
    best_step: Count | None  # None before the first evaluation
    best: float | None  # the measure at that step, the loss with its sign turned
    waited: Count  # evaluations since, not counting those of the first pass over the data
    random: dict[str, Any]  # the state of NumPy's generator
    data: dict[str, Any]  # the position in the data
    fingerprint: str  # of the data
    lines: Count  # of the log that belong to this checkpoint
    optimizer_steps: Count
    best_loss: float | None = None  # the loss on held-out data at the best step
    start: float | None = None  # the measure before the first step
    average: AverageState | None = None  # None if nothing is averaged


def read_state(directory: Path) -> TrainingState:
    """state.json of a checkpoint's directory. CheckpointError names the file, the field, its value and what was expected."""
    return read_as(TrainingState, directory / STATE)


def read_as(cls: Any, path: Path) -> Any:
    """A dataclass from the JSON object in a file."""
    try:
        return whole(cls, read_json(path))
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply: it is damaged, or not a file of tinyllm") from None
    except InvalidValue as error:
        raise CheckpointError(f"{path}: {error}; the file is damaged, or of another version of tinyllm") from None
