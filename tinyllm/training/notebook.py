"""What a training shows in a Jupyter notebook: a bar that moves, and the curve of the loss below it."""

from __future__ import annotations

import html
import io
import sys
import time
from typing import Any

from .plots import plot_loss
from .progress import Terminal, clock
from .trainer import Trainer

SECONDS_BETWEEN_UPDATES = 0.5


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules and "IPython" in sys.modules


class Notebook(Terminal):
    """Shows a training with IPython's display: lines of text as Terminal prints them, a bar, and a curve."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []
        self._bar: Any = None
        self._curve: Any = None
        self._updated = 0.0

    def begun(self, trainer: Trainer) -> None:
        super().begun(trainer)
        self.records = list(trainer.metrics)

    def trained(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        line, left = self.measured(record)
        if (now := time.monotonic()) - self._updated < SECONDS_BETWEEN_UPDATES and record["step"] < self.total:
            return
        self._updated = now
        left_text = "" if left is None else f"{clock(left)} left"
        text = f"step {record['step']:,}/{self.total:,}  {'  '.join(line)}  {left_text}"
        bar = f'<progress value="{record["step"]}" max="{self.total}" style="width: 20em"></progress>'
        self._bar = _displayed(self._bar, "HTML", f"<div>{bar} <code>{html.escape(text)}</code></div>")

    def evaluated(self, record: dict[str, Any]) -> None:
        super().evaluated(record)
        self.records.append(record)
        picture = io.BytesIO()
        try:
            plot_loss(picture, self.records)
        except ModuleNotFoundError:
            return  # the terminal's end says what to install
        self._curve = _displayed(self._curve, "Image", picture.getvalue())


def _displayed(handle: Any, kind: str, data: Any) -> Any:
    """Show something below the cell, or in the place of what was shown before -> the handle to replace it by."""
    import IPython.display as display  # here, because only a notebook has it

    shown = getattr(display, kind)(data)
    if handle is None:
        return display.display(shown, display_id=True)
    handle.update(shown)
    return handle
