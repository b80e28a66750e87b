"""The residual stream: each branch of a block is added to it."""

from ..common import Array


def add(x: Array, f: Array) -> Array:
    """x' = x + f, a new array: gpt.md (23).  x, f (N, C) -> x' (N, C).  Its backward is dx = df = dx'."""
    return x + f
