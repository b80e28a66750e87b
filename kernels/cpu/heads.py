"""Heads side by side in one array. If they are already there, nothing is copied."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..common import Array
from .arrays import parts_of, share
from .attention_rows import address_of, numbers, place, readable
from .jit import parallel_jit
from .memory import empty


@parallel_jit
def copy_heads(part, first, n, parts, joined):
    """joined (B, T, H, D)[:, :, first : first + n] = part, a place."""
    B, T, _, D = joined.shape
    for thread in prange(parts):
        start, stop = share(thread, parts, B * T)
        for i in range(start, stop):
            b, t = i // T, i % T
            for h in range(n):
                head, target = numbers(part, b, t, h, D, joined), joined[b, t, first + h]
                for d in range(D):
                    target[d] = head[d]


def join_heads(*parts: Array) -> Array:
    (B, T, _, D), x = parts[0].shape, parts[0]
    for part in parts:
        if part.ndim != 4 or (*part.shape[:2], part.shape[3]) != (B, T, D) or part.dtype != x.dtype:
            raise ValueError(
                f"a part is {part.dtype} {part.shape}; it must be {x.dtype} {(B, T, 'any', D)}, as the first is"
            )
    shape = B, T, sum(part.shape[2] for part in parts), D
    joined = whole(parts, shape)
    if joined is not None:
        return joined
    joined, first = empty(x, shape), 0
    for part in parts:
        source = readable(part)
        copy_heads(place(source), first, part.shape[2], parts_of(part.size), joined)
        first += part.shape[2]
    return joined


def whole(parts: tuple[Array, ...], shape: tuple[int, ...]) -> Array | None:
    """The array of this shape that the parts are adjacent views of, if there is one."""
    base = parts[0].base
    if not isinstance(base, np.ndarray) or base.dtype != parts[0].dtype or not base.flags.c_contiguous:
        return None
    if base.size != math.prod(shape) or not base.size:
        return None
    joined = base.view(np.ndarray).reshape(shape)
    address = address_of(base)
    for part in parts:
        if part.base is not base or address_of(part) != address or part.strides != joined.strides:
            return None
        address += part.shape[2] * joined.strides[2]
    return joined
