"""Decoding in room for S positions, of which `end` are in use: the same work for each token, as what changes is in arrays.

So it can be recorded and repeated (kernels/cpu/graph.py, kernels/cuda/graph.py). end: an int64 (1,) where the other arrays
are, at most S. attention.py's attention_step belongs here as well.
"""

from __future__ import annotations

import numpy as np

from .relative import relative_bias_forward


def checked_room(k, keys, values):
    """B, T of k, for which there is room."""
    (B, T, G, D), S = k.shape, keys.shape[1]
    for a in (keys, values):
        if a.shape != (B, S, G, D) or a.dtype != k.dtype or not a.flags.c_contiguous:
            raise ValueError(f"a cache of {a.dtype} {a.shape} does not take {k.dtype} {k.shape}, or is not contiguous")
    return B, T


def append(k, v, keys, values, end):
    """Writes k, v (B, T, G, D) into keys, values (B, S, G, D) as the last T of their first `end` positions.

    Raises ValueError where keys and values are not of k's kind, or not contiguous.
    """
    _, T = checked_room(k, keys, values)
    now = slice(int(end[0]) - T, int(end[0]))
    keys[:, now], values[:, now] = k, v


def relative_bias_last(w, end, S, bidirectional=True, max_distance=128):
    """relative_bias_forward of one query, the last of the first `end` keys.

    w (n_buckets, H) -> bias (H, 1, S), of which what lies behind the end means nothing.
    """
    bias = np.zeros((w.shape[1], 1, S), w.dtype)
    bias[:, :, : end[0]] = relative_bias_forward(w, 1, int(end[0]), bidirectional, max_distance)
    return bias
