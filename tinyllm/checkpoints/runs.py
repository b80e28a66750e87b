"""The checkpoints in a directory of training (training/run.py): which there are, and which is the best."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..files import read_json
from .files import CheckpointError
from .state import read_state

RUN = "run.json"


def is_run(path: Path) -> bool:
    """Whether a directory is one of training."""
    return (path / RUN).is_file()


def task_options(path: Path) -> dict[str, Any]:
    """The options of the task that a run was trained for; {} of a directory that is no run."""
    return read_json(path / RUN, CheckpointError).get("task", {}) if is_run(path) else {}


def steps(path: Path) -> list[int]:
    """The steps of which there is a checkpoint, in order. Other names, such as step-00000012.bak, are not looked at."""
    found = (path / "checkpoints").iterdir() if (path / "checkpoints").is_dir() else ()
    numbers = [int(one.name[5:]) for one in found if re.fullmatch("step-[0-9]{8,}", one.name) and one.is_dir()]
    return sorted(step for step in numbers if checkpoint_path(path, step).is_dir())  # step-000000012 is not ours


def checkpoint_path(path: Path, step: int) -> Path:
    return path / "checkpoints" / f"step-{step:08d}"


def best_step(path: Path) -> int:
    """The step of the checkpoint that was the best on held-out data; the newest where none was measured."""
    if not (found := steps(path)):
        raise CheckpointError(f"{path} has no checkpoint yet: `tinyllm train --resume {path}` starts it again")
    step = read_state(checkpoint_path(path, found[-1])).best_step
    if step is None:
        return found[-1]
    if step not in found:
        raise CheckpointError(
            f"{path} lacks the checkpoint of its best step, {step}: give {checkpoint_path(path, found[-1])}, its newest one"
        )
    return step


def best(path: Path) -> Path:
    """The checkpoint of the best step."""
    return checkpoint_path(path, best_step(path))
