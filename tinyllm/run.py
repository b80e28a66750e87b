"""The directory of a training run: what was asked for, how it went, and checkpoints to go on from.

run.json                 the configuration
metrics.jsonl            a line for each step and for each evaluation
loss.png, samples.txt    the curve, and what the model wrote on the way
checkpoints/step-N/      the last one and the best one (checkpoint.py says what is in it)
"""

from __future__ import annotations

from pathlib import Path

from .checkpoint import STATE, CheckpointError, read_json

CONFIG = "run.json"


def is_run(path: Path) -> bool:
    """Whether a directory is one of training."""
    return (path / CONFIG).is_file()


def checkpoint_path(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def steps(run: Path) -> list[int]:
    """The steps of which there is a checkpoint, in order."""
    return sorted(int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*"))


def last(run: Path) -> Path:
    """The newest checkpoint."""
    if found := steps(run):
        return checkpoint_path(run, found[-1])
    raise CheckpointError(f"{run} has no checkpoint yet: resume it with `tinyllm train --resume {run}`")


def best(run: Path) -> Path:
    """The checkpoint with the lowest loss on held-out data; the newest where none was measured."""
    newest = last(run)
    step = read_json(newest / STATE).get("best_step")
    return newest if step is None else checkpoint_path(run, step)
