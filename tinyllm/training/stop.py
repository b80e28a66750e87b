"""Ctrl-C and SIGTERM: training stops where it can be resumed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any, Self

from .data import Batch


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; the state is saved if there is a run to save it in."""


class Stop:
    """Within the block Ctrl-C and SIGTERM only set `asked`, for the loop to end where it can be resumed; the second
    Ctrl-C interrupts at once. In a thread, where Python allows no signal handlers, nothing changes."""

    def __init__(self) -> None:
        self.asked = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(OSError):  # os.write alone is safe in a signal handler
            os.write(2, b"\nstopping at the end of this step; Ctrl-C again stops at once\n")

    def guard(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches, until a stop is asked for."""
        for batch in batches:
            yield batch
            if self.asked:
                return
