"""Rows out of a table, and back into it (embedding.cu). Backward, the rows are sorted by their index first: on the host, if
the index is there, so that the GPU need not be waited for."""

from __future__ import annotations

import numpy as np

from ..common import check_positions, check_table
from .arrays import PACK, WARP, accumulator, checked, indices, plain, row_layout, rows, settle, wide
from .device import name_of, to_device
from .memory import empty
from .module import Kernels

KERNELS = Kernels("embedding.cu", "gather_rows<T>", "scatter_rows<T, T>", "scatter_rows<T, wide<T>>")


def embedding_forward(tokens, w):
    """y = w[tokens].  tokens (N,) ints in [0, V), w (V, C) -> y (N, C)."""
    check_table(w, "w")
    y, index = empty(w, (*tokens.shape, w.shape[1])), indices(tokens, len(w), "tokens", w)
    y_rows = rows(y)
    KERNELS.launch("gather_rows<T>", w, *row_layout(y_rows), None, index, rows(w), y_rows, *y_rows.shape, len(index))
    return y


def embedding_backward(dy, tokens, dw):
    """Adds into dw (V, C): each row of dy onto its token's row. A token that occurs twice receives both."""
    check_table(dw, "dw")
    if dy.shape != (*tokens.shape, dw.shape[-1]):
        raise ValueError(f"dy is {dy.shape}; tokens {tokens.shape} and dw {dw.shape} need {(*tokens.shape, dw.shape[-1])}")
    scatter(dy, checked(tokens, len(dw), "tokens"), dw)


def scatter(dy, index, dw):
    """dw[index] += dy, an index for each row. dw: of a parameter, or of activations and then of their dtype."""
    dy_rows, narrow = rows(dy), dw.dtype == dy.dtype and name_of(dw.dtype) != wide(dy)
    sums = plain(dw) if narrow else accumulator(dw, dw.shape, dy, "dw")
    name = f"scatter_rows<T, {'T' if narrow else 'wide<T>'}>"
    place = np.argsort(index, kind="stable")
    in_order = to_device(index[place], dy), to_device(place, dy)
    grid = -(-len(dy_rows) // 4), -(-dy_rows.shape[1] * dy.itemsize // (PACK * WARP))
    KERNELS.launch(name, dy, grid, (WARP, 4), dy_rows, *in_order, sums, *dy_rows.shape)
    settle(dw, sums)


def position_forward(x, w, positions):
    """y = x + w[positions].  x (B, T, C), w (T_max, C), positions (T,) or (B, T) ints -> y (B, T, C)."""
    check_positions(positions, x)
    check_table(w, "w", x.shape[-1])
    if w.dtype != x.dtype:
        raise ValueError(f"w is {w.dtype} and x {x.dtype}; they need the same dtype")
    index = indices(positions, len(w), "positions", x)
    x_rows, y = rows(x), empty(x, x.shape)
    KERNELS.launch("gather_rows<T>", x, *row_layout(x_rows), x_rows, index, rows(w), y, *x_rows.shape, len(index))
    return y


def position_backward(dy, positions, dw):
    """Adds into dw (T_max, C): each row of dy onto its position's row. (dx is dy itself.)"""
    check_positions(positions, dy)
    check_table(dw, "dw", dy.shape[-1])
    index, n = checked(positions, len(dw), "positions"), dy.shape[0] * dy.shape[1]
    scatter(dy, np.tile(index, n // max(len(index), 1)), dw)
