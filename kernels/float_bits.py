"""The upper half of a float32: its sign, its exponent and 8 bits of precision. This is the bfloat16 format.

NumPy does not have the type, so the halves are uint16.
"""

from __future__ import annotations

import numpy as np

from .common import Array


def upper_half(x: Array) -> Array:
    """The bfloat16 nearest to each float32, as uint16. Of two that are equally near, the even one."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    upper = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), upper)


def from_upper_half(halves: Array) -> Array:
    """bfloat16 numbers, as uint16, as float32: the lower halves are zeros."""
    bits = halves.astype(np.uint32)
    bits <<= 16  # in place: a large tensor is not copied twice
    return bits.view(np.float32)
