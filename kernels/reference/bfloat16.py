"""bfloat16: the upper half of a float32's bits, its sign and exponent and 8 bits of precision. NumPy lacks the type."""

from __future__ import annotations

import numpy as np

from ..context import autocast_dtype


def to_bfloat16(x):
    """float32 -> the upper half of its bits, as uint16: the nearest, and of two as near the even one."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    upper = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), upper)


def from_bfloat16(words):
    return (words.astype(np.uint32) << 16).view(np.float32)


def product(a, b):
    """a b. Inside `with kernels.autocast("bfloat16"):` factors of float32 are rounded to bfloat16, their sums are not."""
    if autocast_dtype() == "bfloat16" and a.dtype == np.float32:
        a, b = from_bfloat16(to_bfloat16(a)), from_bfloat16(to_bfloat16(b))
    return a @ b
