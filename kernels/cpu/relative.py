"""Relative position biases: a bucket hangs on the distance alone, so T + S - 1 of them are worked out, not T S."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..common import check_buckets
from ..reference.relative import buckets
from .arrays import accumulator, computable, settle
from .jit import parallel_jit


def relative_bias_forward(w, T, S, bidirectional=True, max_distance=128):
    """bias_hts = w[bucket of (t, s), h].  w (n_buckets, H) -> bias (H, T, S).  Heads over threads."""
    check_buckets(w, "w", bidirectional, max_distance)
    bias = np.empty((w.shape[1], T, S), w.dtype)
    look_up(computable(w), diagonal_buckets(T, S, len(w), bidirectional, max_distance), bias)
    return bias


def relative_bias_backward(dbias, dw, bidirectional=True, max_distance=128):
    """Adds into dw (n_buckets, H): dw_bh = sum of dbias_hts (H, T, S) over the pairs (t, s) in bucket b."""
    if dbias.ndim != 3:
        raise ValueError(f"dbias is {dbias.shape}; it must be (H, T, S)")
    H, T, S = dbias.shape
    check_buckets(dw, "dw", bidirectional, max_distance, H)
    sums = accumulator(dw, dw.shape, dbias, "dw")
    sum_up(computable(dbias), diagonal_buckets(T, S, len(dw), bidirectional, max_distance), sums)
    settle(dw, sums)


def diagonal_buckets(T, S, *options):
    """The bucket of each diagonal of (T, S), (T + S - 1,): that of query t and key s at T - 1 - t + s."""
    return buckets(np.arange(1 - S, T), *options)


@parallel_jit
def look_up(w, bucket, bias):
    H, T, S = bias.shape
    for h in prange(H):
        diagonal = np.empty(bucket.size, w.dtype)
        for i in range(bucket.size):
            diagonal[i] = w[bucket[i], h]
        for t in range(T):
            bias[h, t] = diagonal[T - 1 - t : T - 1 - t + S]


@parallel_jit
def sum_up(dbias, bucket, dw):
    H, T, S = dbias.shape
    for h in prange(H):
        diagonal = np.zeros(bucket.size, np.float64)
        for t in range(T):
            row = diagonal[T - 1 - t : T - 1 - t + S]
            for s in range(S):
                row[s] += dbias[h, t, s]
        total = np.zeros(dw.shape[0], np.float64)
        for i in range(bucket.size):
            total[bucket[i]] += diagonal[i]
        for b in range(total.size):
            dw[b, h] += dw.dtype.type(total[b])
