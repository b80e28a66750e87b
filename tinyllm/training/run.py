"""The directory of a training run: what was asked for, how it went, and checkpoints to go on from.

    run.json             the configuration
    metrics.jsonl        a line for each step and for each evaluation, with a sample of what the model writes
    loss.png             the curve
    checkpoints/step-N/  the last one and the best one (checkpoints/native.py lists the files)

The newest checkpoint is always complete, even if the process is killed. A resumed run writes the log's later lines again.
One process at a time trains there. It holds a lock on the file .lock, which the system releases when the process ends.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..checkpoints import files, native
from ..checkpoints.files import CheckpointError, read_json
from ..checkpoints.runs import RUN, checkpoint_path, is_run, steps
from ..files import atomic_file
from ..models import Model
from ..optim import Optimizer
from ..tokenizers import Tokenizer

METRICS, LOCK = "metrics.jsonl", ".lock"


def check_free(path: str | Path) -> None:
    """CheckpointError where there is something already."""
    path = Path(path)
    if is_run(path):
        raise CheckpointError(
            f"{path} is a run already: go on with `tinyllm train --resume {path}`, or choose another name for this one"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists and is no training run: choose another name")


class Run:
    """A run's directory, open for training."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.lines = 0  # of the log
        self._lock = FileLock(self.path / LOCK, timeout=0)

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any]) -> Run:
        """A new run, in a directory that holds nothing."""
        check_free(path)
        run = cls(path)
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_config(config)
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run that exists. FileNotFoundError where there is none, CheckpointError where another process trains in it."""
        if not is_run(Path(path)):
            raise FileNotFoundError(f"{path} is no training run, it has no {RUN}: give the directory named by --out")
        run = cls(path)
        with run.alone():
            for left in run.path.glob("checkpoints/.step-*"):  # by a kill
                files.put_back(left.with_name(left.name.split(".")[1]))
        return run

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other process trains here. CheckpointError where one does already."""
        try:
            self._lock.acquire()
        except Timeout:
            raise CheckpointError(f"another process is training in {self.path}: wait until it ends, or end it") from None
        try:
            yield
        finally:
            self._lock.release()

    @property
    def config(self) -> dict[str, Any]:
        return read_json(self.path / RUN)

    def write_config(self, config: dict[str, Any]) -> None:
        _write(self.path / RUN, files.json_text(config))

    # The log -----------------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of the log; the last one may lack its end after a kill, and is then left out."""
        path = self.path / METRICS
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def log(self, record: dict[str, Any]) -> None:
        with (self.path / METRICS).open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.lines += 1

    def rewind(self, lines: int) -> None:
        """Cuts the log to its first lines: what came after the checkpoint will come again."""
        kept = self.metrics[:lines]
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
        _write(self.path / METRICS, text)
        self.lines = len(kept)

    # Checkpoints -------------------------------------------------------------------------------------------------------

    def last(self) -> Path | None:
        """The newest checkpoint, or None before the first."""
        found = steps(self.path)
        return checkpoint_path(self.path, found[-1]) if found else None

    def save(self, model: Model, tokenizer: Tokenizer | None, optimizer: Optimizer, state: dict[str, Any]) -> Path:
        """Writes the checkpoint of state["step"], then removes all others but the one of state["best_step"]."""
        with (self.path / METRICS).open("ab") as log:
            os.fsync(log.fileno())  # the log must not be behind the checkpoint, whatever happens to the machine
        path = checkpoint_path(self.path, state["step"])
        with files.complete_directory(path) as directory:
            native.write_model(directory, model, tokenizer)
            native.write_training(directory, optimizer, {**state, "lines": self.lines})
        self.keep(state)
        return path

    def keep(self, state: dict[str, Any]) -> None:
        """Removes all checkpoints but the one of this state and its best."""
        for step in steps(self.path):
            if step not in (state["step"], state["best_step"]):
                shutil.rmtree(checkpoint_path(self.path, step))


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))
