"""Notifies listeners that kernels are being compiled, which takes up to a minute at the first use on a machine."""

from __future__ import annotations

from collections.abc import Callable

listeners: list[Callable[[], None]] = []  # each is called once, when the first kernel is compiled after it was added


def announce() -> None:
    """Call all listeners, and forget them."""
    while listeners:
        try:
            listener = listeners.pop()
        except IndexError:  # another thread was faster
            return
        listener()
