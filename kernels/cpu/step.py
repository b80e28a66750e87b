"""What a noted step of decoding (graph.py) does in place of what depends on how long the sequences are."""

from __future__ import annotations

import numpy as np

from ..common import check_buckets, check_room, used_positions
from ..reference.relative import buckets
from .arrays import computable
from .attention_rows import numbers, place, readable
from .jit import serial_jit
from .memory import empty


@serial_jit
def append_rows(k, v, T, keys, values, end):
    """k and v: places."""
    B, _, G, D = keys.shape
    for b in range(B):
        for t in range(T):
            for g in range(G):
                keys[b, end[0] - T + t, g] = numbers(k, b, t, g, D, keys)
                values[b, end[0] - T + t, g] = numbers(v, b, t, g, D, values)


@serial_jit
def look_up_last(w, bucket, end, bias):
    """bucket: of each distance, that of the last for all beyond."""
    for h in range(len(bias)):
        for s in range(end[0]):
            bias[h, 0, s] = w[bucket[min(end[0] - 1 - s, len(bucket) - 1)], h]


def append(k, v, keys, values, end):
    check_room(k, v, keys, values)
    used_positions(end, k.shape[1], keys.shape[1])
    computable(keys)
    k, v = readable(k), readable(v)
    append_rows(place(k), place(v), k.shape[1], keys, values, end)


def relative_bias_last(w, end, S, bidirectional=True, max_distance=128):
    used_positions(end, 1, S)
    (n_buckets, H), distances = check_buckets(w, "w", bidirectional, max_distance), min(S, max_distance + 1)
    bias = empty(w, (H, 1, S))
    bucket = buckets(-np.arange(distances), n_buckets, bidirectional, max_distance).astype(np.int64)
    look_up_last(computable(w), bucket, end, bias)
    return bias
