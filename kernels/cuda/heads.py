"""Heads side by side in one array. If they are already there, nothing is copied."""

from __future__ import annotations

import math
from typing import Any

from .arrays import address
from .memory import empty


def whole(parts: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """The array of this shape that the parts are adjacent views of, or None."""
    base = parts[0].base
    if base is None or base.dtype != parts[0].dtype or not base.flags.c_contiguous or base.size != math.prod(shape):
        return None
    joined, first = base.reshape(shape), 0
    for part in parts:
        expected = joined[:, :, first : first + part.shape[2]]
        if part.base is not base or address(part) != address(expected) or part.strides != expected.strides:
            return None
        first += part.shape[2]
    return joined


def join_heads(*parts: Any) -> Any:
    """The parts (B, T, n_1, D), (B, T, n_2, D), ... side by side -> (B, T, n_1 + n_2 + ..., D)."""
    (B, T, _, D), x = parts[0].shape, parts[0]
    for part in parts:
        if part.ndim != 4 or (*part.shape[:2], part.shape[3]) != (B, T, D) or part.dtype != x.dtype:
            raise ValueError(
                f"a part is {part.dtype} {part.shape}; it must be {x.dtype} {(B, T, 'any', D)}, as the first is"
            )
    shape = B, T, sum(part.shape[2] for part in parts), D
    joined = whole(parts, shape) if math.prod(shape) else None
    if joined is not None:
        return joined
    joined, first = empty(x, shape), 0
    for part in parts:
        joined[:, :, first : first + part.shape[2]] = part
        first += part.shape[2]
    return joined
