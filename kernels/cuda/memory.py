"""Fresh arrays on the device of another: CuPy's pool hands out what was used before, NumPy serves the emulator."""

from __future__ import annotations

import math

import numpy as np

from .device import array_module, cupy


def empty(like, shape, dtype=None):
    return fresh("empty_like", like, shape, dtype)


def zeros(like, shape, dtype=None):
    return fresh("zeros_like", like, shape, dtype)


def fresh(function, like, shape, dtype):
    """Raises MemoryError where there is no room: for how much, what is free, what to do."""
    module = array_module(like)
    try:
        return getattr(module, function)(like, dtype, "C", shape=shape)
    except MemoryError as error:  # CuPy's own is one
        size = math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype or like.dtype).itemsize
        raise MemoryError(
            f"no room for an array of {size / 2**20:,.0f} MiB{'' if module is np else free()}: lower the batch size or the "
            "length of sequences, or recompute activations (--recompute)"
        ) from error


def free():
    """What the GPU has left, in words."""
    rest, total = cupy().cuda.runtime.memGetInfo()
    return f" on the GPU, where {rest / 2**20:,.0f} of {total / 2**20:,.0f} MiB are free"
