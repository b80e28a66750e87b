"""Adam in one pass over w, dw, m1 and m2, in place. Adafactor in three passes over dw, without a copy of it.

Sums over whole arrays are sums over fixed blocks, so they do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import accumulator, computable, divided, flat, like, parts_of, per_row, settle, vector
from .jit import jit
from .memory import empty

BLOCK = 1 << 14  # numbers whose squares are summed together
ROW_BLOCKS, ROWS = 64, 16  # into how many blocks of rows Adafactor divides a matrix, and at least how many rows each has


@divided
def adam_part(start, stop, w, dw, m1, m2, beta1, beta2, rest1, rest2, decay, rate, root, eps, factor):
    w, dw, m1, m2, number = w[start:stop], dw[start:stop], m1[start:stop], m2[start:stop], w.dtype.type
    beta1, beta2, rest1, rest2 = number(beta1), number(beta2), number(rest1), number(rest2)
    decay, rate, root, eps, factor = number(decay), number(rate), number(root), number(eps), number(factor)
    for i in range(w.size):
        gradient = factor * dw[i]
        mean = beta1 * m1[i] + rest1 * gradient
        square = beta2 * m2[i] + rest2 * gradient * gradient
        w[i] = w[i] * decay - rate * mean / (np.sqrt(square) * root + eps)
        m1[i] = mean
        m2[i] = square


@jit(forceinline=True)
def sum_of_squares(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@divided
def squares_of_blocks(start, stop, dw, sums):
    for block in range(start, stop):
        sums[block] = sum_of_squares(dw[block * BLOCK : (block + 1) * BLOCK])


@divided
def scale_part(start, stop, dw, factor):
    dw, factor = dw[start:stop], dw.dtype.type(factor)
    for i in range(dw.size):
        dw[i] *= factor


@divided
def clear_part(start, stop, dw):
    dw = dw[start:stop]
    for i in range(dw.size):
        dw[i] = 0


@jit(forceinline=True)
def rows_of(block, each, F):
    """first, last: the rows of a block of `each`."""
    return block * each, min((block + 1) * each, F)


@divided
def squares_of_rows(start, stop, each, dw, w, row_sums, col_sums, w_sums):
    """For blocks of rows: the sums of dw^2 over each row (F,) and over the block's columns (blocks, C), of w^2 over all."""
    for block in range(start, stop):
        columns, w_sum = col_sums[block], 0.0
        columns[:] = 0
        first, last = rows_of(block, each, len(dw))
        for i in range(first, last):
            total = dw.dtype.type(0)
            for j in range(dw.shape[1]):
                square = dw[i, j] * dw[i, j]
                total += square
                columns[j] += square
            row_sums[i] = total
            w_sum += sum_of_squares(w[i])
        w_sums[block] = w_sum


@divided
def squares_of_updates(start, stop, each, dw, by_row, by_col, sums):
    """For blocks of rows: the sum of update^2; update = dw times a number for its row and one for its column."""
    for block in range(start, stop):
        total = 0.0
        first, last = rows_of(block, each, len(dw))
        for i in range(first, last):
            for j in range(dw.shape[1]):
                update = np.float64(dw[i, j] * by_row[i] * by_col[j])
                total += update * update
        sums[block] = total


@divided
def descend(start, stop, w, dw, by_row, by_col, kept, size):
    """w = kept w - size update, with the update as above."""
    kept, size = w.dtype.type(kept), w.dtype.type(size)
    for i in range(start, stop):
        for j in range(w.shape[1]):
            w[i, j] = kept * w[i, j] - size * (dw[i, j] * by_row[i] * by_col[j])


def adam_step(w, dw, m1, m2, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """The two corrections of the bias are factors here: lr / (1 - beta1^step) and 1 / sqrt(1 - beta2^step)."""
    own_w, own_m1, own_m2 = (accumulator(a, w.shape, w, name) for a, name in ((w, "w"), (m1, "m1"), (m2, "m2")))
    rate, root, decay = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), 1 - lr * weight_decay
    numbers = beta1, beta2, 1 - beta1, 1 - beta2, decay, rate, root, eps, factor
    adam_part(w.size, parts_of(w.size), flat(own_w), flat(like(dw, w, "dw")), flat(own_m1), flat(own_m2), *numbers)
    settle(w, own_w)
    settle(m1, own_m1)
    settle(m2, own_m2)


def adafactor_step(w, dw, m2, step, lr, decay=0.8, eps=1e-30, clip=1.0, relative=1e-3, weight_decay=0.0, factor=1.0):
    """The update is computed twice, for its mean square and for the step, and not stored. A vector is a matrix of one row:
    the means of its columns are its squares."""
    if len(m2) != w.ndim:
        raise ValueError(f"m2 holds {len(m2)} arrays; w {w.shape} needs {w.ndim}, one for each axis")
    vector(m2[-1], w, "m2[-1]")
    if w.ndim == 2:
        per_row(m2[0], w, "m2[0]")
    if not w.size:
        return
    own_w, dw = accumulator(w, w.shape, w, "w"), computable(like(dw, w, "dw"))
    matrix, gradient = own_w.reshape(-1, w.shape[-1]), dw.reshape(-1, w.shape[-1])
    (F, C), parts, beta = matrix.shape, parts_of(w.size), 1 - step**-decay
    each = max(ROWS, -(-F // ROW_BLOCKS))
    blocks = -(-F // each)
    row_sums, col_sums = empty(w, (F,)), empty(w, (blocks, C))
    w_sums, update_sums = empty(w, (blocks,), np.float64), empty(w, (blocks,), np.float64)
    squares_of_rows(blocks, parts, each, gradient, matrix, row_sums, col_sums, w_sums)
    for mean, squares in zip(m2[::-1], (col_sums.sum(0) / F, row_sums / C)):
        mean *= beta
        mean += (1 - beta) * (factor**2 * squares + eps)
    by_row = factor * np.sqrt(m2[0].mean() / m2[0]) if w.ndim == 2 else np.full(1, factor, w.dtype)
    by_col = 1 / np.sqrt(m2[-1])
    squares_of_updates(blocks, parts, each, gradient, by_row, by_col, update_sums)
    size = lr if relative is None else lr * max(relative, math.sqrt(w_sums.sum() / w.size))
    size /= max(1.0, math.sqrt(update_sums.sum() / w.size) / clip)
    descend(F, parts, matrix, gradient, by_row, by_col, 1 - lr * weight_decay, size)
    settle(w, own_w)


def global_norm(dw):
    """Sums of squares over blocks, then the sum of those."""
    sums = empty(dw, (-(-dw.size // BLOCK),), np.float64)
    squares_of_blocks(sums.size, parts_of(dw.size), flat(dw), sums)
    return math.sqrt(sums.sum())


def scale(dw, factor):
    own = accumulator(dw, dw.shape, dw, "dw")
    scale_part(dw.size, parts_of(dw.size), flat(own), factor)
    settle(dw, own)


def clear(dw):
    own = accumulator(dw, dw.shape, dw, "dw")
    clear_part(dw.size, parts_of(dw.size), flat(own))
    settle(dw, own)
