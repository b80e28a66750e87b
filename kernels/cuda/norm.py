"""Layer and RMS normalisation, the sum with the residual and its dropout taken on the way (norm.cu)."""

from __future__ import annotations

import numpy as np

from .arrays import BLOCK, LONG_ROW, WARP, accumulator, like, per_row, row_layout, rows, settle, vector, wide
from .columns import add_parts, parts_of
from .dropout import mask_arguments
from .memory import empty
from .module import UNASKED, Kernels

NAMES = (f"norm_{way}<T, {centred}>" for way in ("forward", "backward") for centred in ("true", "false"))
KERNELS = Kernels("norm.cu", *NAMES, "add_parts<T>")


def norm_forward(x, r, w, b, eps, centred, dropout=0.0, seed=0):
    """s, y, mean, rstd; s is x without a residual, and mean None where rows are not centred."""
    x_rows, y, rstd = rows(x), empty(x, x.shape), empty(x, x.shape[:-1], wide(x))
    mean = empty(x, x.shape[:-1], wide(x)) if centred else None
    s, residual, sums = x, None, None
    if r is not None:
        s, residual = empty(x, x.shape), rows(like(r, x, "r"))
        sums = s
    name = f"norm_forward<T, {'true' if centred else 'false'}>"
    inputs = x_rows, residual, vector(w, x, "w"), vector(b, x, "b"), float(eps)
    outputs = sums, y, mean, rstd
    KERNELS.launch(name, x, *row_layout(x_rows), *inputs, *outputs, *x_rows.shape, *mask_arguments(dropout, seed))
    return s, y, mean, rstd


def norm_backward(dy, ds, s, w, mean, rstd, dw, db, centred, dropout=0.0, seed=0):
    s_rows, dx = rows(s), empty(s, s.shape)
    dr = empty(s, s.shape) if dropout else None
    n, C = s_rows.shape
    dw_sums, db_sums = accumulator(dw, (C,), s, "dw"), accumulator(db, (C,), s, "db")
    threads, together = backward_block(C, np.dtype(wide(s)).itemsize)
    parts = parts_of(-(-n // together))
    sums = empty(s, (parts, 2 * C), wide(s))
    inputs = rows(like(dy, s, "dy")), None if ds is None else rows(like(ds, s, "ds")), s_rows, vector(w, s, "w")
    means = None if mean is None else per_row(mean, s, "mean")
    name = f"norm_backward<T, {'true' if centred else 'false'}>"
    outputs = means, per_row(rstd, s, "rstd"), dx, dr, sums
    shared, mask = together * 2 * C * sums.itemsize, mask_arguments(dropout, seed)
    KERNELS.launch(name, s, parts, (threads, together), *inputs, *outputs, n, C, *mask, shared=shared)
    for total, whole, first in ((dw_sums, dw, 0), (db_sums, db, C)):
        if total is not None:
            add_parts(KERNELS, s, sums, total, first)
            settle(whole, total)
    return dx, dx if dr is None else dr


def backward_block(C, width):
    """Threads of a row, and rows at a time, that shared memory has room for: for each 2 C numbers of `width` bytes."""
    return (BLOCK, 1) if C > LONG_ROW else (WARP, max(1, min(BLOCK // WARP, UNASKED // max(2 * C * width, 1))))


def layernorm_forward(x, w, b=None, eps=1e-5):
    """y = n * w + b with n = (x - mean) * rstd.  x (N, C), w (C,), b (C,) or None -> y (N, C), mean (N,), rstd (N,)."""
    return norm_forward(x, None, w, b, eps, True)[1:]


def layernorm_backward(dy, x, w, mean, rstd, dw=None, db=None):
    """dx (N, C) = rstd (dn - mean_C(dn) - n mean_C(dn n)), dn = dy w; adds into dw and db (C,)."""
    return norm_backward(dy, None, x, w, mean, rstd, dw, db, True)[0]


def add_layernorm_forward(x, r, w, b=None, eps=1e-5, dropout=0.0, seed=0):
    """s = x + drop(r), y = layernorm(s).  x, r (N, C); r None: s is x -> s (N, C), y (N, C), mean (N,), rstd (N,)."""
    return norm_forward(x, r, w, b, eps, True, dropout, seed)


def add_layernorm_backward(dy, ds, s, w, mean, rstd, dw=None, db=None, dropout=0.0, seed=0):
    """dx, dr (N, C); adds into dw and db (C,).  dx = ds + layernorm_backward(dy), dr = drop(dx)."""
    return norm_backward(dy, ds, s, w, mean, rstd, dw, db, True, dropout, seed)


def rmsnorm_forward(x, w, eps=1e-6):
    """y = x * rstd * w with rstd = 1 / sqrt(mean_C(x^2) + eps).  x (N, C), w (C,) -> y (N, C), rstd (N,)."""
    _, y, _, rstd = norm_forward(x, None, w, None, eps, False)
    return y, rstd


def rmsnorm_backward(dy, x, w, rstd, dw=None):
    """dx (N, C) = rstd (dn - n mean_C(dn n)), n = x rstd, dn = dy w; adds into dw (C,)."""
    return norm_backward(dy, None, x, w, None, rstd, dw, None, False)[0]


def add_rmsnorm_forward(x, r, w, eps=1e-6, dropout=0.0, seed=0):
    """s = x + drop(r), y = rmsnorm(s).  x, r (N, C); r None: s is x -> s (N, C), y (N, C), rstd (N,)."""
    s, y, _, rstd = norm_forward(x, r, w, None, eps, False, dropout, seed)
    return s, y, rstd


def add_rmsnorm_backward(dy, ds, s, w, rstd, dw=None, dropout=0.0, seed=0):
    """dx, dr (N, C); adds into dw (C,).  dx = ds + rmsnorm_backward(dy), dr = drop(dx)."""
    return norm_backward(dy, ds, s, w, None, rstd, dw, None, False, dropout, seed)
