"""A step of decoding, in arrays with room for S positions of which `end`, an int64 array (1,), are in use.
What changes from step to step is in these arrays, so a step can be recorded and replayed. See also attention_step."""

import numpy as np

from ..common import Array, check_room, used_positions
from .relative import relative_bias_forward


def append(k: Array, v: Array, keys: Array, values: Array, end: Array) -> None:
    """keys[:, end - T : end] = k, so too v: gpt.md (27).  k, v (B, T, G, D), keys, values (B, S, G, D), end (1,) -> None."""
    check_room(k, v, keys, values)
    n = used_positions(end, k.shape[1], keys.shape[1])
    new = slice(n - k.shape[1], n)
    keys[:, new], values[:, new] = k, v


def relative_bias_last(w: Array, end: Array, S: int, bidirectional: bool = True, max_distance: int = 128) -> Array:
    """relative_bias_forward of one query, the last of the first `end` keys: t5.md (5).
    w (n_buckets, H), end (1,) -> bias (H, 1, S).  Its numbers from the end on have no meaning."""
    n = used_positions(end, 1, S)
    bias = np.zeros((w.shape[1], 1, S), w.dtype)
    bias[:, :, :n] = relative_bias_forward(w, 1, n, bidirectional, max_distance)
    return bias
