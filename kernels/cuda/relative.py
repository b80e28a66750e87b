"""Relative position biases: the buckets of T + S - 1 distances from the host, the rest on the device (relative.cu)."""

from __future__ import annotations

import numpy as np

from ..common import check_buckets
from ..reference.relative import buckets
from .arrays import BLOCK, WARP, accumulator, computable, plain, settle, wide
from .columns import SHARING
from .device import uploaded
from .memory import empty
from .module import Kernels

KERNELS = Kernels("relative.cu", "look_up<T>", "sum_diagonals<T>", "sum_buckets<T>")


def relative_bias_forward(w, T, S, bidirectional=True, max_distance=128):
    """bias_hts = w[bucket of (t, s), h].  w (n_buckets, H) -> bias (H, T, S)."""
    n_buckets, H = check_buckets(w, "w", bidirectional, max_distance)
    bias, bucket = empty(w, (H, T, S)), diagonal_buckets(w, T, S, n_buckets, bidirectional, max_distance)
    KERNELS.launch("look_up<T>", w, H * T, min(BLOCK, -(-S // WARP) * WARP), plain(w), bucket, bias, H, T, S)
    return bias


def relative_bias_backward(dbias, dw, bidirectional=True, max_distance=128):
    """Adds into dw (n_buckets, H): dw_bh = sum of dbias_hts (H, T, S) over the pairs (t, s) in bucket b."""
    if dbias.ndim != 3:
        raise ValueError(f"dbias is {dbias.shape}; it must be (H, T, S)")
    H, T, S = dbias.shape
    n_buckets, _ = check_buckets(dw, "dw", bidirectional, max_distance, H)
    computable(dbias)
    bucket = diagonal_buckets(dbias, T, S, n_buckets, bidirectional, max_distance)
    sums, total = empty(dbias, (H, bucket.size), wide(dbias)), accumulator(dw, (n_buckets, H), dbias, "dw")
    grid = -(-bucket.size // WARP), H
    KERNELS.launch("sum_diagonals<T>", dbias, grid, (WARP, SHARING), plain(dbias), sums, T, S)
    KERNELS.launch("sum_buckets<T>", dbias, (n_buckets, H), WARP, sums, bucket, total, bucket.size)
    settle(dw, total)


def diagonal_buckets(like, T, S, *options):
    """The bucket of each diagonal of (T, S), (T + S - 1,), on the device: that of query t and key s at T - 1 - t + s."""
    return uploaded(buckets(np.arange(1 - S, T), *options).astype(np.int64), like)
