"""Attention in float32 by tiles: a block of queries at a time against all keys that it sees, on packed copies in scratch.

Scratch is laid out by `_layout`. Everything in it is padded to whole tiles, so the microkernel never reads or writes
outside; the arrays of the caller are only read and written row by row. Sizes: Sp keys and D, Dp numbers of a head after
padding; `panels` is the microkernel's packed form of a matrix, groups of TILE_COLUMNS columns, each without gaps.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .attention_rows import add as add_row
from .attention_rows import (
    dot,
    drop,
    masked,
    scores_gradient,
    set_zero,
    softmax_row,
    visible,
    weights_row,
)
from .dropout import row_key
from .jit import jit, parallel_jit
from .simd import TILE_COLUMNS, TILE_ROWS, floats, pack, pack_transposed, tile

BLOCK_ROWS = 8 * TILE_ROWS  # queries at a time,
BLOCK_SCORES = 1 << 17  # or fewer, where their scores would leave the cache
FLOAT = 4  # bytes


@jit
def round_up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@jit
def _layout(sizes):
    """(block, Sp, Dp): queries at a time, and the padded sizes. Sp has room for a tile of rows or columns behind S."""
    _, T, S, _, _, D = sizes
    Sp = round_up(S, TILE_COLUMNS) + round_up(TILE_ROWS, TILE_COLUMNS)
    block = min(BLOCK_ROWS, max(1, BLOCK_SCORES // Sp // TILE_ROWS) * TILE_ROWS, round_up(T, TILE_ROWS))
    return block, Sp, round_up(D, TILE_COLUMNS)


def forward_scratch(sizes):
    """Floats of scratch for one thread of the forward."""
    block, Sp, Dp = _layout(sizes)
    return 2 * Sp * Dp + 2 * block * Dp + block * Sp


def backward_scratch(sizes):
    """Floats of scratch for one thread of the backward."""
    block, Sp, Dp = _layout(sizes)
    return 5 * Sp * Dp + 5 * block * Dp + 2 * block * Sp


@jit
def _at(place, b, t, h):
    """The address of the row (b, t, h)."""
    return place[0] + b * place[1] + t * place[2] + h * place[3]


@jit
def _transposed_panels(place, b, h, S, D, target):
    """Packs the transpose of a head's (S, D): for each TILE_COLUMNS positions a panel (D, TILE_COLUMNS)."""
    for j in range(0, S, TILE_COLUMNS):
        pack_transposed(D, min(TILE_COLUMNS, S - j), _at(place, b, j, h), place[2] // FLOAT, target + FLOAT * j * D)


@jit
def _panels(source, row, n, n_rows, D, target):
    """Packs (n, D), its rows `row` floats apart: for each TILE_COLUMNS columns a panel (n_rows, TILE_COLUMNS)."""
    for d in range(0, D, TILE_COLUMNS):
        pack(n, min(TILE_COLUMNS, D - d), source + FLOAT * d, row, target + FLOAT * d * n_rows)


@jit
def _read_rows(source, stride, n, n_padded, D, factor, target):
    """target (n_padded, D) = factor * n rows of D floats, which lie `stride` bytes apart, and zeros below."""
    for i in range(n):
        x, out = floats(source + i * stride, D), floats(target + FLOAT * i * D, D)
        for d in range(D):
            out[d] = x[d] * factor
    set_zero(floats(target + FLOAT * n * D, (n_padded - n) * D))


@jit
def _write_rows(source, Dp, n, D, factor, target, stride):
    """n rows of `target`, which lie `stride` bytes apart = factor * source (n, Dp)[:, :D]."""
    for i in range(n):
        x, out = floats(source + FLOAT * i * Dp, D), floats(target + i * stride, D)
        for d in range(D):
            out[d] = x[d] * factor


@jit
def _products(a, panels, D, n, first, last, sees, target, Sp):
    """target (n, Sp)[:, first:last] = a (n, D) b^T, tile by tile; row i needs no key from sees + i on."""
    for j in range(first, last, TILE_COLUMNS):
        for i in range(0, n, TILE_ROWS):
            if j < sees + i + TILE_ROWS:
                tile(D, a + FLOAT * i * D, D, 1, panels + FLOAT * j * D, 0, 0, target + FLOAT * (i * Sp + j), Sp)


@jit
def _times_panels(a, Sp, n, first, lasts, panels, Dp, target):
    """target (n, Dp) = a (n, Sp)[:, first:last] b, b in panels of Sp rows; last: lasts[i] for the tile from row i."""
    for i in range(0, n, TILE_ROWS):
        for d in range(0, Dp, TILE_COLUMNS):
            b, out = panels + FLOAT * (d * Sp + first * TILE_COLUMNS), target + FLOAT * (i * Dp + d)
            tile(max(0, lasts[i] - first), a + FLOAT * (i * Sp + first), Sp, 1, b, 0, 0, out, Dp)


@jit
def _block_range(t0, n, T, S, causal, window):
    """The keys [first, last) that any of the queries t0 ... t0 + n - 1 sees, first at the beginning of a panel, and `sees`,
    how many the first of them sees, which for the later ones grows by one a row (causal) or is S (else)."""
    first = visible(t0, T, S, causal, window)[0] // TILE_COLUMNS * TILE_COLUMNS
    last = visible(t0 + n - 1, T, S, causal, window)[1]
    return first, last, (S - T + t0 + 1 if causal else S)


@jit
def _tile_last(t0, i, n, T, S, causal, window):
    """Behind the last key that a row of the tile beginning at row i of the block sees."""
    return visible(t0 + min(i + TILE_ROWS, n) - 1, T, S, causal, window)[1]


@parallel_jit
def forward_tiles(q, k, v, y, lse, sizes, options, mask, bias, scratch):
    """y and lse of all heads; q, k, v: places, the rest as attention.py prepares them."""
    B, T, S, H, G, D = sizes
    causal, window, scale, threshold, factor, low, high = options
    block, Sp, Dp = _layout(sizes)
    threads = scratch.shape[0]
    for thread in prange(threads):
        keys = scratch[thread].ctypes.data  # transposed panels
        values = keys + FLOAT * Sp * Dp
        queries = values + FLOAT * Sp * Dp
        result = queries + FLOAT * block * Dp
        scores = result + FLOAT * block * Dp
        lasts, inverse = np.empty(block, np.int64), np.empty(block, np.float32)
        packed = -1
        for task in range(thread * B * H // threads, (thread + 1) * B * H // threads):
            b, h = task // H, task % H
            g = h * G // H
            if packed != b * G + g:
                packed = b * G + g
                _transposed_panels(k, b, g, S, D, keys)
                _panels(_at(v, b, 0, g), v[2] // FLOAT, S, Sp, D, values)
            for t0 in range(0, T, block):
                n = min(block, T - t0)
                padded = round_up(n, TILE_ROWS)
                first, end, sees = _block_range(t0, n, T, S, causal, window)
                _read_rows(_at(q, b, t0, h), q[2], n, padded, D, scale, queries)
                _products(queries, keys, D, padded, first, end, sees, scores, Sp)
                for i in range(padded):
                    if i % TILE_ROWS == 0:
                        lasts[i] = _tile_last(t0, i, n, T, S, causal, window)
                    x, tile_last = floats(scores + FLOAT * i * Sp, Sp), lasts[i // TILE_ROWS * TILE_ROWS]
                    if i < n:
                        inverse[i] = _forward_row(x, b, h, t0 + i, first, tile_last, lse, sizes, options, mask, bias)
                    else:
                        set_zero(x[first:tile_last])
                _times_panels(scores, Sp, padded, first, lasts, values, Dp, result)
                for i in range(n):
                    x, out = floats(result + FLOAT * i * Dp, D), y[b, t0 + i, h]
                    for d in range(len(out)):
                        out[d] = x[d] * inverse[i]


@jit
def _forward_row(x, b, h, t, start, end, lse, sizes, options, mask, bias):
    """The scores x of one query become exp(x - max) after dropout, zero where it sees nothing in [start, end); writes its
    lse -> 1 / sum, by which the weighted sum of values is still to be multiplied."""
    H, T, S = sizes[3], sizes[1], sizes[2]
    causal, window, _, threshold, factor, low, high = options
    first, last = visible(t, T, S, causal, window)
    if first >= last:
        set_zero(x[start:end])
        lse[b, h, t] = -np.inf
        return np.float32(0)
    masked(x, b, h, t, first, last, mask, bias)
    inverse, lse[b, h, t] = softmax_row(x[first:last])
    if threshold:
        drop(x[first:last], row_key((b * H + h) * T + t, low, high), first, threshold, factor)
    set_zero(x[start:first])
    set_zero(x[last:end])
    return inverse


@parallel_jit
def backward_tiles(q, k, v, dy, y, dq, dk, dv, lse, sizes, options, mask, bias, dbias, scratch):
    """dq, dk, dv written, dbias added to; the arrays as places, the rest as attention.py prepares them."""
    B, T, S, H, G, D = sizes
    causal, window, scale, threshold, factor, low, high = options
    block, Sp, Dp = _layout(sizes)
    threads = scratch.shape[0]
    together = B if dbias.size else 1  # dbias sums over the batch: one thread has a head's whole batch
    tasks = B * G // together
    one = np.float32(1)
    for thread in prange(threads):
        keys_t = scratch[thread].ctypes.data  # transposed panels
        values_t = keys_t + FLOAT * Sp * Dp
        keys = values_t + FLOAT * Sp * Dp
        dkeys = keys + FLOAT * Sp * Dp  # sums, (Sp, Dp)
        dvalues = dkeys + FLOAT * Sp * Dp
        queries = dvalues + FLOAT * Sp * Dp  # (block, Dp), as rows and as panels, and so dy
        queries_p = queries + FLOAT * block * Dp
        douts = queries_p + FLOAT * block * Dp
        douts_p = douts + FLOAT * block * Dp
        result = douts_p + FLOAT * block * Dp
        p = result + FLOAT * block * Dp  # (block, Sp) weights,
        dp = p + FLOAT * block * Sp  # and their gradients
        lasts = np.empty(block, np.int64)
        for task in range(thread * tasks // threads * together, (thread + 1) * tasks // threads * together):
            g, b = task // B, task % B
            _transposed_panels(v, b, g, S, D, values_t)
            _transposed_panels(k, b, g, S, D, keys_t)
            _panels(_at(k, b, 0, g), k[2] // FLOAT, S, Sp, D, keys)
            set_zero(floats(dkeys, Sp * Dp))
            set_zero(floats(dvalues, Sp * Dp))
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for t0 in range(0, T, block):
                    n = min(block, T - t0)
                    padded = round_up(n, TILE_ROWS)
                    first, end, sees = _block_range(t0, n, T, S, causal, window)
                    _read_rows(_at(q, b, t0, h), q[2], n, padded, D, scale, queries)
                    _read_rows(_at(dy, b, t0, h), dy[2], n, padded, D, one, douts)
                    _panels(queries, D, n, block, D, queries_p)
                    _panels(douts, D, n, block, D, douts_p)
                    _products(queries, keys_t, D, padded, first, end, sees, p, Sp)
                    _products(douts, values_t, D, padded, first, end, sees, dp, Sp)
                    zeros_to = round_up(max(end - first, 0), TILE_ROWS) + first  # whole tiles of keys are added to
                    for i in range(padded):
                        if i % TILE_ROWS == 0:
                            lasts[i] = _tile_last(t0, i, n, T, S, causal, window)
                        p_row, dp_row = floats(p + FLOAT * i * Sp, Sp), floats(dp + FLOAT * i * Sp, Sp)
                        if i >= n:
                            set_zero(p_row[first:zeros_to])
                            set_zero(dp_row[first:zeros_to])
                            continue
                        t = t0 + i
                        delta = dot(floats(_at(dy, b, t, h), D), floats(_at(y, b, t, h), D))
                        _backward_row(p_row, dp_row, delta, b, h, t, first, zeros_to, lse, sizes, options, mask, bias, dbias)
                    _times_panels(dp, Sp, padded, first, lasts, keys, Dp, result)
                    _write_rows(result, Dp, n, D, scale, _at(dq, b, t0, h), dq[2])
                    _add_transposed(dp, Sp, n, first, end, sees, causal, queries_p, block, dkeys, Dp)
                    _add_transposed(p, Sp, n, first, end, sees, causal, douts_p, block, dvalues, Dp)
            _write_rows(dkeys, Dp, S, D, one, _at(dk, b, 0, g), dk[2])
            _write_rows(dvalues, Dp, S, D, one, _at(dv, b, 0, g), dv[2])


@jit
def _backward_row(p, dp, delta, b, h, t, start, end, lse, sizes, options, mask, bias, dbias):
    """One query: scores p become weights (after dropout), dp the gradient of the scores; zeros elsewhere in [start, end)."""
    H, T, S = sizes[3], sizes[1], sizes[2]
    causal, window, _, threshold, factor, low, high = options
    first, last = visible(t, T, S, causal, window)
    last = max(first, last)
    masked(p, b, h, t, first, last, mask, bias)
    weights_row(p[first:last], lse[b, h, t])
    key = row_key((b * H + h) * T + t, low, high)
    if threshold:
        drop(dp[first:last], key, first, threshold, factor)
    scores_gradient(p[first:last], dp[first:last], delta)
    if dbias.size:
        add_row(dbias[h, t, first:last], dp[first:last])
    if threshold:
        drop(p[first:last], key, first, threshold, factor)
    for x in (p, dp):
        set_zero(x[start : min(first, end)])
        set_zero(x[last:end])


@jit
def _add_transposed(a, Sp, n, first, end, sees, causal, panels, block, target, Dp):
    """target (Sp, Dp)[first:end] += a^T b, a (n, Sp), b (n, D) in panels; a tile of keys from its first query on."""
    for j in range(first, end, TILE_ROWS):
        begin = max(0, j - sees + 1) if causal else 0
        for d in range(0, Dp, TILE_COLUMNS):
            b = panels + FLOAT * (d * block + begin * TILE_COLUMNS)
            out = target + FLOAT * (j * Dp + d)
            tile(max(0, n - begin), a + FLOAT * (begin * Sp + j), 1, Sp, b, out, Dp, out, Dp)
