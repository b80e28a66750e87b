"""Adam in one pass over p, g, m and v, in place. Adafactor in three passes over g and no array of that size besides.

Sums over whole arrays are sums over fixed blocks, so they do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import accumulator, computable, divided, flat, like, parts_of, plain, settle
from .jit import jit
from .memory import empty

BLOCK = 1 << 14  # numbers whose squares are summed together
ROW_BLOCKS, ROWS = 64, 16  # into how many blocks of rows Adafactor divides a matrix, and at least how many rows each has


@divided
def adam_part(start, stop, p, g, m, v, beta1, beta2, rest1, rest2, decay, rate, root, eps, factor):
    p, g, m, v, number = p[start:stop], g[start:stop], m[start:stop], v[start:stop], p.dtype.type
    beta1, beta2, rest1, rest2 = number(beta1), number(beta2), number(rest1), number(rest2)
    decay, rate, root, eps, factor = number(decay), number(rate), number(root), number(eps), number(factor)
    for i in range(p.size):
        gradient = factor * g[i]
        mean = beta1 * m[i] + rest1 * gradient
        square = beta2 * v[i] + rest2 * gradient * gradient
        p[i] = p[i] * decay - rate * mean / (np.sqrt(square) * root + eps)
        m[i] = mean
        v[i] = square


@jit(forceinline=True)
def sum_of_squares(g):
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@divided
def squares_of_blocks(start, stop, g, sums):
    for block in range(start, stop):
        sums[block] = sum_of_squares(g[block * BLOCK : (block + 1) * BLOCK])


@divided
def scale_part(start, stop, g, factor):
    g, factor = g[start:stop], g.dtype.type(factor)
    for i in range(g.size):
        g[i] *= factor


@divided
def clear_part(start, stop, g):
    g = g[start:stop]
    for i in range(g.size):
        g[i] = 0


def adam_step(p, g, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """The two corrections of the bias are factors here: lr / (1 - beta1^step) and 1 / sqrt(1 - beta2^step)."""
    own_p, own_m, own_v = (accumulator(a, p.shape, p, name) for a, name in ((p, "p"), (m, "m"), (v, "v")))
    rate, root, decay = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), 1 - lr * weight_decay
    numbers = beta1, beta2, 1 - beta1, 1 - beta2, decay, rate, root, eps, factor
    adam_part(p.size, parts_of(p.size), flat(own_p), flat(like(g, p, "g")), flat(own_m), flat(own_v), *numbers)
    settle(p, own_p)
    settle(m, own_m)
    settle(v, own_v)


@jit(forceinline=True)
def rows_of(block, each, R):
    """first, last: the rows of a block of `each`."""
    return block * each, min((block + 1) * each, R)


@divided
def squares_of_rows(start, stop, each, g, p, row_sums, column_sums, p_sums):
    """Of blocks of rows: the sums of g^2 over each row (R,) and over the block's columns (blocks, C), of p^2 over all."""
    for block in range(start, stop):
        columns, p_sum = column_sums[block], 0.0
        columns[:] = 0
        first, last = rows_of(block, each, len(g))
        for i in range(first, last):
            total = g.dtype.type(0)
            for j in range(g.shape[1]):
                square = g[i, j] * g[i, j]
                total += square
                columns[j] += square
            row_sums[i] = total
            p_sum += sum_of_squares(p[i])
        p_sums[block] = p_sum


@divided
def squares_of_updates(start, stop, each, g, by_row, by_column, sums):
    """Of blocks of rows: the sum of u^2, u = g times a number for its row and one for its column."""
    for block in range(start, stop):
        total = 0.0
        first, last = rows_of(block, each, len(g))
        for i in range(first, last):
            for j in range(g.shape[1]):
                u = np.float64(g[i, j] * by_row[i] * by_column[j])
                total += u * u
        sums[block] = total


@divided
def descend(start, stop, p, g, by_row, by_column, kept, size):
    """p = kept p - size u, u as above."""
    kept, size = p.dtype.type(kept), p.dtype.type(size)
    for i in range(start, stop):
        for j in range(p.shape[1]):
            p[i, j] = kept * p[i, j] - size * (g[i, j] * by_row[i] * by_column[j])


def adafactor_step(p, g, v, step, lr, decay=0.8, eps=1e-30, clip=1.0, relative=1e-3, weight_decay=0.0, factor=1.0):
    """u is computed twice, for its mean square and for the step, and not kept. A vector is a matrix of one row: the means of
    its columns are its squares."""
    for mean, n in zip(v, p.shape, strict=True):
        if mean.shape != (n,) or mean.dtype != p.dtype:
            raise ValueError(f"v holds {mean.dtype} {mean.shape}; for p {p.dtype} {p.shape} it must be {p.dtype} ({n},)")
    if not p.size:
        return
    own_p = accumulator(p, p.shape, p, "p")
    P, G = (a.reshape(-1, p.shape[-1]) for a in (own_p, computable(like(g, p, "g"))))
    (R, C), parts, beta = P.shape, parts_of(p.size), 1 - step**-decay
    each = max(ROWS, -(-R // ROW_BLOCKS))
    blocks = -(-R // each)
    row_sums, column_sums = empty(p, (R,)), empty(p, (blocks, C))
    p_sums, u_sums = empty(p, (blocks,), np.float64), empty(p, (blocks,), np.float64)
    squares_of_rows(blocks, parts, each, G, P, row_sums, column_sums, p_sums)
    for mean, squares in zip(v[::-1], (column_sums.sum(0) / R, row_sums / C)):
        mean *= beta
        mean += (1 - beta) * (factor**2 * squares + eps)
    by_row = factor * np.sqrt(v[0].mean() / v[0]) if len(v) == 2 else np.full(1, factor, p.dtype)
    by_column = 1 / np.sqrt(plain(v[-1]))
    squares_of_updates(blocks, parts, each, G, by_row, by_column, u_sums)
    size = lr if relative is None else lr * max(relative, math.sqrt(p_sums.sum() / p.size))
    size /= max(1.0, math.sqrt(u_sums.sum() / p.size) / clip)
    descend(R, parts, P, G, by_row, by_column, 1 - lr * weight_decay, size)
    settle(p, own_p)


def global_norm(g):
    """Sums of squares over blocks, then the sum of those: the same for any number of threads."""
    sums = empty(g, (-(-g.size // BLOCK),), np.float64)
    squares_of_blocks(sums.size, parts_of(g.size), flat(g), sums)
    return math.sqrt(sums.sum())


def scale(g, factor):
    own = accumulator(g, g.shape, g, "g")
    scale_part(g.size, parts_of(g.size), flat(own), factor)
    settle(g, own)


def clear(g):
    own = accumulator(g, g.shape, g, "g")
    clear_part(g.size, parts_of(g.size), flat(own))
    settle(g, own)
