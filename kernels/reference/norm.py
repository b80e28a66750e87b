"""Layer normalisation (Ba, Kiros & Hinton 2016) and RMS normalisation (Zhang & Sennrich 2019).

N rows of C channels; statistics over C, for each row on its own. The `add_` ops normalise the sum of the residual
stream and the branch that comes back to it, since every norm of a transformer but the first stands behind such a sum.
In training the branch is thinned out by dropout before (dropout.py has its mask): that is done on the way.
"""

from __future__ import annotations

import numpy as np

from .dropout import dropout_backward, dropout_forward
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


def add_forward(x, r, dropout, seed):
    """x + drop(r), the dropout of that probability and seed; r None: x."""
    if r is None:
        return x
    return x + (dropout_forward(r, dropout, seed) if dropout else r)


def add_backward(ds, dropout, seed):
    """dx = ds, dr = drop(ds) of the same mask; without dropout both are ds."""
    return ds, dropout_backward(ds, dropout, seed) if dropout else ds


def add_layernorm_forward(x, r, w, b=None, eps=1e-5, dropout=0.0, seed=0):
    """s = x + drop(r), y = layernorm(s).  x, r (N, C); r None: s is x -> s (N, C), y (N, C), mean (N,), rstd (N,)."""
    s = add_forward(x, r, dropout, seed)
    return s, *layernorm_forward(s, w, b, eps)


def add_layernorm_backward(dy, ds, s, w, mean, rstd, dw=None, db=None, dropout=0.0, seed=0):
    """dx, dr (N, C), one array where nothing is dropped; adds into dw and db (C,).

    s goes on beside y, with a gradient ds of its own (None: it goes nowhere), so dx = ds + layernorm_backward(dy);
    dr = drop(dx).
    """
    dx = layernorm_backward(dy, s, w, mean, rstd, dw, db)
    return add_backward(dx if ds is None else ds + dx, dropout, seed)


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


def add_rmsnorm_forward(x, r, w, eps=1e-6, dropout=0.0, seed=0):
    """s = x + drop(r), y = rmsnorm(s).  x, r (N, C); r None: s is x -> s (N, C), y (N, C), rstd (N,)."""
    s = add_forward(x, r, dropout, seed)
    return s, *rmsnorm_forward(s, w, eps)


def add_rmsnorm_backward(dy, ds, s, w, rstd, dw=None, dropout=0.0, seed=0):
    """dx, dr (N, C), one array where nothing is dropped; adds into dw (C,).

    dx = ds + rmsnorm_backward(dy), dr = drop(dx).
    """
    dx = rmsnorm_backward(dy, s, w, rstd, dw)
    return add_backward(dx if ds is None else ds + dx, dropout, seed)
