"""Relative position biases (Raffel et al. 2020, section 2.1): a number for each head and bucket of distances.
Nearby distances get one bucket each. Farther away, a bucket covers more of them, in logarithmic steps up to max_distance."""

import math

import numpy as np

from ..common import Array


def buckets(ahead: Array, n_buckets: int, bidirectional: bool = True, max_distance: int = 128) -> Array:
    """The bucket, in [0, n_buckets), of a key that is `ahead` positions after its query (negative: before it).

    Bidirectional: the upper half of the buckets is for keys after the query, the lower half for all others. Otherwise all
    keys after it share bucket 0 with its own position. The first half of the buckets of a direction holds one distance each.
    The logarithm is float32, as in training: a distance at the edge of two buckets must not change sides.
    """
    n = n_buckets // 2 if bidirectional else n_buckets
    distance = np.abs(ahead) if bidirectional else np.maximum(-ahead, 0)
    exact = n // 2
    ratio = np.maximum(distance, exact).astype(np.float32) / np.float32(exact)
    steps = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(n - exact)
    bucket = np.where(distance < exact, distance, np.minimum(exact + steps.astype(np.int64), n - 1))
    return bucket + n * (ahead > 0) if bidirectional else bucket


def relative_bias_forward(w: Array, T: int, S: int, bidirectional: bool = True, max_distance: int = 128) -> Array:
    """bias_hij = w[bucket of (i, j), h]: t5.md (5).  w (n_buckets, H) -> bias (H, T, S)."""
    ahead = np.arange(S) - np.arange(S - T, S)[:, None]  # (T, S): the queries are the last T of the S positions
    bias = w[buckets(ahead, len(w), bidirectional, max_distance)]  # (T, S, H)
    return np.ascontiguousarray(bias.transpose(2, 0, 1))


def relative_bias_backward(dbias: Array, dw: Array, bidirectional: bool = True, max_distance: int = 128) -> None:
    """dw[bucket of (i, j), h] += dbias_hij: t5.md (6).  dbias (H, T, S), dw (n_buckets, H) -> None."""
    _, T, S = dbias.shape
    ahead = np.arange(S) - np.arange(S - T, S)[:, None]  # (T, S)
    np.add.at(dw, buckets(ahead, len(dw), bidirectional, max_distance), dbias.transpose(1, 2, 0))
