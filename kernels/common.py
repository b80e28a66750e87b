"""What the three sets share besides the ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray  # in a type hint; an op also takes and returns CuPy's arrays
IGNORE = -100  # a target with this value does not count in a loss
BLOCK = 1 << 20  # numbers


def check_room(k: Any, keys: Any, values: Any) -> None:
    """ValueError if keys and values (B, S, G, D) cannot take k (B, T, G, D), or are not contiguous."""
    (B, _, G, D), S = k.shape, keys.shape[1]
    for a in (keys, values):
        if a.shape != (B, S, G, D) or a.dtype != k.dtype or not a.flags.c_contiguous:
            raise ValueError(f"a cache of {a.dtype} {a.shape} does not take {k.dtype} {k.shape}, or is not contiguous")


def by_blocks(function: Callable[..., tuple[Array, ...]], w: Array, *args: Any) -> tuple[Array, ...]:
    """function(w, *args), whose results have a row for each of w, for a block of rows at a time: it needs less memory."""
    size = max(1, BLOCK // max(w.shape[1], 1))
    parts = [function(w[i : i + size], *args) for i in range(0, max(len(w), 1), size)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
