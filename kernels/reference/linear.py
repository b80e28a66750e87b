"""Linear maps, y = x w^T + b: each row of w is one output feature (F of them), as PyTorch lays it out."""

from __future__ import annotations

from .activation import activation_backward, activation_forward
from .bfloat16 import product


def rows(x):
    """Any leading axes as one: (..., C) -> (N, C)."""
    return x.reshape(-1, x.shape[-1])


def linear_forward(x, w, b=None):
    """y = x w^T + b.  x (N, C), w (F, C), b (F,) or None -> y (N, F)."""
    y = product(x, w.T)  # (N, C), (C, F) -> (N, F)
    return y if b is None else y + b


def linear_backward(dy, x, w, dw=None, db=None):
    """dx (N, C); adds into dw (F, C) and db (F,).

    From y_nf = sum_c x_nc w_fc + b_f:  dx = dy w,  dw = dy^T x,  db = sum_N dy.
    """
    if dw is not None:
        dw += product(rows(dy).T, rows(x))  # (F, N), (N, C) -> (F, C)
    if db is not None:
        db += rows(dy).sum(0)
    return product(dy, w)  # (N, F), (F, C) -> (N, C)


def linear_activation_forward(x, w, b=None, activation="gelu"):
    """z = x w^T + b, y = f(z), for an activation f by name -> y (N, F), z (N, F), which the backward needs."""
    z = linear_forward(x, w, b)
    return activation_forward(z, activation), z


def linear_activation_backward(dy, x, w, z, dw=None, db=None, activation="gelu"):
    """dx (N, C); adds into dw (F, C) and db (F,).  dz = dy f'(z), then as in linear_backward."""
    return linear_backward(activation_backward(dy, z, activation), x, w, dw, db)
