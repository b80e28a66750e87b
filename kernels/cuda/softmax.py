"""Softmax: a warp or a block for each row (softmax.cu)."""

from __future__ import annotations

import numpy as np

from .arrays import BLOCK, like, plain, row_layout, rows
from .device import to_device
from .memory import empty
from .module import Kernels

KERNELS = Kernels("softmax.cu", "softmax_forward<T>", "softmax_backward<T>")
LONG = 1 << 14  # numbers: from here on large blocks work on so few rows at a time that the second reading finds them cached


def mask_rows(mask, x):
    """The mask, broadcast to the last axes of x that it has: its rows come again and again."""
    fits = mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(mask.shape[::-1], x.shape[::-1]))
    if mask.dtype != bool or not fits:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}; it must be bool, and broadcast to x {x.shape}")
    shape = x.shape[x.ndim - max(mask.ndim, 2) :]
    return to_device(plain(np.broadcast_to(mask, shape)).reshape(-1, x.shape[-1]), x)


def softmax_forward(x, mask=None, causal=False):
    """p = exp(x) / sum_S exp(x).  x (..., T, S); mask bool (True: allowed), of x's shape or broadcast to it -> p.

    A row in which nothing is allowed gives zeros.
    """
    if causal and x.ndim < 2:
        raise ValueError(f"x is {x.shape}; a causal softmax needs (..., T, S)")
    x_rows, y, T = rows(x), empty(x, x.shape), x.shape[-2] if causal else 1
    mask = None if mask is None else mask_rows(mask, x)
    seen = x_rows, mask, y, *x_rows.shape, 1 if mask is None else len(mask), bool(causal), T
    layout = row_layout(x_rows, 4 * BLOCK if x.shape[-1] >= LONG else BLOCK)
    KERNELS.launch("softmax_forward<T>", x, *layout, *seen)
    return y


def softmax_backward(dp, p):
    """dx = p (dp - sum_S(dp p)): subtract the row's weighted mean of dp, then multiply by p."""
    dp_rows, p_rows, dx = rows(like(dp, p, "dp")), rows(p), empty(p, p.shape)
    KERNELS.launch("softmax_backward<T>", p, *row_layout(p_rows), dp_rows, p_rows, dx, *p_rows.shape)
    return dx
