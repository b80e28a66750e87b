"""Positions: as embedding.py, with the sum on the way."""

from __future__ import annotations

from .arrays import divided, indices, parts_of, rows
from .embedding import scatter
from .memory import empty


@divided
def add_gathered_rows(start, stop, x, index, w, y):
    """y = x + w[index], the index taken again and again until x ends."""
    for i in range(start, stop):
        x_row, w_row, y_row = x[i], w[index[i % len(index)]], y[i]
        for j in range(y_row.size):
            y_row[j] = x_row[j] + w_row[j]


def position_forward(x, w, positions):
    y = empty(x, x.shape)
    if w.shape[1:] != x.shape[2:] or w.dtype != x.dtype:
        raise ValueError(f"w is {w.dtype} {w.shape}; x is {x.dtype} {x.shape}: they need the same channels")
    index = indices(broadcastable(positions, x), len(w), "positions")
    add_gathered_rows(x.size // x.shape[-1], parts_of(x.size), rows(x), index, rows(w), rows(y))
    return y


def position_backward(dy, positions, dw):
    scatter(dy, broadcastable(positions, dy), dw, "positions")


def broadcastable(positions, x):
    """Positions (T,), the same for each row of the batch, or (B, T)."""
    shape = positions.shape[1:] if positions.shape[:-1] == (1,) else positions.shape
    if shape not in (x.shape[-2:-1], x.shape[:-1]):
        raise ValueError(f"positions are {positions.shape}; x {x.shape} needs {x.shape[-2:-1]} or {x.shape[:-1]} of them")
    return positions
