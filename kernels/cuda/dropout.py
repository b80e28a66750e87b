"""Dropout: the reference's mask, bit for bit (dropout.cu)."""

from __future__ import annotations

import numpy as np

from .arrays import row_layout, rows
from .memory import empty
from .module import Kernels

KERNELS = Kernels("dropout.cu", "dropout<T>")


def dropout_forward(x, p, seed):
    """y = x / (1 - p) where the mask of (seed, p) keeps, else 0.  x (N, C), 0 <= p < 1, seed a 64-bit int -> y (N, C)."""
    x_rows, y = rows(x), empty(x, x.shape)
    KERNELS.launch("dropout<T>", x, *row_layout(x_rows), x_rows, y, *x_rows.shape, *mask_arguments(p, seed))
    return y


def mask_arguments(p, seed):
    """low, high, threshold of dropout.cuh's mask, and the factor of what stays."""
    words = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, int(min(p * 2**32, 2**32 - 1))
    return *map(np.uint32, words), float(1 / (1 - p))


def dropout_backward(dy, p, seed):
    """dx = dy / (1 - p) where the mask keeps, else 0: the map is linear and diagonal, so it is its own transpose."""
    return dropout_forward(dy, p, seed)
