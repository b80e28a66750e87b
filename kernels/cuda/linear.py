"""Linear maps: the products by cuBLAS (blas.py), bias and activation in one pass behind them (linear.cu); of few rows by a
kernel of ours (few_rows.py)."""

from __future__ import annotations

from ..common import check_linear
from .activation import IN_CUDA, activation_backward
from .arrays import WARP, accumulator, row_layout, rows, settle, vector, wide
from .blas import product, rounded
from .columns import SHARING, add_parts, parts_of
from .few_rows import FEW, few_rows
from .memory import empty
from .module import Kernels

FUSED = (f"bias_activation<T, {function}>" for function in IN_CUDA.values())
KERNELS = Kernels("linear.cu", "add_bias<T>", *FUSED, "sum_columns<T>", "add_parts<T>")


def project(x, w, b, y):
    """y = x w^T + b, into y (N, F)."""
    if len(x) <= FEW:
        few_rows(*rounded(x, w), b, y)
        return
    product(x, w.T, y)
    add_bias(y, b)


def add_bias(y, b):
    """y += b, for each row.  y (N, F), b (F,) or None."""
    if b is not None:
        KERNELS.launch("add_bias<T>", y, *row_layout(y), y, vector(b, y, "b"), *y.shape)


def linear_forward(x, w, b=None):
    """y = x w^T + b.  x (N, C), w (F, C), b (F,) or None -> y (N, F)."""
    check_linear(x, w, b)
    y = empty(x, (*x.shape[:-1], len(w)))
    project(rows(x), w, b, rows(y))
    return y


def linear_backward(dy, x, w, dw=None, db=None):
    """dx (N, C) = dy w; adds into dw (F, C) and db (F,):  dw = dy^T x,  db = sum_N dy."""
    check_linear(x, w, None)
    if dy.shape != (*x.shape[:-1], len(w)):
        raise ValueError(f"dy is {dy.shape}; for x {x.shape} and w {w.shape} it must be {(*x.shape[:-1], len(w))}")
    dx = empty(x, x.shape)
    product(rows(dy), w, rows(dx))
    add_gradients(rows(dy), rows(x), dw, db)
    return dx


def add_gradients(dy, x, dw, db):
    """dw += dy^T x,  db += sum_N dy.  dy (N, F), x (N, C)."""
    if dw is not None:
        sums = accumulator(dw, (dy.shape[1], x.shape[1]), dy, "dw")
        product(dy.T, x, sums, add=True)
        settle(dw, sums)
    if db is not None:
        n, F = dy.shape
        sums, parts = accumulator(db, (F,), dy, "db"), parts_of(-(-n // 8))
        part = empty(dy, (parts, F), wide(dy))
        KERNELS.launch("sum_columns<T>", dy, (-(-F // WARP), parts), (WARP, SHARING), dy, part, n, F)
        add_parts(KERNELS, dy, part, sums)
        settle(db, sums)


def linear_activation_forward(x, w, b=None, activation="gelu"):
    """u = x w^T + b, y = f(u), for an activation f by name -> y (N, F), u (N, F), which the backward needs."""
    check_linear(x, w, b)
    y, u = empty(x, (*x.shape[:-1], len(w))), empty(x, (*x.shape[:-1], len(w)))
    y_rows, u_rows = rows(y), rows(u)
    project(rows(x), w, None, u_rows)
    name = f"bias_activation<T, {IN_CUDA[activation]}>"
    KERNELS.launch(name, x, *row_layout(y_rows), u_rows, vector(b, y, "b"), y_rows, *y_rows.shape)
    return y, u


def linear_activation_backward(dy, x, w, u, dw=None, db=None, activation="gelu"):
    """dx (N, C); adds into dw (F, C) and db (F,).  du = dy f'(u), then as in linear_backward."""
    return linear_backward(activation_backward(dy, u, activation), x, w, dw, db)
