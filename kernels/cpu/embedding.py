"""Rows out of a table, and back into it. Forward, the rows are divided among the threads.

Backward, the columns are: two rows of dy may belong to one row of the table, so threads that share out the rows would need
atomic additions, whose order is anyone's guess. A thread that owns some columns adds all rows in turn.
"""

from __future__ import annotations

from ..common import check_positions, check_table
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
    check_table(w, "w")
    y, index = empty(w, (*tokens.shape, w.shape[1])), indices(tokens, len(w), "tokens")
    gather_rows(len(index), parts_of(y.size), index, rows(w), rows(y))
    return y


def embedding_backward(dy, tokens, dw):
    check_table(dw, "dw")
    if dy.shape != (*tokens.shape, dw.shape[-1]):
        raise ValueError(f"dy is {dy.shape}; tokens {tokens.shape} and dw {dw.shape} need {(*tokens.shape, dw.shape[-1])}")
    scatter(dy, tokens, dw, "tokens")


def scatter(dy, index, dw, name):
    """dw[index] += dy, the index broadcast over dy's first axes."""
    sums, blocks = accumulator(dw, dw.shape, dy, "dw"), -(-dw.shape[1] // COLUMNS)
    scatter_columns(blocks, min(blocks, parts_of(dy.size)), rows(dy), indices(index, len(dw), name), sums)
    settle(dw, sums)


@divided
def add_gathered_rows(start, stop, x, index, w, y):
    """y = x + w[index], the index taken again and again until x ends."""
    for i in range(start, stop):
        x_row, w_row, y_row = x[i], w[index[i % len(index)]], y[i]
        for j in range(y_row.size):
            y_row[j] = x_row[j] + w_row[j]


def position_forward(x, w, positions):
    check_positions(positions, x)
    check_table(w, "w", x.shape[-1])
    if w.dtype != x.dtype:
        raise ValueError(f"w is {w.dtype} and x {x.dtype}; they need the same dtype")
    y, index = empty(x, x.shape), indices(positions, len(w), "positions")
    x_rows = rows(x)
    add_gathered_rows(len(x_rows), parts_of(x.size), x_rows, index, rows(w), rows(y))
    return y


def position_backward(dy, positions, dw):
    check_positions(positions, dy)
    check_table(dw, "dw", dy.shape[-1])
    scatter(dy, positions, dw, "positions")
