"""Positions: as embedding.py, with the sum on the way."""

from __future__ import annotations

import numpy as np

from .arrays import checked, indices, row_layout, rows
from .embedding import KERNELS, scatter
from .memory import empty


def position_forward(x, w, positions):
    """y = x + w[positions].  x (B, T, C), w (T_max, C), positions (T,) or (B, T) ints -> y (B, T, C)."""
    if w.shape[1:] != x.shape[2:] or w.dtype != x.dtype:
        raise ValueError(f"w is {w.dtype} {w.shape}; x is {x.dtype} {x.shape}: they need the same channels")
    index = indices(broadcastable(positions, x), len(w), "positions", x)
    x_rows, y = rows(x), empty(x, x.shape)
    KERNELS.launch("gather_rows<T>", x, *row_layout(x_rows), x_rows, index, rows(w), y, *x_rows.shape, len(index))
    return y


def position_backward(dy, positions, dw):
    """Adds into dw (T_max, C): each row of dy onto its position's row. (dx is dy itself.)"""
    index = checked(broadcastable(positions, dy), len(dw), "positions")
    n = dy.size // dy.shape[-1]
    scatter(dy, np.tile(index, n // max(len(index), 1)), dw)


def broadcastable(positions, x):
    """Positions (T,), the same for each row of the batch, or (B, T)."""
    shape = positions.shape[1:] if positions.shape[:-1] == (1,) else positions.shape
    if shape not in (x.shape[-2:-1], x.shape[:-1]):
        raise ValueError(f"positions are {positions.shape}; x {x.shape} needs {x.shape[-2:-1]} or {x.shape[:-1]} of them")
    return positions
