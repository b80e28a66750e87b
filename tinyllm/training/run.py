"""The directory of a training run: what was asked for, how it went, and checkpoints to go on from.

    run.json             the configuration
    metrics.jsonl        a line for each step and for each evaluation, with a sample of what the model writes
    loss.png             the curve
    test.json            the best model's measures on the test part, if there is one (final.py)
    checkpoints/step-N/  the last one and the best one (checkpoints/native.py lists the files)

The newest checkpoint is always complete, even if the process is killed. A resumed run writes the log's later lines again.
One process at a time trains there. It holds a lock on the file .lock, which the system releases when the process ends. The
same file tells it whether the directory is still the one that it began in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..checkpoints import files, native
from ..checkpoints.files import CheckpointError
from ..checkpoints.runs import RUN, checkpoint_path, is_run, steps
from ..checkpoints.state import read_as
from ..files import atomic_file, naming
from ..models import Model
from ..optim import Average, Optimizer
from ..tokenizers import Tokenizer

METRICS, LOCK = "metrics.jsonl", ".lock"


@dataclass
class Configuration:
    """The fields of run.json."""

    kind: str | None  # of model; None if the run was begun from Python with its own model and data
    task_name: str | None = None
    preset: str | None = None
    init: str | None = None  # the directory of the model that the run began with
    train: dict[str, Any] = field(default_factory=dict)  # of TrainConfig
    task: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)  # fields of the model's configuration that were given
    lora: dict[str, Any] = field(default_factory=dict)


def check_free(path: str | Path) -> None:
    """CheckpointError where there is something already, apart from what a kill leaves before a run has begun."""
    path = Path(path)
    if is_run(path):
        raise CheckpointError(
            f"{path} is a run already: go on with `tinyllm train --resume {path}`, or choose another name for this one"
        )
    if path.exists() and (not path.is_dir() or not all(map(_before_the_beginning, path.iterdir()))):
        raise CheckpointError(f"{path} exists and is no training run: choose another name")


def _before_the_beginning(path: Path) -> bool:
    """Whether a file is one that a run makes before run.json has its name."""
    return path.name == LOCK or re.fullmatch(rf"\.{RUN}\..*\.tmp", path.name) is not None


class Run:
    """A run's directory, open for training."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.lines = 0  # of the log
        self._lock = FileLock(self.path / LOCK, timeout=0)
        self._held: int | None = None  # the lock's file while we hold it

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any]) -> Run:
        """A new run, in a directory that holds nothing. Of two processes that create the same one, one is refused."""
        check_free(path)
        run = cls(path)
        run.path.mkdir(parents=True, exist_ok=True)
        with run.alone():
            check_free(path)  # again: another process may have been here before we had the lock
            for left in run.path.glob(f".{RUN}.*.tmp"):  # by a kill
                left.unlink()
            try:
                run.write_config(config)
            except OSError as error:
                raise OSError(
                    f"{error.filename or run.path}: {error.strerror or error}. The run has not begun, and nothing is saved: "
                    "put this right, and begin it again"
                ) from error
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run that exists. FileNotFoundError where there is none, CheckpointError where another process trains in it."""
        if not is_run(Path(path)):
            raise FileNotFoundError(f"{path} is no training run, it has no {RUN}: {_without_config(Path(path))}")
        run = cls(path)
        with run.alone():
            for left in run.path.glob("checkpoints/.step-*"):  # by a kill
                if name := re.fullmatch(r"\.(step-[0-9]{8,})\.(tmp|before)", left.name):
                    files.put_back(left.with_name(name[1]))
        return run

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other process trains here. CheckpointError where one does already."""
        if self._held is not None:  # a block within this block
            yield
            return
        try:
            self._lock.acquire()
        except Timeout:
            raise CheckpointError(f"another process is training in {self.path}: wait until it ends, or end it") from None
        try:
            self._held = os.open(self.path / LOCK, os.O_RDONLY)
            yield
        finally:
            if self._held is not None:
                os.close(self._held)
                self._held = None
            with suppress(OSError):  # the directory may be gone
                self._lock.release()

    def check_there(self) -> None:
        """FileNotFoundError where the directory has been removed while we train, or another run has taken its place."""
        try:
            if is_run(self.path) and (
                self._held is None or os.path.samestat(os.fstat(self._held), os.stat(self.path / LOCK))
            ):
                return
        except FileNotFoundError:
            pass
        raise FileNotFoundError(_removed(self.path))

    @property
    def config(self) -> dict[str, Any]:
        """What run.json says. CheckpointError names the field that is not of its type."""
        return vars(read_as(Configuration, self.path / RUN))

    def write_config(self, config: dict[str, Any]) -> None:
        _write(self.path / RUN, files.json_text(config))

    # The log -----------------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of the log. A line that a kill, a full disk or a damaged file system spoiled is left out."""
        path = self.path / METRICS
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [record for record in map(_record_in, lines) if record is not None]

    def log(self, record: dict[str, Any]) -> None:
        self.check_there()
        path = self.path / METRICS
        with naming(path), path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.lines += 1

    def rewind(self, lines: int) -> int:
        """Cut the log after its first lines, whatever is in them: what came after the checkpoint will come again.

        Returns how many of these lines are lost, if the log has become shorter.
        """
        path = self.path / METRICS
        kept = path.read_bytes().split(b"\n")[:-1][:lines] if path.exists() else []
        with path.open("ab") as file:
            file.truncate(sum(len(line) + 1 for line in kept))  # in place: it works on a full disk
            os.fsync(file.fileno())
        self.lines = len(kept)
        return lines - len(kept)

    # Checkpoints -------------------------------------------------------------------------------------------------------

    def last(self) -> Path | None:
        """The newest checkpoint, or None before the first."""
        found = steps(self.path)
        return checkpoint_path(self.path, found[-1]) if found else None

    def save(
        self,
        model: Model,
        tokenizer: Tokenizer | None,
        optimizer: Optimizer,
        state: dict[str, Any],
        average: Average | None = None,
    ) -> Path:
        """Writes the checkpoint of state["step"], then removes all others but the one of state["best_step"].

        average: of the model's weights; the checkpoint's model has this mean.
        """
        self.check_there()
        with (self.path / METRICS).open("ab") as log:
            os.fsync(log.fileno())  # the log must not be behind the checkpoint, whatever happens to the machine
        path = checkpoint_path(self.path, state["step"])
        with naming(path), files.complete_directory(path) as directory:
            with average.applied() if average else nullcontext():
                native.write_model(directory, model, tokenizer)
            native.write_training(directory, optimizer, {**state, "lines": self.lines}, average)
        self.keep(state)
        return path

    def stopped(self, step: int, error: OSError) -> OSError:
        """The error that ends a training which the system lets down: the file, what is saved, and how to go on."""
        if error.errno is None:  # check_there, or this method, says it already
            return error
        if not is_run(self.path):
            return FileNotFoundError(_removed(self.path))
        what = f"{error.filename or self.path}: {error.strerror or error}"
        if (last := self.last()) is None:
            saved = "No checkpoint is saved yet; afterwards this begins again"
        else:
            saved = f"The checkpoint {last} is whole; afterwards this goes on from there"
        return OSError(f"step {step}: {what}. {saved}: tinyllm train --resume {self.path}")

    def keep(self, state: dict[str, Any]) -> None:
        """Removes all checkpoints but the one of this state and its best."""
        for step in steps(self.path):
            if step not in (state["step"], state["best_step"]):
                shutil.rmtree(checkpoint_path(self.path, step))


def _removed(path: Path) -> str:
    return (
        f"{path} has been removed, renamed or replaced while it was trained, so that training has ended: begin a new run, "
        "or resume the one that was renamed"
    )


def _without_config(path: Path) -> str:
    """What may have happened to a directory without run.json, and what to do."""
    if found := steps(path):
        return f"it was removed; the model is whole, so load it from {checkpoint_path(path, found[-1])}"
    if path.is_dir() and any(path.iterdir()) and all(map(_before_the_beginning, path.iterdir())):
        return "it was stopped before it began; begin it again in the same place"
    return "give the directory named by --out"


def _record_in(line: bytes) -> dict[str, Any] | None:
    """The record in a line of the log; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    numbers = (value for name, value in record.items() if name != "sample")
    whole = all(isinstance(value, (int, float)) for value in numbers) and isinstance(record.get("sample", ""), str)
    return record if whole else None


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))
