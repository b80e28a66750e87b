"""What a training shows on the terminal: a bar that moves, and a line for each evaluation.

Where the output is no terminal but a file or a pipe, the bar becomes a line every few seconds.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..kernels import compiling
from .trainer import Trainer, Watcher

SECONDS_BETWEEN_LINES = 10.0  # where there is no bar
SMOOTHING = 0.95  # of what the bar shows: a running mean of about twenty steps


class TimeLeft(ProgressColumn):
    """The time that is left at the mean speed of this session, evaluations included."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text("-:--:-- left" if left is None else f"{clock(left)} left", style="cyan")


class Terminal(Watcher):
    """Shows a training with rich."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False)
        self.bar = Progress(
            TextColumn("step {task.completed:,}/{task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeLeft(),
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
        self.console.print(text, style="dim", markup=False, soft_wrap=True)

    def begun(self, trainer: Trainer) -> None:
        config, model = trainer.config, trainer.model
        self.total, self.first = config.steps, trainer.step
        self.batches = f"{config.batch_size} x {config.accumulate}" if config.accumulate > 1 else f"{config.batch_size}"
        name = f"{type(model).__name__} with {model.n_parameters:,} parameters"
        self.say(f"{name}, {config.steps:,} steps of {self.batches} sequences")
        compiling.listeners.append(self._compiling)
        self.bar.update(self._task, total=config.steps, completed=trainer.step)
        self.mean: dict[str, float] = {}
        self.began: float | None = None  # after the first step, in which the kernels may have to be compiled

    def _compiling(self) -> None:
        self.say("compiling the kernels, which this machine uses for the first time: a minute or less, once")
        self.bar.update(self._task, description="compiling the kernels")

    def trained(self, record: dict[str, Any]) -> None:
        for name in ("loss", "grad_norm", "tokens_per_second"):
            before = self.mean.get(name, record[name])
            self.mean[name] = SMOOTHING * before + (1 - SMOOTHING) * record[name]
        left = self._time_left(record["step"])
        line = (
            f"loss {self.mean['loss']:.3f}  lr {record['lr']:.1e}  |g| {self.mean['grad_norm']:.2f}  "
            f"{self.mean['tokens_per_second']:,.0f} tokens/s"
        )
        self.bar.update(self._task, completed=record["step"], description=line, left=left)
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
            first_lines = "\n".join(list(filter(str.strip, record["sample"].splitlines()))[:3])
            self.console.print(Text(first_lines, style="dim"), soft_wrap=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
