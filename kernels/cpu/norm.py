"""Layer and RMS normalisation: one pass over memory, rows divided among the threads.

A row of C numbers stays in the first cache, so that going through it three times there costs what one pass does. The sum
with the residual is taken on the way, and dropout before it. Mean and variance are two passes, as in the formulas:
E(x^2) - E(x)^2 loses digits.

RMS normalisation is layer normalisation whose mean is 0 by decree, so both run through the same two kernels: an empty
`mean` says that rows are not centred.
"""

from __future__ import annotations

import numpy as np

from .arrays import NO_ROWS, NOTHING, accumulator, divided, like, parts_of, per_row, rows, settle, share, vector
from .dropout import dropout_row, mask_of
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
def add(x, r, s):
    for j in range(s.shape[0]):
        s[j] = x[j] + r[j]


@jit
def increase(x, r):
    for j in range(x.shape[0]):
        x[j] += r[j]


@divided
def norm_rows(start, stop, x, r, low, high, threshold, factor, w, b, eps, s, y, mean, rstd):
    """s = x + drop(r), or s is x and r has no rows; then y, mean, rstd of s."""
    for i in range(start, stop):
        if r.size and factor != 1:
            dropout_row(i, r[i], low, high, threshold, factor, s[i])
            increase(s[i], x[i])
        elif r.size:
            add(x[i], r[i], s[i])
        centre = row_mean(s[i]) if mean.size else x.dtype.type(0)
        if mean.size:
            mean[i] = centre
        rstd[i] = row_rstd(s[i], centre, eps)
        scale_and_shift(s[i], centre, rstd[i], w, b, y[i])


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
def norm_backward_parts(first, last, dy, ds, s, w, mean, rstd, low, high, threshold, factor, dx, dr, sums):
    """dx, and dr where that has rows, of the rows of some parts, and in sums (parts, 2, C) each part's own dw and db."""
    zero, C = s.dtype.type(0), s.dtype.type(s.shape[1])
    for part in range(first, last):
        start, stop = share(part, len(sums), len(s))
        dw, db = sums[part, 0], sums[part, 1]
        dw[:] = zero
        db[:] = zero
        for i in range(start, stop):
            centre = mean[i] if mean.size else zero
            sum_dn, sum_dn_n = backward_sums(dy[i], s[i], w, centre, rstd[i], dw, db)
            mean_dn = sum_dn / C if mean.size else zero
            backward_dx(dy[i], s[i], w, centre, rstd[i], mean_dn, sum_dn_n / C, dx[i])
            if ds.size:
                increase(dx[i], ds[i])
            if dr.size:
                dropout_row(i, dx[i], low, high, threshold, factor, dr[i])


@jit
def add_sums(sums, dw, db):
    """In the order of the parts, so that every run gives the same."""
    for part in range(len(sums)):
        if dw.size:
            increase(dw, sums[part, 0])
        if db.size:
            increase(db, sums[part, 1])


def norm_forward(x, r, w, b, eps, dropout, seed, mean, rstd):
    x_rows, y = rows(x), empty(x, x.shape)
    if r is None:
        s, s_rows, r_rows = x, x_rows, NO_ROWS[x.dtype]
    else:
        s, r_rows = empty(x, x.shape), rows(like(r, x, "r"))
        s_rows = s.reshape(x_rows.shape)
    inputs = x_rows, r_rows, *mask_of(dropout, seed), vector(w, x, "w"), vector(b, x, "b"), eps
    outputs = s_rows, y.reshape(x_rows.shape), mean.reshape(-1), rstd.reshape(-1)
    norm_rows(len(x_rows), parts_of(x.size), *inputs, *outputs)
    return s, y


def norm_backward(dy, ds, s, w, mean, rstd, dw, db, dropout=0.0, seed=0):
    dx, C = empty(s, s.shape), s.shape[-1]
    dr = empty(s, s.shape) if dropout else dx
    dy, ds = rows(like(dy, s, "dy")), NO_ROWS[s.dtype] if ds is None else rows(like(ds, s, "ds"))
    dw_sums, db_sums = accumulator(dw, (C,), s, "dw"), accumulator(db, (C,), s, "db")
    parts = parts_of(s.size)
    sums = empty(s, (parts, 2, C))
    inputs = dy, ds, rows(s), vector(w, s, "w"), mean, per_row(rstd, s, "rstd"), *mask_of(dropout, seed)
    norm_backward_parts(parts, parts, *inputs, rows(dx), rows(dr) if dropout else NO_ROWS[s.dtype], sums)
    add_sums(sums, dw_sums, db_sums)
    settle(dw, dw_sums)
    settle(db, db_sums)
    return dx, dr


def layernorm_forward(x, w, b=None, eps=1e-5):
    return add_layernorm_forward(x, None, w, b, eps)[1:]


def layernorm_backward(dy, x, w, mean, rstd, dw=None, db=None):
    return norm_backward(dy, None, x, w, per_row(mean, x, "mean"), rstd, dw, db)[0]


def add_layernorm_forward(x, r, w, b=None, eps=1e-5, dropout=0.0, seed=0):
    mean, rstd = empty(x, x.shape[:-1]), empty(x, x.shape[:-1])
    s, y = norm_forward(x, r, w, b, eps, dropout, seed, mean, rstd)
    return s, y, mean, rstd


def add_layernorm_backward(dy, ds, s, w, mean, rstd, dw=None, db=None, dropout=0.0, seed=0):
    return norm_backward(dy, ds, s, w, per_row(mean, s, "mean"), rstd, dw, db, dropout, seed)


def rmsnorm_forward(x, w, eps=1e-6):
    return add_rmsnorm_forward(x, None, w, eps)[1:]


def rmsnorm_backward(dy, x, w, rstd, dw=None):
    return norm_backward(dy, None, x, w, NOTHING[x.dtype], rstd, dw, None)[0]


def add_rmsnorm_forward(x, r, w, eps=1e-6, dropout=0.0, seed=0):
    rstd = empty(x, x.shape[:-1])
    s, y = norm_forward(x, r, w, None, eps, dropout, seed, NOTHING[x.dtype], rstd)
    return s, y, rstd


def add_rmsnorm_backward(dy, ds, s, w, rstd, dw=None, dropout=0.0, seed=0):
    return norm_backward(dy, ds, s, w, NOTHING[s.dtype], rstd, dw, None, dropout, seed)
