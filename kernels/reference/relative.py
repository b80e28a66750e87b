"""Relative position biases (Raffel et al. 2020, section 2.1): a number for each head and each bucket of distances, added to
the attention scores.

A query has a bucket of its own for each key that is near; the farther away, the more distances share one, in logarithmic
steps up to max_distance, and all beyond share the last.
"""

from __future__ import annotations

import math

import numpy as np


def buckets(ahead, n_buckets, bidirectional=True, max_distance=128):
    """The bucket, in [0, n_buckets), of each key that lies `ahead` positions ahead of its query (negative: behind it).

    Bidirectional: the upper half of the buckets is for keys ahead, the lower half for the query's own position and those
    behind; else all keys ahead share bucket 0 with it. Of one direction's buckets the first half holds one distance each.
    The logarithm is taken in float32, as in training: a distance on the edge of two buckets must fall to the same side.
    """
    n = n_buckets // 2 if bidirectional else n_buckets
    distance = np.abs(ahead) if bidirectional else np.maximum(-ahead, 0)
    exact = n // 2
    ratio = np.maximum(distance, exact).astype(np.float32) / np.float32(exact)
    steps = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(n - exact)  # 0 to n - exact, and on
    bucket = np.where(distance < exact, distance, np.minimum(exact + steps.astype(np.int64), n - 1))
    return bucket + n * (ahead > 0) if bidirectional else bucket


def pair_buckets(T, S, *options):
    """The bucket of each query and key (T, S); the queries are the last T of the S positions."""
    return buckets(np.arange(S) - np.arange(S - T, S)[:, None], *options)


def relative_bias_forward(w, T, S, bidirectional=True, max_distance=128):
    """bias_hts = w[bucket of (t, s), h].  w (n_buckets, H) -> bias (H, T, S)."""
    bias = w[pair_buckets(T, S, len(w), bidirectional, max_distance)]  # (T, S, H)
    return np.ascontiguousarray(bias.transpose(2, 0, 1))


def relative_bias_backward(dbias, dw, bidirectional=True, max_distance=128):
    """Adds into dw (n_buckets, H): dw_bh = sum of dbias_hts (H, T, S) over the pairs (t, s) in bucket b."""
    _, T, S = dbias.shape
    np.add.at(dw, pair_buckets(T, S, len(dw), bidirectional, max_distance), dbias.transpose(1, 2, 0))
