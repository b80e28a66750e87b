"""What a training shows on the terminal: a bar that moves, and a line for each evaluation.

Where the output is no terminal but a file or a pipe, the bar becomes a line every few seconds.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from ..kernels import compiling
from ..layers.quantized import Packed
from ..models import Model
from .final import Tested
from .trainer import Trainer, Watcher

SECONDS_BETWEEN_LINES = 10.0  # where there is no bar
SHORTEST_BAR = 8  # columns of the terminal
MOST_LINES = 6  # of a sample of dialogues or pairs
SMOOTHING = 0.95  # of what the bar shows: a running mean of about twenty steps


class TimeLeft(ProgressColumn):
    """The time that is left at the mean speed of this session, evaluations included."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text("-:--:-- left" if left is None else f"{clock(left)} left", style="cyan", no_wrap=True)


class Terminal(Watcher):
    """Shows a training with rich."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False)
        self.bar = Progress(
            TextColumn("step {task.completed:,}/{task.total:,}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            TimeLeft(table_column=Column(no_wrap=True, min_width=len("0:00:00 left"))),
            console=self.console,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self._task = self.bar.add_task("starting", total=None, left=None)
        self._shown = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        with suppress(ValueError):
            compiling.listeners.remove(self._compiling)
        self.bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text, style="dim", markup=False, soft_wrap=not self.console.is_terminal)

    def begun(self, trainer: Trainer) -> None:
        config, model = trainer.config, trainer.model
        self.total, self.first = config.steps, trainer.step
        self.batches = f"{config.batch_size} x {config.accumulate}" if config.accumulate > 1 else f"{config.batch_size}"
        self.say(f"{size_of(model)}, {config.steps:,} steps of {self.batches} sequences")
        compiling.listeners.append(self._compiling)
        self.bar.update(self._task, total=config.steps, completed=trainer.step)
        self.mean: dict[str, float] = {}
        self.began: float | None = None  # after the first step, in which the kernels may have to be compiled

    def _compiling(self) -> None:
        self.say("compiling the kernels, which this machine uses for the first time: a minute or less, once")
        self.bar.update(self._task, description="compiling the kernels")

    def measured(self, record: dict[str, Any]) -> tuple[list[str], float | None]:
        """What is shown of a step, the most important first; and the seconds that are left, if they are known."""
        for name in ("loss", "grad_norm", "tokens_per_second"):
            before = self.mean.get(name, record[name])
            self.mean[name] = SMOOTHING * before + (1 - SMOOTHING) * record[name]
        shown = [
            f"loss {self.mean['loss']:.3f}",
            f"{self.mean['tokens_per_second']:,.0f} tokens/s",
            f"lr {record['lr']:.1e}",
            f"|g| {self.mean['grad_norm']:.2f}",
            f"{clock(record['seconds'])} spent",
        ]
        return shown, self._time_left(record["step"])

    def trained(self, record: dict[str, Any]) -> None:
        parts, left = self.measured(record)
        room = self.console.width - len(f"step {self.total:,}/{self.total:,}") - len("-:--:-- left") - SHORTEST_BAR - 4
        self.bar.update(self._task, completed=record["step"], description=fitted(parts, room), left=left)
        line = "  ".join(parts[:4])
        now = time.monotonic()
        if not self.console.is_terminal and (now - self._shown > SECONDS_BETWEEN_LINES or record["step"] == self.first + 1):
            self._shown = now
            left_text = f"  {clock(left)} left" if left is not None else ""
            self.console.print(f"step {record['step']:,}/{self.total:,}  {line}{left_text}", soft_wrap=True)

    def _time_left(self, step: int) -> float | None:
        now = time.monotonic()
        if self.began is None:
            self.began, self.first_timed = now, step
            return None
        return (now - self.began) / (step - self.first_timed) * (self.total - step)

    def evaluated(self, record: dict[str, Any]) -> None:
        measured = "  ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in record.items() if name.startswith("val_")
        )
        loss = f"loss {self.mean['loss']:.4f}  " if self.mean else ""
        self.console.print(
            f"[bold]step {record['step']:,}[/]  {loss}[bold green]{measured}[/]  after {clock(record['seconds'])}",
            soft_wrap=True,
        )
        if record.get("sample"):
            self.console.print(Text(excerpt(record["sample"]), style="dim"), soft_wrap=True)

    def tested(self, result: Tested) -> None:
        self.console.print(Text(str(result), style="bold green"), soft_wrap=True)


def fitted(parts: list[str], room: int) -> str:
    """As many of the first parts as fit into a row of `room` columns."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if len(longer) > room:
            break
        line = longer
    return line


def excerpt(sample: str) -> str:
    """The beginning of a sample: three lines of a text, or a few whole dialogues or pairs.

    A dialogue begins at a line with "> ", a pair at the line before one with "  -> ".
    """
    lines = list(filter(str.strip, sample.splitlines()))
    following = [*lines[1:], ""]
    begin = [i for i, line in enumerate(lines) if line.startswith("> ") or following[i].startswith("  -> ")]
    if begin[:1] != [0]:
        return "\n".join(lines[:3])
    ends = [*begin[1:], len(lines)]
    return "\n".join(lines[: max((end for end in ends if end <= MOST_LINES), default=ends[0])])


def size_of(model: Model) -> str:
    """The name of the model, its parameters, and how many of them are trained where some are frozen."""
    matrices = (getattr(layer, "w", None) for layer in model.layers())
    packed = sum(math.prod(w.shape) for w in matrices if isinstance(w, Packed))
    total = sum(p.data.size for p in model.parameters()) + packed
    trained = f", of which {model.n_parameters:,} are trained" if total != model.n_parameters else ""
    return f"{type(model).__name__} with {total:,} parameters{trained}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
