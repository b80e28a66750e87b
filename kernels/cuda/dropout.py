"""Dropout: the reference's mask, bit for bit (dropout.cu)."""

from __future__ import annotations

import numpy as np

from .arrays import row_layout, rows
from .memory import empty
from .module import Kernels

KERNELS = Kernels("dropout.cu", "dropout<T>")


def mask_arguments(rate, seed):
    """low, high, threshold of dropout.cuh's mask, and the factor of what stays."""
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of dropout is {rate}; it must be in [0, 1)")
    words = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, int(min(rate * 2**32, 2**32 - 1))
    return *map(np.uint32, words), float(1 / (1 - rate))


def dropout_forward(x, rate, seed):
    """y = x / (1 - rate) where the mask of (seed, rate) keeps, else 0.  x (N, C) -> y (N, C)."""
    x_rows, y = rows(x), empty(x, x.shape)
    KERNELS.launch("dropout<T>", x, *row_layout(x_rows), x_rows, y, *x_rows.shape, *mask_arguments(rate, seed))
    return y


def dropout_backward(dy, rate, seed):
    """dx = dy / (1 - rate) where the mask keeps, else 0: the map is linear and diagonal, so it is its own transpose."""
    return dropout_forward(dy, rate, seed)
