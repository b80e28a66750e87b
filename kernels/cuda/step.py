"""What a recorded step of decoding does in place of what depends on how long the sequences are (step.cu)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..common import check_buckets, check_end, check_room
from ..reference.relative import buckets
from .arrays import BLOCK, plain
from .attention import readable, steps
from .device import uploaded
from .memory import empty
from .module import Kernels

KERNELS = Kernels("step.cu", "append<T>", "look_up_last<T>")


def append(k: Any, v: Any, keys: Any, values: Any, end: Any) -> None:
    """Writes k, v (B, T, G, D) into keys, values (B, S, G, D) as the last T of their first `end` positions.

    end: an int64 (1,) on the device, at most S.
    """
    check_room(k, v, keys, values)
    check_end(end)
    (B, T), (S, G, D) = k.shape[:2], keys.shape[1:]
    k, v = readable(k), readable(v)
    KERNELS.launch("append<T>", k, B * T, BLOCK, k, v, *steps(k), *steps(v), end, keys, values, T, S, G, D)


def relative_bias_last(w: Any, end: Any, S: int, bidirectional: bool = True, max_distance: int = 128) -> Any:
    """relative_bias_forward of one query, the last of the first `end` keys -> bias (H, 1, S), unwritten from there on.

    w (n_buckets, H), end an int64 (1,) on the device, at most S.
    """
    check_end(end)
    (n_buckets, H), distances = (
        check_buckets(w, "w", bidirectional, max_distance),
        min(S, max_distance + 1),
    )  # what is farther shares a bucket
    bucket = buckets(-np.arange(distances), n_buckets, bidirectional, max_distance).astype(np.int64)
    bias = empty(w, (H, 1, S))
    KERNELS.launch("look_up_last<T>", w, H, BLOCK, plain(w), uploaded(bucket, w), end, bias, H, S, distances)
    return bias
