"""Layer and RMS normalisation: one pass over memory, rows divided among the threads.

A row of C numbers stays in the first-level cache, so reading it three times there costs what one pass over memory does. The
branch f is added in the same pass. Mean and variance are two passes, as in the formulas: E(x^2) - E(x)^2 loses digits.

RMS normalisation is layer normalisation whose mean is 0 by decree, so both run through the same two kernels: an empty
`mean` says that rows are not centred.
"""

from __future__ import annotations

import numpy as np

from .arrays import NO_ROWS, NOTHING, accumulator, divided, like, parts_of, per_row, rows, settle, share, vector
from .heads import join_heads
from .jit import jit
from .memory import empty


@jit
def row_mean(x):
    total = x.dtype.type(0)
    for j in range(x.shape[0]):
        total += x[j]
    return total / x.dtype.type(x.shape[0])


@jit
def row_rstd(x, mean, eps):
    squares = x.dtype.type(0)
    for j in range(x.shape[0]):
        squares += (x[j] - mean) * (x[j] - mean)
    return x.dtype.type(1) / np.sqrt(squares / x.dtype.type(x.shape[0]) + x.dtype.type(eps))


@jit
def scale_and_shift(x, mean, rstd, w, b, y):
    if b.size:
        for j in range(y.shape[0]):
            y[j] = (x[j] - mean) * rstd * w[j] + b[j]
    else:
        for j in range(y.shape[0]):
            y[j] = (x[j] - mean) * rstd * w[j]


@jit
def add(x, f, total):
    for j in range(total.shape[0]):
        total[j] = x[j] + f[j]


@jit
def increase(x, f):
    for j in range(x.shape[0]):
        x[j] += f[j]


@divided
def norm_rows(start, stop, x, f, w, b, eps, total, y, mean, rstd):
    """total = x + f, or total is x and f has no rows; then y, mean, rstd of total."""
    for i in range(start, stop):
        if f.size:
            add(x[i], f[i], total[i])
        centre = row_mean(total[i]) if mean.size else x.dtype.type(0)
        if mean.size:
            mean[i] = centre
        rstd[i] = row_rstd(total[i], centre, eps)
        scale_and_shift(total[i], centre, rstd[i], w, b, y[i])


@jit
def backward_sums(dy, x, w, mean, rstd, dw, db):
    """The row's share of dw and db; the sums over C of dn and dn n."""
    sum_dn = sum_dn_n = x.dtype.type(0)
    for j in range(x.shape[0]):
        n = (x[j] - mean) * rstd
        dn = dy[j] * w[j]
        sum_dn += dn
        sum_dn_n += dn * n
        dw[j] += dy[j] * n
        db[j] += dy[j]
    return sum_dn, sum_dn_n


@jit
def backward_dx(dy, x, w, mean, rstd, mean_dn, mean_dn_n, dx):
    for j in range(x.shape[0]):
        n = (x[j] - mean) * rstd
        dx[j] = rstd * (dy[j] * w[j] - mean_dn - n * mean_dn_n)


@divided
def norm_backward_parts(first, last, dy, of_sum, x, w, mean, rstd, dx, sums):
    """dx of the rows of some parts, plus of_sum if that has rows; in sums (parts, 2, C) the dw and db of each part."""
    zero, C = x.dtype.type(0), x.dtype.type(x.shape[1])
    for part in range(first, last):
        start, stop = share(part, len(sums), len(x))
        dw, db = sums[part, 0], sums[part, 1]
        dw[:] = zero
        db[:] = zero
        for i in range(start, stop):
            centre = mean[i] if mean.size else zero
            sum_dn, sum_dn_n = backward_sums(dy[i], x[i], w, centre, rstd[i], dw, db)
            mean_dn = sum_dn / C if mean.size else zero
            backward_dx(dy[i], x[i], w, centre, rstd[i], mean_dn, sum_dn_n / C, dx[i])
            if of_sum.size:
                increase(dx[i], of_sum[i])


@jit
def add_sums(sums, dw, db):
    """In the order of the parts, so that every run gives the same."""
    for part in range(len(sums)):
        if dw.size:
            increase(dw, sums[part, 0])
        if db.size:
            increase(db, sums[part, 1])


def adjacent(x):
    """x, or a copy if x is a view of some heads of a packed projection.

    A kernel makes the copy, because a recorded step repeats kernels only (graph.py).
    """
    return join_heads(x) if x.ndim == 4 and x.dtype in NOTHING and not x.flags.c_contiguous else x


def norm_forward(x, f, w, b, eps, mean, rstd):
    """x + f (f None: x itself) and its norm; writes mean, unless it is empty, and rstd."""
    x_rows, y = rows(adjacent(x)), empty(x, x.shape)
    if f is None:
        total, total_rows, f_rows = x, x_rows, NO_ROWS[x.dtype]
    else:
        total, f_rows = empty(x, x.shape), rows(like(f, x, "f"))
        total_rows = total.reshape(x_rows.shape)
    inputs = x_rows, f_rows, vector(w, x, "w"), vector(b, x, "b"), eps
    outputs = total_rows, y.reshape(x_rows.shape), mean.reshape(-1), rstd.reshape(-1)
    norm_rows(len(x_rows), parts_of(x.size), *inputs, *outputs)
    return total, y


def norm_backward(dy, of_sum, x, w, mean, rstd, dw, db):
    """of_sum: the gradient that arrives at x beside y's, or None."""
    dx, C = empty(x, x.shape), x.shape[-1]
    dy, of_sum = rows(like(dy, x, "dy")), NO_ROWS[x.dtype] if of_sum is None else rows(like(of_sum, x, "dx"))
    dw_sums, db_sums = accumulator(dw, (C,), x, "dw"), accumulator(db, (C,), x, "db")
    parts = parts_of(x.size)
    sums = empty(x, (parts, 2, C))
    norm_backward_parts(parts, parts, dy, of_sum, rows(x), vector(w, x, "w"), mean, per_row(rstd, x, "rstd"), rows(dx), sums)
    add_sums(sums, dw_sums, db_sums)
    settle(dw, dw_sums)
    settle(db, db_sums)
    return dx


def layernorm_forward(x, w, b=None, eps=1e-5):
    mean, rstd = empty(x, x.shape[:-1]), empty(x, x.shape[:-1])
    _, y = norm_forward(x, None, w, b, eps, mean, rstd)
    return y, mean, rstd


def layernorm_backward(dy, x, w, mean, rstd, dw=None, db=None):
    return norm_backward(dy, None, x, w, per_row(mean, x, "mean"), rstd, dw, db)


def add_layernorm_forward(x, f, w, b=None, eps=1e-5):
    mean, rstd = empty(x, x.shape[:-1]), empty(x, x.shape[:-1])
    x, y = norm_forward(x, f, w, b, eps, mean, rstd)
    return x, y, mean, rstd


def add_layernorm_backward(dy, dx, x, w, mean, rstd, dw=None, db=None):
    return norm_backward(dy, dx, x, w, per_row(mean, x, "mean"), rstd, dw, db)


def rmsnorm_forward(x, w, eps=1e-6):
    rstd = empty(x, x.shape[:-1])
    _, y = norm_forward(x, None, w, None, eps, NOTHING[x.dtype], rstd)
    return y, rstd


def rmsnorm_backward(dy, x, w, rstd, dw=None):
    return norm_backward(dy, None, x, w, NOTHING[x.dtype], rstd, dw, None)


def add_rmsnorm_forward(x, f, w, eps=1e-6):
    rstd = empty(x, x.shape[:-1])
    x, y = norm_forward(x, f, w, None, eps, NOTHING[x.dtype], rstd)
    return x, y, rstd


def add_rmsnorm_backward(dy, dx, x, w, rstd, dw=None):
    return norm_backward(dy, dx, x, w, NOTHING[x.dtype], rstd, dw, None)
