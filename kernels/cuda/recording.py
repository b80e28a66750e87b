"""What is going on while a CUDA graph (graph.py) is recorded: work is written down and not done.

On a GPU the driver writes it down; the emulator does it here. There and here, whoever then reads an array of the GPU, brings
one there, or compiles a kernel, would wait for work that is not done, or do once what each launch should do: `refuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Recording:
    """held: arrays that the work reads and nobody else may keep. work: in the emulator, what each launch does, in order."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.work: list[Callable[[], Any]] = []

    def launch(self) -> None:
        for do in self.work:
            do()


current: Recording | None = None


@contextmanager
def recorded() -> Iterator[Recording]:
    """Within the block, a graph is recorded."""
    global current
    refuse("another is begun")
    current = Recording()
    try:
        yield current
    finally:
        current = None


def refuse(what: str) -> None:
    """Raises RuntimeError while a graph is recorded."""
    if current is not None:
        raise RuntimeError(f"{what} while a CUDA graph is recorded: that belongs before it, or behind it")


# In the emulator -------------------------------------------------------------------------------------------------------


def do(work: Callable[[], Any]) -> None:
    """Does it; or writes it down."""
    if current is None:
        work()
    else:
        current.work.append(work)


def made(compute: Callable[[], Any]) -> Any:
    """The array that `compute` returns; recorded, one that each launch computes the numbers of."""
    if current is None:
        return compute()
    with np.errstate(all="ignore"):  # of numbers that are not there yet
        result, again = compute(), compute()
    if not isinstance(result, np.ndarray):
        refuse("a number is taken out of an array")
    target = result.view(np.ndarray)
    if not np.may_share_memory(target, again.view(np.ndarray)):  # or it is a view
        current.work.append(lambda: np.copyto(target, compute().view(np.ndarray)))
    return result
