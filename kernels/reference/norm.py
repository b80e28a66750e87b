"""Layer normalisation (Ba, Kiros & Hinton 2016) and RMS normalisation (Zhang & Sennrich 2019).

N rows of C channels. Each row has its own statistics, over C. The `add_` ops first add a branch f to the residual stream x,
because every norm of a transformer but the first follows such a sum.
"""

from __future__ import annotations

import numpy as np

from .linear import rows


def layernorm_forward(x, w, b=None, eps=1e-5):
    """y = n * w + b with n = (x - mean) * rstd.

    x (N, C), w (C,), b (C,) or None -> y (N, C), mean (N,), rstd (N,).
    """
    mean = x.mean(-1)  # (N,)
    rstd = (1 / np.sqrt(x.var(-1) + eps)).astype(x.dtype)  # (N,)
    n = (x - mean[..., None]) * rstd[..., None]  # (N, C)
    y = n * w
    return y if b is None else y + b, mean, rstd


def layernorm_backward(dy, x, w, mean, rstd, dw=None, db=None):
    """dx (N, C); adds into dw and db (C,).

    dw = sum_N dy n,  db = sum_N dy,  and with dn = dy w:
    dx = rstd (dn - mean_C(dn) - n mean_C(dn n)).
    The two means are what flows back through mean and rstd: they make dx orthogonal to 1 and to n.
    """
    n = (x - mean[..., None]) * rstd[..., None]  # recomputed: cheaper than keeping (N, C)
    if dw is not None:
        dw += rows(dy * n).sum(0)
    if db is not None:
        db += rows(dy).sum(0)
    dn = dy * w  # (N, C)
    return rstd[..., None] * (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True))


def add_layernorm_forward(x, f, w, b=None, eps=1e-5):
    """x' = x + f, y = layernorm(x').  x, f (N, C), w (C,), b (C,) or None -> x' (N, C), y (N, C), mean (N,), rstd (N,)."""
    x = x + f
    return x, *layernorm_forward(x, w, b, eps)


def add_layernorm_backward(dy, dx, x, w, mean, rstd, dw=None, db=None):
    """dx + layernorm_backward(dy), the gradient of both x and f, (N, C); adds into dw and db (C,).

    x is the sum x', and dx its gradient from everything after it except y, or None if there is nothing else.
    """
    through = layernorm_backward(dy, x, w, mean, rstd, dw, db)
    return through if dx is None else dx + through


def rmsnorm_forward(x, w, eps=1e-6):
    """y = x * rstd * w with rstd = 1 / sqrt(mean_C(x^2) + eps).  x (N, C), w (C,) -> y (N, C), rstd (N,)."""
    rstd = (1 / np.sqrt((x * x).mean(-1) + eps)).astype(x.dtype)  # (N,)
    return x * rstd[..., None] * w, rstd


def rmsnorm_backward(dy, x, w, rstd, dw=None):
    """dx (N, C); adds into dw (C,).

    With n = x rstd and dn = dy w:  dw = sum_N dy n,  dx = rstd (dn - n mean_C(dn n)).
    """
    n = x * rstd[..., None]
    if dw is not None:
        dw += rows(dy * n).sum(0)
    dn = dy * w
    return rstd[..., None] * (dn - n * (dn * n).mean(-1, keepdims=True))


def add_rmsnorm_forward(x, f, w, eps=1e-6):
    """x' = x + f, y = rmsnorm(x').  x, f (N, C), w (C,) -> x' (N, C), y (N, C), rstd (N,)."""
    x = x + f
    return x, *rmsnorm_forward(x, w, eps)


def add_rmsnorm_backward(dy, dx, x, w, rstd, dw=None):
    """dx + rmsnorm_backward(dy), the gradient of both x and f, (N, C); adds into dw (C,)."""
    through = rmsnorm_backward(dy, x, w, rstd, dw)
    return through if dx is None else dx + through
