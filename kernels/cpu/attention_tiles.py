"""Attention of float32 by tiles: SIDE queries at a time against all keys that they see, on copies in scratch.

The copies are padded to whole tiles, so that tiles never read or write outside; the arrays of the caller are read and
written row by row, and only there. Sizes: D numbers of a head are padded to Dp, and lie W apart from row to row; S keys are
padded to Sp, and rows of scores lie P apart. `panels` is a matrix transposed for a tile: for each SIDE of its rows a panel
(Dp, SIDE), N floats in all. `place` is where an array of the caller lies: its address and the distances of its first three
axes, in bytes.

In bfloat16 tiles multiply pairs (bfloat16.py): of two numbers of a head in q k^T and dy v^T, of two keys in p v and dx k, of
two queries in dx^T q and p^T dy; panels are half as deep and twice as wide. What is rounded of q is scale q, and of p in the
forward exp(x - max), which is divided by its sum afterwards. Scores, softmax, deltas and all sums are float32. `pairs`
is True then, and otherwise None: two types, for each of which Numba compiles a kernel when it is first asked to, leaving out
what belongs to the other.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .attention_rows import add as add_row
from .attention_rows import dot, drop, masked, set_zero, visible
from .attention_vectors import copy_rows, exp_rows, gradient_rows, hide_row
from .bfloat16 import copy_pairs, pack_pairs
from .dropout import row_key
from .jit import jit, parallel_jit
from .simd import LANES, TILE_COLUMNS, floats, make_tile, transpose_block
from .vmath import two_parts

SIDE = max(LANES, 8)  # of a tile, in queries, in keys and in numbers of a head: a square wastes least along the diagonal
tile = make_tile(rows=SIDE, vectors=SIDE // LANES, b_in_rows=True)
tile_of_pairs = make_tile(rows=SIDE, vectors=SIDE // LANES, b_in_rows=True, pairs=True)
flat_tile_of_pairs = make_tile(rows=SIDE // 2, vectors=2 * SIDE // LANES, b_in_rows=True, pairs=True)
BLOCK_TILES = 4  # of queries that the backward takes together, as that many times SIDE are the steps of dk and dv,
BLOCK_SCORES = 1 << 16  # or fewer, where their scores would leave the cache
FLOAT = 4  # bytes


@jit
def round_up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@jit
def _layout(sizes):
    """(Sp, P, N, W): the padded sizes. P and W are odd numbers of vectors: rows of a tile fall into all sets of a cache."""
    Sp, Dp = round_up(sizes[2], SIDE), round_up(sizes[5], SIDE)
    return Sp, Sp | LANES, round_up(Sp, 2 * SIDE) * Dp, Dp | LANES


@jit
def _block(sizes):
    """The backward's queries at a time."""
    _, P, _, _ = _layout(sizes)
    return min(SIDE * max(1, min(BLOCK_TILES, BLOCK_SCORES // (P * SIDE))), round_up(sizes[1], SIDE))


def forward_scratch(sizes):
    """Floats of scratch for one thread of the forward."""
    Sp, P, N, W = _layout(sizes)
    return N + Sp * W + 2 * SIDE * W + SIDE * P


def backward_scratch(sizes):
    """Floats of scratch for one thread of the backward."""
    Sp, P, N, W = _layout(sizes)
    block = _block(sizes)
    return 2 * N + 3 * Sp * W + 2 * block * W + SIDE * W + 2 * block * P + SIDE * P


@jit
def _steps(pairs, n):
    """How many steps of a tile n steps of a product are."""
    return n if pairs is None else (n + 1) // 2


@jit
def _width(pairs):
    """Columns of a panel."""
    return SIDE if pairs is None else 2 * SIDE


@jit
def _multiply(pairs, k, n, a, a_row, a_step, b, b_row, b_column, adds, c, c_row):
    """c (SIDE, n) = a b, or += where it adds, over k steps of a tile, and up to a whole tile's columns.

    Column j of b, the first of a tile, lies at b + j * b_column. To spread a number over a vector, LLVM needs an instruction
    where pairs are multiplied, and none for floats: in flat tiles, of half the rows and two vectors, two share it.
    """
    for j in range(0, n, _width(pairs)):
        b_part, c_part = b + FLOAT * j * b_column, c + FLOAT * j
        if pairs is None:
            tile(k, a, a_row, a_step, b_part, b_row, c_part if adds else 0, c_row, c_part, c_row)
        elif n - j <= SIDE:
            tile_of_pairs(k, a, a_row, a_step, b_part, b_row, c_part if adds else 0, c_row, c_part, c_row)
        else:
            for i in range(0, SIDE, SIDE // 2):
                rows, out = a + FLOAT * i * a_row, c_part + FLOAT * i * c_row
                flat_tile_of_pairs(k, rows, a_row, a_step, b_part, b_row, out if adds else 0, c_row, out, c_row)


@jit
def _at(place, b, t, h):
    """The address of the row (b, t, h)."""
    return place[0] + b * place[1] + t * place[2] + h * place[3]


@jit
def _read_rows(place, b, t, h, n, D, factor, target, W):
    """target (n, W)[:, :D] = factor * n rows of head h from t on, and zeros up to a whole tile's columns."""
    copy_rows(n, D, _at(place, b, t, h), place[2] // FLOAT, target, W, factor, 0, round_up(D, SIDE))


@jit
def _write_rows(source, W, n, D, factors, step, place, b, t, h):
    """n rows of head h from t on = source (n, W)[:, :D], each by its factor, the next one of which is `step` further."""
    copy_rows(n, D, source, W, _at(place, b, t, h), place[2] // FLOAT, factors, step, D)


@jit
def _read_steps(pairs, place, b, h, S, D, one, target, W):
    """A head's (S, D), each row of which is a step of a product: rows, or rows of pairs of them."""
    if pairs is None:
        _read_rows(place, b, 0, h, S, D, one, target, W)
    else:
        pack_pairs(S, D, round_up(D, SIDE), _at(place, b, 0, h), place[2] // FLOAT, target, TILE_COLUMNS, W)


@jit
def _read_panels(pairs, place, b, h, S, D, one, aside, W, panels):
    """A head's (S, D) as panels, zeros beyond S."""
    steps, width = round_up(_steps(pairs, D), SIDE), _width(pairs)
    for s in range(0, S, SIDE):
        n = min(SIDE, S - s)
        if pairs is None:
            _read_rows(place, b, s, h, n, D, one, aside, W)
        else:
            copy_pairs(n, D, _at(place, b, s, h), place[2] // FLOAT, aside, W)
        set_zero(floats(aside + FLOAT * n * W, (SIDE - n) * W))
        for j in range(0, SIDE, LANES):
            for d in range(0, steps, LANES):
                target = panels + FLOAT * (s // width * width * steps + d * width + s % width + j)
                transpose_block(LANES, aside + FLOAT * (j * W + d), W, target, width)


@jit
def _keys_seen(pairs, t, n, T, S, causal, window):
    """The keys [first, last) that any of the queries t ... t + n - 1 sees, first at the beginning of a panel."""
    first, last = visible(t, T, S, causal, window)[0], visible(t + n - 1, T, S, causal, window)[1]
    return first // _width(pairs) * _width(pairs), last


@jit
def _seen_by(s, t, n, T, S, causal, window):
    """Which of the queries t ... t + n - 1, counted from t, see any of the keys s ... s + SIDE - 1: [begin, end)."""
    position = S - T + t
    return max(0, s - position) if causal else 0, min(n, s + SIDE - 1 + window - position)


@jit
def _scores(pairs, a, W, panels, D, first, last, target, P, narrowed):
    """target (SIDE, P)[:, first:last] = a (SIDE, W) b^T, b in panels; up to a whole tile's columns.

    narrowed: where pairs may be written, as far apart as what they are of, and in its place if it is not needed any more.
    """
    steps = _steps(pairs, D)
    depth = round_up(steps, SIDE)
    if pairs is not None:
        copy_pairs(SIDE, D, a, W, narrowed, W)
        a = narrowed
    b, out = panels + FLOAT * first * depth, target + FLOAT * first
    _multiply(pairs, steps, last - first, a, W, 1, b, _width(pairs), depth, False, out, P)


@jit
def _weighted_sum(pairs, a, P, first, last, rows, W, D, target, narrowed):
    """target (SIDE, W) = a (SIDE, P)[:, first:last] rows[first:last]."""
    a, b = a + FLOAT * first, rows + FLOAT * _steps(pairs, first) * W
    if pairs is not None:
        copy_pairs(SIDE, last - first, a, P, narrowed, P)
        a = narrowed
    _multiply(pairs, _steps(pairs, last - first), D, a, P, 1, b, W, 1, False, target, W)


@jit
def _pair_queries(pairs, n, columns, x, row, target):
    """In bfloat16, n queries' rows x become pairs of queries at target, which may be where they are or before it."""
    if pairs is not None:
        pack_pairs(n, columns, columns, x, row, target, TILE_COLUMNS, row)


@jit
def _add_transposed(pairs, a, P, begin, end, rows, W, D, target):
    """target (SIDE, W) += a (n, P)[begin:end, :SIDE]^T rows[begin:end]. Pairs may bring in one query more, of zeros in a."""
    first = begin if pairs is None else begin // 2
    steps = _steps(pairs, end) - first if begin < end else 0
    _multiply(pairs, steps, D, a + FLOAT * first * P, 1, P, rows + FLOAT * first * W, W, 1, True, target, W)


@jit
def _deltas(douts, W, y, b, t, h, n, D, deltas):
    """sum_D(dy y) of n queries from t on."""
    for i in range(n):
        deltas[i] = dot(floats(douts + FLOAT * i * W, D), floats(_at(y, b, t + i, h), D))


@parallel_jit
def forward_tiles(pairs, q, k, v, y, lse, sizes, options, mask, bias, scratch):
    """y and lse of all heads; q, k, v, y: places, the rest as attention.py prepares them."""
    B, T, S, H, G, D = sizes
    causal, window, scale, threshold, factor, low, high = options
    Sp, P, N, W = _layout(sizes)
    threads = scratch.shape[0]
    for thread in prange(threads):
        keys = scratch[thread].ctypes.data  # panels
        values = keys + FLOAT * N  # rows
        queries = values + FLOAT * Sp * W
        result = queries + FLOAT * SIDE * W
        scores = result + FLOAT * SIDE * W
        tops, totals = np.empty(SIDE, np.float32), np.empty(SIDE, np.float32)
        factors = np.array([1, scale], np.float32)
        one, to_scores = factors.ctypes.data, factors[1:].ctypes.data
        packed = -1
        for task in range(thread * B * H // threads, (thread + 1) * B * H // threads):
            b, h = task // H, task % H
            g = h * G // H
            if packed != b * G + g:
                packed = b * G + g
                _read_panels(pairs, k, b, g, S, D, one, queries, W, keys)
                _read_steps(pairs, v, b, g, S, D, one, values, W)
            for t in range(0, T, SIDE):
                n = min(SIDE, T - t)
                first, last = _keys_seen(pairs, t, n, T, S, causal, window)
                _read_rows(q, b, t, h, n, D, to_scores, queries, W)
                _scores(pairs, queries, W, keys, D, first, last, scores, P, queries)
                end = round_up(last, SIDE)
                _softmax_tile(scores, P, b, h, t, n, first, end, lse, tops, totals, sizes, options, mask, bias)
                _weighted_sum(pairs, scores, P, first, last, values, W, D, result, scores)
                _write_rows(result, W, n, D, totals.ctypes.data, 1, y, b, t, h)


@jit
def _softmax_tile(scores, P, b, h, t, n, first, last, lse, tops, totals, sizes, options, mask, bias):
    """n queries' scores[:, first:last] become exp(x - max) after dropout, zero where they see nothing. Writes their lse, and
    in the place of the sums what the weighted sums of values are still to be multiplied by."""
    T, H = sizes[1], sizes[3]
    _, _, _, threshold, factor, low, high = options
    _hide_tile(scores, P, b, h, t, n, first, last, sizes, options, mask, bias)
    for i in range(0, SIDE, LANES):
        place = FLOAT * (i * P + first)
        exp_rows(scores + place, P, last - first, tops.ctypes.data + FLOAT * i, totals.ctypes.data + FLOAT * i)
    for i in range(n):
        lse[b, h, t + i] = np.float64(tops[i]) + np.log(np.float64(totals[i]))
        totals[i] = np.float32(1) / totals[i] if totals[i] != 0 else np.float32(0)
        if threshold:
            key, row = row_key((b * H + h) * T + t + i, low, high), floats(scores + FLOAT * i * P, last)
            drop(row[first:last], key, first, threshold, factor)


@jit
def _hide_tile(scores, P, b, h, t, n, first, last, sizes, options, mask, bias):
    """Adds the bias to n queries' scores[:, first:last]; -inf where a query may not look."""
    _, T, S, _, _, _ = sizes
    for i in range(n):
        x = scores + FLOAT * i * P
        seen, unseen = visible(t + i, T, S, options[0], options[1])
        if seen > first or unseen < last:
            hide_row(x + FLOAT * first, last - first, seen - first, unseen - first)
        masked(floats(x, last), b, h, t + i, seen, unseen, mask, bias)


@parallel_jit
def backward_tiles(pairs, q, k, v, dy, y, dq, dk, dv, lse, sizes, options, mask, bias, dbias, scratch):
    """dq, dk, dv written, dbias added to; the arrays as places, the rest as attention.py prepares them."""
    B, T, S, H, G, D = sizes
    causal, window, scale, threshold, factor, low, high = options
    Sp, P, N, W = _layout(sizes)
    block, threads = _block(sizes), scratch.shape[0]
    together = B if dbias.size else 1  # dbias sums over the batch: one thread has a head's whole batch
    tasks = B * G // together
    for thread in prange(threads):
        keys_t = scratch[thread].ctypes.data  # panels
        values_t = keys_t + FLOAT * N
        keys = values_t + FLOAT * N  # rows
        dkeys = keys + FLOAT * Sp * W  # sums
        dvalues = dkeys + FLOAT * Sp * W
        queries = dvalues + FLOAT * Sp * W
        douts = queries + FLOAT * block * W
        result = douts + FLOAT * block * W
        p = result + FLOAT * SIDE * W  # (block, P) weights,
        dp = p + FLOAT * block * P  # and their gradients
        narrowed = dp + FLOAT * block * P  # of these, pairs of keys
        lses, rest, deltas = np.empty(SIDE, np.float32), np.empty(SIDE, np.float32), np.empty(SIDE, np.float32)
        factors = np.array([1, scale], np.float32)
        one, to_scores = factors.ctypes.data, factors[1:].ctypes.data
        for task in range(thread * tasks // threads * together, (thread + 1) * tasks // threads * together):
            g, b = (task // B, task % B) if dbias.size else (task % G, task // G)
            _read_panels(pairs, v, b, g, S, D, one, result, W, values_t)
            _read_panels(pairs, k, b, g, S, D, one, result, W, keys_t)
            _read_steps(pairs, k, b, g, S, D, one, keys, W)
            set_zero(floats(dkeys, Sp * W))
            set_zero(floats(dvalues, Sp * W))
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for t0 in range(0, T, block):
                    n0 = min(block, T - t0)
                    _read_rows(q, b, t0, h, n0, D, to_scores, queries, W)
                    _read_rows(dy, b, t0, h, n0, D, one, douts, W)
                    for i in range(0, n0, SIDE):
                        t, n = t0 + i, min(SIDE, n0 - i)
                        first, last = _keys_seen(pairs, t, n, T, S, causal, window)
                        p_tile, dp_tile = p + FLOAT * i * P, dp + FLOAT * i * P
                        _scores(pairs, queries + FLOAT * i * W, W, keys_t, D, first, last, p_tile, P, result)
                        _scores(pairs, douts + FLOAT * i * W, W, values_t, D, first, last, dp_tile, P, result)
                        _deltas(douts + FLOAT * i * W, W, y, b, t, h, n, D, deltas)
                        end = round_up(last, SIDE)
                        _gradient_tile(
                            p_tile, dp_tile, P, b, h, t, n, first, end,
                            lse, lses, rest, deltas, sizes, options, mask, bias, dbias,
                        )  # fmt: skip
                        _weighted_sum(pairs, dp_tile, P, first, last, keys, W, D, result, narrowed)
                        _write_rows(result, W, n, D, to_scores, 0, dq, b, t, h)
                        place = FLOAT * (_steps(pairs, i) * P + first)
                        _pair_queries(pairs, n, end - first, p_tile + FLOAT * first, P, p + place)
                        _pair_queries(pairs, n, end - first, dp_tile + FLOAT * first, P, dp + place)
                    _pair_queries(pairs, n0, round_up(D, SIDE), queries, W, queries)
                    _pair_queries(pairs, n0, round_up(D, SIDE), douts, W, douts)
                    first, last = _keys_seen(pairs, t0, n0, T, S, causal, window)
                    for s in range(first, last, SIDE):
                        begin, end = _seen_by(s, t0, n0, T, S, causal, window)
                        _add_transposed(pairs, dp + FLOAT * s, P, begin, end, queries, W, D, dkeys + FLOAT * s * W)
                        _add_transposed(pairs, p + FLOAT * s, P, begin, end, douts, W, D, dvalues + FLOAT * s * W)
            _write_rows(dkeys, W, S, D, one, 0, dk, b, 0, g)
            _write_rows(dvalues, W, S, D, one, 0, dv, b, 0, g)


@jit
def _gradient_tile(p, dp, P, b, h, t, n, first, last, lse, lses, rest, deltas, sizes, options, mask, bias, dbias):
    """n queries: scores p[:, first:last] become weights (after dropout), dp the gradients of the scores; zeros where a query
    sees nothing. deltas: of each, sum_S(dp p) = sum_D(dy y)."""
    H, T, S = sizes[3], sizes[1], sizes[2]
    causal, window, _, threshold, factor, low, high = options
    _hide_tile(p, P, b, h, t, n, first, last, sizes, options, mask, bias)
    for i in range(n):
        row_lse = lse[b, h, t + i]
        lses[i], remainder = two_parts(row_lse if row_lse != -np.inf else np.inf, lses)  # exp(-inf - inf) = 0
        rest[i] = np.exp(-remainder)
        if threshold:
            key, drow = row_key((b * H + h) * T + t + i, low, high), floats(dp + FLOAT * i * P, last)
            drop(drow[first:last], key, first, threshold, factor)
    for i in range(0, SIDE, LANES):
        place, row = FLOAT * (i * P + first), FLOAT * i
        gradient_rows(
            p + place, dp + place, P, last - first, lses.ctypes.data + row, rest.ctypes.data + row, deltas.ctypes.data + row
        )
    for i in range(n):
        row, drow = floats(p + FLOAT * i * P, last), floats(dp + FLOAT * i * P, last)
        if dbias.size:
            seen, unseen = visible(t + i, T, S, causal, window)
            add_row(dbias[h, t + i, seen:unseen], drow[seen:unseen])
        if threshold:
            drop(row[first:last], row_key((b * H + h) * T + t + i, low, high), first, threshold, factor)
