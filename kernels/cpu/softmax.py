"""Softmax: a row's maximum, its exponentials and their sum while the row is in the first cache; rows over the threads."""

from __future__ import annotations

import numpy as np

from . import vmath
from .arrays import divided, like, parts_of, plain, rows
from .jit import jit
from .memory import empty

NO_MASK = np.empty((1, 0), np.bool_)


@jit
def copy_seen(x, mask, y):
    """y = x where the mask is True, else -inf. A mask of nothing hides nothing."""
    if mask.size:
        hidden = x.dtype.type(-np.inf)
        for j in range(y.size):
            y[j] = x[j] if mask[j] else hidden
    else:
        for j in range(y.size):
            y[j] = x[j]


@jit
def normalise(y):
    """y = softmax(y), in place: one array that is read and written keeps the loops free of checks for overlap."""
    top, total = y.dtype.type(-np.inf), y.dtype.type(0)
    for j in range(y.size):
        top = vmath.maximum(top, y[j])
    if top == -np.inf:
        top = total  # nothing may be seen: the exponentials are 0, not NaN
    for j in range(y.size):
        y[j] = vmath.exp(y[j] - top)
        total += y[j]
    if total != 0:
        factor = y.dtype.type(1) / total
        for j in range(y.size):
            y[j] *= factor


@divided
def softmax_rows(start, stop, x, mask, causal, T, y):
    """Row i has the mask's row i modulo the number of those."""
    S = x.shape[1]
    for i in range(start, stop):
        seen = min(S, max(0, S - T + i % T + 1)) if causal else S
        copy_seen(x[i, :seen], mask[i % len(mask), :seen] if mask.size else mask[0, :0], y[i, :seen])
        normalise(y[i, :seen])
        y[i, seen:] = x.dtype.type(0)


@divided
def softmax_backward_rows(start, stop, dy, y, dx):
    for i in range(start, stop):
        mean = y.dtype.type(0)
        for j in range(y.shape[1]):
            mean += dy[i, j] * y[i, j]
        for j in range(y.shape[1]):
            dx[i, j] = y[i, j] * (dy[i, j] - mean)


def mask_rows(mask, x):
    """The mask, broadcast to the last axes of x that it has: its rows come again and again."""
    fits = mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(mask.shape[::-1], x.shape[::-1]))
    if mask.dtype != np.bool_ or not fits:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}; it must be bool, and broadcast to x {x.shape}")
    return plain(np.broadcast_to(mask, x.shape[x.ndim - max(mask.ndim, 2) :])).reshape(-1, x.shape[-1])


def softmax_forward(x, mask=None, causal=False):
    if causal and x.ndim < 2:
        raise ValueError(f"x is {x.shape}; a causal softmax needs (..., T, S)")
    T, y = x.shape[-2] if causal else 1, empty(x, x.shape)
    mask = NO_MASK if mask is None else mask_rows(mask, x)
    x_rows = rows(x)
    softmax_rows(len(x_rows), parts_of(x.size), x_rows, mask, causal, T, rows(y))
    return y


def softmax_backward(dp, p):
    dx, p_rows = empty(p, p.shape), rows(p)
    softmax_backward_rows(len(p_rows), parts_of(p.size), rows(like(dp, p, "dp")), p_rows, rows(dx))
    return dx
