"""The residual stream: each branch of a block is added to what flows past it."""

from __future__ import annotations

from ..common import Array


def add(x: Array, f: Array) -> Array:
    """x + f, a new array.  x (N, C), f (N, C) -> x + f (N, C)."""
    return x + f
