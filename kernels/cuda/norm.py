"""Layer and RMS normalisation, the branch added in the same pass (norm.cu)."""

from __future__ import annotations

import numpy as np

from .arrays import BLOCK, LONG_ROW, WARP, accumulator, like, per_row, row_layout, rows, settle, vector, wide
from .columns import add_parts, parts_of
from .memory import empty
from .module import UNASKED, Kernels

NAMES = (f"norm_{way}<T, {centred}>" for way in ("forward", "backward") for centred in ("true", "false"))
KERNELS = Kernels("norm.cu", *NAMES, "add_parts<T>")


def norm_forward(x, f, w, b, eps, centred):
    """x + f (f None: x itself), y, mean (None if rows are not centred), rstd."""
    x_rows, y, rstd = rows(x), empty(x, x.shape), empty(x, x.shape[:-1], wide(x))
    mean = empty(x, x.shape[:-1], wide(x)) if centred else None
    total, branch, sums = x, None, None
    if f is not None:
        total, branch = empty(x, x.shape), rows(like(f, x, "f"))
        sums = total
    name = f"norm_forward<T, {'true' if centred else 'false'}>"
    statistics = None if mean is None else mean.reshape(-1), rstd.reshape(-1)
    inputs = x_rows, branch, vector(w, x, "w"), vector(b, x, "b"), float(eps)
    KERNELS.launch(name, x, *row_layout(x_rows), *inputs, sums, y, *statistics, *x_rows.shape)
    return total, y, mean, rstd


def norm_backward(dy, of_sum, x, w, mean, rstd, dw, db, centred):
    """of_sum: the gradient that arrives at x beside y's, or None."""
    x_rows, dx = rows(x), empty(x, x.shape)
    n, C = x_rows.shape
    dw_sums, db_sums = accumulator(dw, (C,), x, "dw"), accumulator(db, (C,), x, "db")
    threads, together = backward_block(C, np.dtype(wide(x)).itemsize)
    parts = parts_of(-(-n // together))
    sums = empty(x, (parts, 2 * C), wide(x))
    inputs = rows(like(dy, x, "dy")), None if of_sum is None else rows(like(of_sum, x, "dx")), x_rows, vector(w, x, "w")
    means = None if mean is None else per_row(mean, x, "mean")
    name = f"norm_backward<T, {'true' if centred else 'false'}>"
    outputs = means, per_row(rstd, x, "rstd"), dx, sums
    shared = together * 2 * C * sums.itemsize
    KERNELS.launch(name, x, parts, (threads, together), *inputs, *outputs, n, C, shared=shared)
    for total, whole, first in ((dw_sums, dw, 0), (db_sums, db, C)):
        if total is not None:
            add_parts(KERNELS, x, sums, total, first)
            settle(whole, total)
    return dx


def backward_block(C, width):
    """Threads of a row, and rows at a time, that shared memory has room for: for each 2 C numbers of `width` bytes."""
    return (BLOCK, 1) if C > LONG_ROW else (WARP, max(1, min(BLOCK // WARP, UNASKED // max(2 * C * width, 1))))


def layernorm_forward(x, w, b=None, eps=1e-5):
    """y = n * w + b with n = (x - mean) * rstd.  x (N, C), w (C,), b (C,) or None -> y (N, C), mean (N,), rstd (N,)."""
    return norm_forward(x, None, w, b, eps, True)[1:]


def layernorm_backward(dy, x, w, mean, rstd, dw=None, db=None):
    """dx (N, C) = rstd (dn - mean_C(dn) - n mean_C(dn n)), dn = dy w; adds into dw and db (C,)."""
    return norm_backward(dy, None, x, w, mean, rstd, dw, db, True)


def add_layernorm_forward(x, f, w, b=None, eps=1e-5):
    """x' = x + f, y = layernorm(x').  x, f (N, C), w (C,), b (C,) or None -> x' (N, C), y (N, C), mean (N,), rstd (N,)."""
    return norm_forward(x, f, w, b, eps, True)


def add_layernorm_backward(dy, dx, x, w, mean, rstd, dw=None, db=None):
    """dx + layernorm_backward(dy), the gradient of both x and f, (N, C); adds into dw and db (C,). dx may be None."""
    return norm_backward(dy, dx, x, w, mean, rstd, dw, db, True)


def rmsnorm_forward(x, w, eps=1e-6):
    """y = x * rstd * w with rstd = 1 / sqrt(mean_C(x^2) + eps).  x (N, C), w (C,) -> y (N, C), rstd (N,)."""
    _, y, _, rstd = norm_forward(x, None, w, None, eps, False)
    return y, rstd


def rmsnorm_backward(dy, x, w, rstd, dw=None):
    """dx (N, C) = rstd (dn - n mean_C(dn n)), n = x rstd, dn = dy w; adds into dw (C,)."""
    return norm_backward(dy, None, x, w, None, rstd, dw, None, False)


def add_rmsnorm_forward(x, f, w, eps=1e-6):
    """x' = x + f, y = rmsnorm(x').  x, f (N, C), w (C,) -> x' (N, C), y (N, C), rstd (N,)."""
    x, y, _, rstd = norm_forward(x, f, w, None, eps, False)
    return x, y, rstd


def add_rmsnorm_backward(dy, dx, x, w, rstd, dw=None):
    """dx + rmsnorm_backward(dy), the gradient of both x and f, (N, C); adds into dw (C,). dx may be None."""
    return norm_backward(dy, dx, x, w, None, rstd, dw, None, False)
