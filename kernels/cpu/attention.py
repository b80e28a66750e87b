"""Fused attention: the T x S matrix never exists whole.

As in FlashAttention (Dao et al. 2022) the queries are taken a block of rows at a time, whose scores stay in the cache
between the two products that make and use them, and the backward computes them again from lse. The keys and values of a
head are packed for the microkernel once. A task is one head of one sequence (backward: one key/value head, with all its
query heads, so that nobody else adds into its dk and dv), and the tasks are divided over the threads.

Two ways: `_tiles` for float32, by products of tiles on padded copies in scratch memory, and `_rows`, one query at a time
and for either dtype: for the few queries of a decoding step, bound by reading the cache, and for float64.

Inside `with kernels.autocast("bfloat16"):` the factors of all products of `_tiles` are rounded to bfloat16; softmax and
sums are float32. `_rows` computes as ever: what bounds a decoding step is reading keys and values, which are float32.
"""

from __future__ import annotations

import math

import numpy as np

from ..common import used_positions
from . import memory
from .arrays import ByDtype, accumulator, log_sums, plain, settle
from .attention_rows import backward_rows, forward_rows, place, readable
from .attention_tiles import backward_scratch, backward_tiles, forward_scratch, forward_tiles
from .bfloat16 import asked_for
from .dropout import mask_of
from .parallel import threads

FEW_QUERIES = 4  # fewer than these per head are computed row by row
FAR = 1 << 40  # a window that hides nothing
NO_MASK = np.zeros((0, 0, 0), np.uint8)
ALL = np.zeros(0, np.int64)  # keys are there
NO_BIAS = ByDtype(3)


def _gradients(q, sizes):
    """Arrays for dq, dk, dv: views that join_heads joins without a copy, of one array if T == S, else dk and dv of one."""
    B, T, S, H, G, D = sizes
    if T == S:
        joined = memory.empty(q, (B, T, H + 2 * G, D))
        return joined[:, :, :H], joined[:, :, H : H + G], joined[:, :, H + G :]
    joined = memory.empty(q, (B, S, 2 * G, D))
    return memory.empty(q, q.shape), joined[:, :, :G], joined[:, :, G:]


def _sizes(q, k, v):
    """(B, T, S, H, G, D). TypeError or ValueError for arrays that do not fit together, because kernels check no bounds."""
    if q.dtype not in NO_BIAS or not q.dtype == k.dtype == v.dtype:
        raise TypeError(
            f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; the cpu set's attention needs all three in float32, or all three "
            "in float64: convert them"
        )
    if q.ndim == k.ndim == 4 and k.shape == v.shape:
        (B, T, H, D), (_, S, G, _) = q.shape, k.shape
        if k.shape == (B, S, G, D) and (H % G == 0 if G else H == 0):
            return B, T, S, H, G, D
    raise ValueError(
        f"q {q.shape}, k {k.shape}, v {v.shape} must be (B, T, H, D), (B, S, G, D), (B, S, G, D), where H is a multiple of G"
    )


def _by_tiles(q, sizes):
    _, T, S, _, _, D = sizes
    return q.dtype == np.float32 and T >= FEW_QUERIES and S > 0 and D > 0


def _pairs():
    """True where the products are of pairs of bfloat16s, None where of floats: two types, for two compiled versions."""
    return True if asked_for() else None


def _threads(tasks):
    return max(1, min(threads(), tasks))


def _options(q, sizes, causal, window, scale, dropout, seed):
    """What is the same for all rows: causal, window, scale, dropout's threshold, its factor and the seed's halves."""
    scale = q.dtype.type(1 / math.sqrt(sizes[5]) if scale is None else scale)
    window = FAR if window is None else window
    low, high, threshold, factor = mask_of(dropout, seed)
    return bool(causal), window, scale, np.uint32(threshold), q.dtype.type(factor), np.uint32(low), np.uint32(high)


def _masks(q, sizes, mask, bias):
    """mask as uint8 (1 or B, 1 or T, S) and bias (H, T, S), contiguous; empty arrays where there is none."""
    B, T, S, H, _, _ = sizes
    if mask is None:
        mask = NO_MASK
    else:
        rows = mask[:, None] if mask.ndim == 2 else mask
        if mask.dtype != np.bool_ or rows.ndim != 3 or any(m not in (1, n) for m, n in zip(rows.shape, (B, T, S))):
            raise ValueError(
                f"mask is {mask.dtype} {mask.shape}; it must be bool, (B, S) or (B, T, S), where (B, T, S) is {(B, T, S)}"
            )
        mask = np.ascontiguousarray(np.broadcast_to(rows, (*rows.shape[:2], S))).view(np.uint8)
    return mask, NO_BIAS[q.dtype] if bias is None else _given(bias, (H, T, S), q, "bias")


def _given(a, shape, q, name):
    """a, contiguous, after checking that it has this shape and the dtype of q."""
    if a.shape != shape or a.dtype != q.dtype:
        raise ValueError(f"{name} is {a.dtype} {a.shape}; with these q, k, v it must be {q.dtype} {shape}")
    return plain(a)


def attention_forward(q, k, v, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0):
    sizes = _sizes(q, k, v)
    B, T, S, H, G, D = sizes
    y, lse = memory.empty(q, (B, T, H, D)), memory.empty(q, (B, H, T), np.float64)
    q, k, v = (readable(a) for a in (q, k, v))  # alive until the kernel is done
    places, masks = [place(a) for a in (q, k, v)], _masks(q, sizes, mask, bias)
    options = _options(q, sizes, causal, window, scale, dropout, seed)
    parts = _threads(B * H)
    if _by_tiles(q, sizes):
        scratch = memory.empty(q, (parts, forward_scratch(sizes)))
        forward_tiles(_pairs(), *places, place(y), lse, sizes, options, *masks, scratch)
    else:
        forward_rows(*places, y, lse, sizes, options, *masks, ALL, parts)
    return y, lse


def attention_backward(
    dy, q, k, v, y, lse,
    mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0, dbias=None,
):  # fmt: skip
    sizes = _sizes(q, k, v)
    B, T, S, H, G, D = sizes
    for name, a in (("dy", dy), ("y", y)):
        if a.shape != q.shape or a.dtype != q.dtype:
            raise ValueError(f"{name} is {a.dtype} {a.shape}; it must be {q.dtype} {q.shape}, as q")
    gradients = _gradients(q, sizes)
    read = [readable(a) for a in (q, k, v, dy, y)]
    places, masks = [place(a) for a in (*read, *gradients)], _masks(q, sizes, mask, bias)
    options = _options(q, sizes, causal, window, scale, dropout, seed)
    bias_gradient = accumulator(dbias, (H, T, S), q, "dbias")
    arguments = *places, log_sums(lse, (B, H, T)), sizes, options, *masks, bias_gradient
    parts = _threads(B * G if dbias is None else G)
    if _by_tiles(q, sizes):
        backward_tiles(_pairs(), *arguments, memory.empty(q, (parts, backward_scratch(sizes))))
    else:
        backward_rows(*arguments, parts)
    settle(dbias, bias_gradient)
    return gradients


def attention_step(q, keys, values, end, mask=None, causal=False, window=None, scale=None, bias=None):
    sizes = _sizes(q, keys, values)
    B, T, S, H, _, D = sizes
    used_positions(end, T, S)
    y, lse = memory.empty(q, (B, T, H, D)), memory.empty(q, (B, H, T), np.float64)
    q, keys, values = (readable(a) for a in (q, keys, values))
    places, options = [place(a) for a in (q, keys, values)], _options(q, sizes, causal, window, scale, 0.0, 0)
    forward_rows(*places, y, lse, sizes, options, *_masks(q, sizes, mask, bias), end, _threads(B * H))
    return y
