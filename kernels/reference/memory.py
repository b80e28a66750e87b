"""New arrays for results, on the device of the first argument, and of its dtype unless another is given."""

from typing import Any

import numpy as np

from ..common import Array


def empty(like: Array, shape: int | tuple[int, ...], dtype: Any = None) -> Array:
    """An uninitialised array.  like (N,) -> y (*shape)."""
    return np.empty(shape, dtype or like.dtype)


def zeros(like: Array, shape: int | tuple[int, ...], dtype: Any = None) -> Array:
    """An array of zeros.  like (N,) -> y (*shape)."""
    return np.zeros(shape, dtype or like.dtype)
