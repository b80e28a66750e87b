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
from numba import get_num_threads

from . import memory
from .attention_rows import backward_rows, forward_rows, place
from .attention_tiles import backward_scratch, backward_tiles, forward_scratch, forward_tiles
from .bfloat16 import asked_for
from .dropout import mask_of

FEW_QUERIES = 4  # fewer than these per head are computed row by row
FAR = 1 << 40  # a window that hides nothing
NO_MASK = np.zeros((0, 0, 0), np.uint8)
ALL = np.zeros(0, np.int64)  # keys are there
NO_BIAS = {np.dtype(dtype): np.zeros((0, 0, 0), dtype) for dtype in ("f4", "f8")}


def _gradients(q, sizes):
    """Arrays for dq, dk, dv: views that join_heads joins without a copy, of one array if T == S, else dk and dv of one."""
    B, T, S, H, G, D = sizes
    if T == S:
        joined = memory.empty(q, (B, T, H + 2 * G, D))
        return joined[:, :, :H], joined[:, :, H : H + G], joined[:, :, H + G :]
    joined = memory.empty(q, (B, S, 2 * G, D))
    return memory.empty(q, q.shape), joined[:, :, :G], joined[:, :, G:]


def _sizes(q, k):
    """(B, T, S, H, G, D)."""
    (B, T, H, D), (S, G) = q.shape, k.shape[1:3]
    return B, T, S, H, G, D


def _by_tiles(q, sizes):
    _, T, S, _, _, D = sizes
    return q.dtype == np.float32 and T >= FEW_QUERIES and S > 0 and D > 0


def _pairs():
    """True where the products are of pairs of bfloat16s, None where of floats: two types, for two compiled versions."""
    return True if asked_for() else None


def _threads(tasks):
    return max(1, min(get_num_threads(), tasks))


def _is_readable(x):
    """Whether the kernels can take x as it lies: the heads' numbers side by side, and rows whole numbers apart."""
    b, s, h, d = x.strides
    return (d == x.itemsize or x.shape[3] == 1) and (b | s | h) % x.itemsize == 0


def _options(q, sizes, causal, window, scale, dropout, seed):
    """What is the same for all rows: causal, window, scale, dropout's threshold, its factor and the seed's halves."""
    scale = q.dtype.type(1 / math.sqrt(sizes[5]) if scale is None else scale)
    window = FAR if window is None else window
    low, high, threshold, factor = mask_of(dropout, seed)
    return bool(causal), window, scale, np.uint32(threshold), q.dtype.type(factor), np.uint32(low), np.uint32(high)


def _masks(q, mask, bias):
    """mask as uint8 (1 or B, 1 or T, S) and bias (H, T, S), contiguous; empty arrays where there is none."""
    if mask is None:
        mask = NO_MASK
    else:
        mask = np.ascontiguousarray(mask[:, None] if mask.ndim == 2 else mask).view(np.uint8)
    return mask, NO_BIAS[q.dtype] if bias is None else np.ascontiguousarray(bias, q.dtype)


def attention_forward(q, k, v, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0):
    sizes = _sizes(q, k)
    B, T, S, H, G, D = sizes
    y, lse = memory.empty(q, (B, T, H, D)), memory.empty(q, (B, H, T))
    q, k, v = (a if _is_readable(a) else np.ascontiguousarray(a) for a in (q, k, v))  # alive until the kernel is done
    places, masks = [place(a) for a in (q, k, v)], _masks(q, mask, bias)
    options = _options(q, sizes, causal, window, scale, dropout, seed)
    threads = _threads(B * H)
    if _by_tiles(q, sizes):
        scratch = memory.empty(q, (threads, forward_scratch(sizes)))
        forward_tiles(_pairs(), *places, place(y), lse, sizes, options, *masks, scratch)
    else:
        forward_rows(*places, y, lse, sizes, options, *masks, ALL, threads)
    return y, lse


def attention_backward(
    dy, q, k, v, y, lse,
    mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0, dbias=None,
):  # fmt: skip
    sizes = _sizes(q, k)
    B, T, S, H, G, D = sizes
    gradients = _gradients(q, sizes)
    read = [a if _is_readable(a) else np.ascontiguousarray(a) for a in (q, k, v, dy, y)]
    places, masks = [place(a) for a in (*read, *gradients)], _masks(q, mask, bias)
    options = _options(q, sizes, causal, window, scale, dropout, seed)
    bias_gradient = np.zeros((0, 0, 0), q.dtype) if dbias is None else np.ascontiguousarray(dbias)
    arguments = *places, lse, sizes, options, *masks, bias_gradient
    threads = _threads(B * G if dbias is None else G)
    if _by_tiles(q, sizes):
        backward_tiles(_pairs(), *arguments, memory.empty(q, (threads, backward_scratch(sizes))))
    else:
        backward_rows(*arguments, threads)
    if dbias is not None and dbias is not bias_gradient:
        dbias[...] = bias_gradient
    return gradients


def attention_step(q, keys, values, end, mask=None, causal=False, window=None, scale=None, bias=None):
    sizes = _sizes(q, keys)
    B, T, _, H, _, D = sizes
    y, lse = memory.empty(q, (B, T, H, D)), memory.empty(q, (B, H, T))
    places, options = [place(a) for a in (q, keys, values)], _options(q, sizes, causal, window, scale, 0.0, 0)
    forward_rows(*places, y, lse, sizes, options, *_masks(q, mask, bias), end, _threads(B * H))
    return y
