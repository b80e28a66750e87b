"""Rows out of a table, and back into it. Forward, the rows are divided among the threads.

Backward, the columns are: two rows of dy may belong to one row of the table, so threads that share out the rows would need
atomic additions, whose order is anyone's guess. A thread that owns some columns adds all rows in turn.
"""

from __future__ import annotations

from .arrays import accumulator, divided, indices, parts_of, rows, settle
from .memory import empty

COLUMNS = 16  # the fewest that a thread takes: one line of the cache


@divided
def gather_rows(start, stop, index, w, y):
    for i in range(start, stop):
        row, w_row = y[i], w[index[i]]
        for j in range(row.size):
            row[j] = w_row[j]


@divided
def scatter_columns(first, last, dy, index, dw):
    """dw[index] += dy in some blocks of columns; the index is taken again and again until dy ends."""
    start, stop = first * COLUMNS, min(last * COLUMNS, dy.shape[1])
    n = 0
    for i in range(len(dy)):
        dw_row, dy_row = dw[index[n], start:stop], dy[i, start:stop]
        for j in range(dy_row.size):
            dw_row[j] += dy_row[j]
        n = n + 1 if n + 1 < len(index) else 0


def embedding_forward(tokens, w):
    y, index = empty(w, (*tokens.shape, w.shape[1])), indices(tokens, len(w), "tokens")
    gather_rows(len(index), parts_of(y.size), index, rows(w), rows(y))
    return y


def embedding_backward(dy, tokens, dw):
    if dy.shape != (*tokens.shape, dw.shape[-1]):
        raise ValueError(f"dy is {dy.shape}; tokens {tokens.shape} and dw {dw.shape} need {(*tokens.shape, dw.shape[-1])}")
    scatter(dy, tokens, dw, "tokens")


def scatter(dy, index, dw, name):
    """dw[index] += dy, the index broadcast over dy's first axes."""
    sums, blocks = accumulator(dw, dw.shape, dy, "dw"), -(-dw.shape[1] // COLUMNS)
    scatter_columns(blocks, min(blocks, parts_of(dy.size)), rows(dy), indices(index, len(dw), name), sums)
    settle(dw, sums)
