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


def table(w, name):
    """w, after checking that it has a row for each token or position."""
    if w.ndim != 2:
        raise ValueError(f"{name} is {w.shape}; it must be (rows, C)")
    return w


def embedding_forward(tokens, w):
    table(w, "w")
    y, index = empty(w, (*tokens.shape, w.shape[1])), indices(tokens, len(w), "tokens")
    gather_rows(len(index), parts_of(y.size), index, rows(w), rows(y))
    return y


def embedding_backward(dy, tokens, dw):
    if dy.shape != (*tokens.shape, table(dw, "dw").shape[1]):
        raise ValueError(f"dy is {dy.shape}; tokens {tokens.shape} and dw {dw.shape} need {(*tokens.shape, dw.shape[-1])}")
    scatter(dy, tokens, dw, "tokens")


def scatter(dy, index, dw, name):
    """dw[index] += dy, the index broadcast over dy's first axes."""
    sums, blocks = accumulator(dw, dw.shape, dy, "dw"), -(-dw.shape[1] // COLUMNS)
    scatter_columns(blocks, min(blocks, parts_of(dy.size)), rows(dy), indices(index, len(dw), name), sums)
    settle(dw, sums)


def broadcastable(positions, x):
    """Positions (T,), the same for each row of the batch, or (B, T)."""
    if x.ndim != 3:
        raise ValueError(f"x is {x.shape}; it must be (B, T, C)")
    shape = positions.shape[1:] if positions.shape[:-1] == (1,) else positions.shape
    if shape not in (x.shape[-2:-1], x.shape[:-1]):
        raise ValueError(f"positions are {positions.shape}; x {x.shape} needs {x.shape[-2:-1]} or {x.shape[:-1]} of them")
    return positions


@divided
def add_gathered_rows(start, stop, x, index, w, y):
    """y = x + w[index], the index taken again and again until x ends."""
    for i in range(start, stop):
        x_row, w_row, y_row = x[i], w[index[i % len(index)]], y[i]
        for j in range(y_row.size):
            y_row[j] = x_row[j] + w_row[j]


def position_forward(x, w, positions):
    y = empty(x, x.shape)
    if table(w, "w").shape[1:] != x.shape[2:] or w.dtype != x.dtype:
        raise ValueError(f"w is {w.dtype} {w.shape}; x is {x.dtype} {x.shape}: they need the same channels")
    index = indices(broadcastable(positions, x), len(w), "positions")
    add_gathered_rows(x.size // x.shape[-1], parts_of(x.size), rows(x), index, rows(w), rows(y))
    return y


def position_backward(dy, positions, dw):
    index = broadcastable(positions, dy)
    if table(dw, "dw").shape[1] != dy.shape[-1]:
        raise ValueError(f"dw is {dw.shape}; dy is {dy.shape}: they need the same channels")
    scatter(dy, index, dw, "positions")
