"""Rows out of a table, and back into it. Forward, the rows are divided among the threads.

Backward, the columns are: two rows of dy may belong to one row of the table, so threads that share out the rows would need
atomic additions, whose order is anyone's guess. A thread that owns some columns adds all rows in turn.
"""

from __future__ import annotations

from numba import prange

from .arrays import accumulator, indices, parts_of, rows, settle, share
from .jit import parallel_jit
from .memory import empty

COLUMNS = 16  # the fewest that a thread takes: one line of the cache


@parallel_jit
def gather_kernel(index, w, y, parts):
    for part in prange(parts):
        start, stop = share(part, parts, len(y))
        for i in range(start, stop):
            row, w_row = y[i], w[index[i]]
            for j in range(row.size):
                row[j] = w_row[j]


@parallel_jit
def scatter_kernel(dy, index, dw, parts):
    """dw[index] += dy, the index taken again and again until dy ends."""
    C = dy.shape[1]
    for part in prange(parts):
        start, stop = share(part, parts, (C + COLUMNS - 1) // COLUMNS)
        start, stop = start * COLUMNS, min(stop * COLUMNS, C)
        n = 0
        for i in range(len(dy)):
            dw_row, dy_row = dw[index[n], start:stop], dy[i, start:stop]
            for j in range(dy_row.size):
                dw_row[j] += dy_row[j]
            n = n + 1 if n + 1 < len(index) else 0


def embedding_forward(tokens, w):
    y = empty(w, (*tokens.shape, w.shape[1]))
    gather_kernel(indices(tokens, len(w), "tokens"), rows(w), rows(y), parts_of(y.size))
    return y


def embedding_backward(dy, tokens, dw):
    if dy.shape != (*tokens.shape, dw.shape[-1]):
        raise ValueError(f"dy is {dy.shape}; tokens {tokens.shape} and dw {dw.shape} need {(*tokens.shape, dw.shape[-1])}")
    scatter(dy, tokens, dw, "tokens")


def scatter(dy, index, dw, name):
    """dw[index] += dy, the index broadcast over dy's first axes."""
    sums = accumulator(dw, dw.shape, dy, "dw")
    parts = min(parts_of(dy.size), (dw.shape[1] + COLUMNS - 1) // COLUMNS)
    scatter_kernel(rows(dy), indices(index, len(dw), name), sums, parts)
    settle(dw, sums)
