"""The checkpoints in a directory of training (training/run.py): which there are, and which is the best."""

from __future__ import annotations

from pathlib import Path

from .files import STATE, CheckpointError, read_json

RUN = "run.json"


def is_run(path: Path) -> bool:
    """Whether a directory is one of training."""
    return (path / RUN).is_file()


def steps(path: Path) -> list[int]:
    """The steps of which there is a checkpoint, in order."""
    return sorted(int(found.name.removeprefix("step-")) for found in path.glob("checkpoints/step-*"))


def checkpoint_path(path: Path, step: int) -> Path:
    return path / "checkpoints" / f"step-{step:08d}"


def best_step(path: Path) -> int:
    """The step of the checkpoint that was the best on held-out data; the newest where none was measured."""
    if not (found := steps(path)):
        raise CheckpointError(f"{path} has no checkpoint yet: `tinyllm train --resume {path}` starts it again")
    step = read_json(checkpoint_path(path, found[-1]) / STATE).get("best_step")
    return found[-1] if step is None else step


def best(path: Path) -> Path:
    """The checkpoint of the best step."""
    return checkpoint_path(path, best_step(path))
