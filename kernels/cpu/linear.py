"""Linear maps: three matrix products (matmul.py), with the bias, the activation and the accumulation inside of them."""

from __future__ import annotations

import math

from .activation import activation_backward
from .arrays import accumulator, divided, parts_of, rows, settle
from .matmul import matmul
from .memory import empty

COLUMNS = 16  # the fewest columns that a thread sums: one line of the cache


@divided
def sum_columns(first, last, dy, db):
    """db += sum_N dy, in some blocks of columns: the same sums for any number of threads."""
    start, stop = first * COLUMNS, min(last * COLUMNS, dy.shape[1])
    total = db[start:stop]
    for i in range(len(dy)):
        row = dy[i, start:stop]
        for j in range(row.size):
            total[j] += row[j]


def matrix(x):
    """(..., C) -> (N, C), without a copy where rows lie at equal distances."""
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(math.prod(x.shape[:-1]), *x.shape[-1:])


def linear_forward(x, w, b=None):
    y = empty(x, (*x.shape[:-1], len(w)))
    matmul(matrix(x), w.T, matrix(y), plus=b)
    return y


def linear_backward(dy, x, w, dw=None, db=None):
    if dy.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"dy is {dy.shape} and x {x.shape}; they need the same leading axes")
    dx = empty(x, x.shape)
    matmul(matrix(dy), w, matrix(dx))
    add_gradients(matrix(dy), matrix(x), dw, db)
    return dx


def add_gradients(dy, x, dw, db):
    """dw += dy^T x,  db += sum_N dy."""
    if dw is not None:
        matmul(dy.T, x, dw, plus=dw)
    if db is not None:
        dy, sums, blocks = rows(dy), accumulator(db, dy.shape[1:], dy, "db"), -(-dy.shape[1] // COLUMNS)
        sum_columns(blocks, min(blocks, parts_of(dy.size)), dy, sums)
        settle(db, sums)


def linear_activation_forward(x, w, b=None, activation="gelu"):
    y, u = empty(x, (*x.shape[:-1], len(w))), empty(x, (*x.shape[:-1], len(w)))
    matmul(matrix(x), w.T, matrix(u), plus=b, activation=activation, activated=matrix(y))
    return y, u


def linear_activation_backward(dy, x, w, u, dw=None, db=None, activation="gelu"):
    return linear_backward(activation_backward(dy, u, activation), x, w, dw, db)
