"""Fresh arrays on the device of another: CuPy's pool hands out what was used before, NumPy serves the emulator."""

from __future__ import annotations

from .device import array_module


def empty(like, shape, dtype=None):
    return array_module(like).empty_like(like, dtype, "C", shape=shape)


def zeros(like, shape, dtype=None):
    return array_module(like).zeros_like(like, dtype, "C", shape=shape)
