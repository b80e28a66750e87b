"""What the three sets share besides the ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray  # in a type hint; an op also takes and returns CuPy's arrays
IGNORE = -100  # a target with this value does not count in a loss
BLOCK = 1 << 20  # numbers


def check_room(k: Any, v: Any, keys: Any, values: Any) -> None:
    """ValueError if keys and values (B, S, G, D) cannot take k and v (B, T, G, D), or are not contiguous."""
    if k.ndim != 4 or v.shape != k.shape or v.dtype != k.dtype or keys.ndim != 4:
        raise ValueError(f"k is {k.dtype} {k.shape} and v {v.dtype} {v.shape}; they must be alike, (B, T, G, D)")
    (B, _, G, D), S = k.shape, keys.shape[1]
    for a in (keys, values):
        if a.shape != (B, S, G, D) or a.dtype != k.dtype or not a.flags.c_contiguous:
            raise ValueError(f"a cache of {a.dtype} {a.shape} does not take {k.dtype} {k.shape}, or is not contiguous")


def check_end(end: Any) -> None:
    """ValueError if `end`, the number of positions in use, is not an int64 array (1,)."""
    if end.shape != (1,) or end.dtype != np.int64:
        raise ValueError(f"end is {end.dtype} {end.shape}; it must be an int64 array (1,)")


def used_positions(end: Any, T: int, S: int) -> int:
    """How many of S positions are in use, as `end`, an int64 array (1,) on the host, says. At least T of them are."""
    check_end(end)
    n = int(end[0])
    if not T <= n <= S:
        raise ValueError(f"end is {n}; with {T} new positions and room for {S} it must be in {T} ... {S}")
    return n


def check_linear(x: Any, w: Any, b: Any) -> None:
    """ValueError if w is not (F, C) and b not (F,) or None, in the dtype of x (..., C)."""
    if w.ndim != 2 or w.shape[1:] != x.shape[-1:] or w.dtype != x.dtype:
        raise ValueError(
            f"w is {w.dtype} {w.shape}; for x {x.dtype} {x.shape} it must be {x.dtype} (F, {x.shape[-1] if x.ndim else 'C'})"
        )
    if b is not None and (b.shape != w.shape[:1] or b.dtype != w.dtype):
        raise ValueError(f"b is {b.dtype} {b.shape}; for w {w.dtype} {w.shape} it must be {w.dtype} {w.shape[:1]}")


def check_table(w: Any, name: str, C: int | None = None) -> None:
    """ValueError if w does not have a row of C numbers, or of any number of them, for each token or position."""
    if w.ndim != 2 or (C is not None and w.shape[1] != C):
        raise ValueError(f"{name} is {w.shape}; it must be (rows, {'C' if C is None else C})")


def check_positions(positions: Any, x: Any) -> None:
    """ValueError if x is not (B, T, C), or positions are not (T,) or (B, T)."""
    shape = positions.shape[1:] if positions.shape[:-1] == (1,) else positions.shape
    if x.ndim != 3 or shape not in (x.shape[1:2], x.shape[:2]):
        raise ValueError(f"positions are {positions.shape} and x {x.shape}; they must be (T,) or (B, T), and (B, T, C)")


def check_rotary(x: Any, positions: Any, frequencies: Any) -> None:
    """ValueError if x is not (B, T, H, D), positions are not integers (T,) or (B, T), or frequencies not at most (D/2,)."""
    B, T, H, D = x.shape if x.ndim == 4 else (0, 0, 0, 0)
    numbers = frequencies.dtype.kind == "f" or frequencies.dtype.name == "bfloat16"
    whole = positions.dtype.kind in "iu" and numbers and x.ndim == 4 and frequencies.ndim == 1
    if not whole or positions.shape not in ((T,), (1, T), (B, T)) or 2 * len(frequencies) > D:
        raise ValueError(
            f"x is {x.shape}, positions are {positions.dtype} {positions.shape}, frequencies {frequencies.dtype} "
            f"{frequencies.shape}; they must be (B, T, H, D), integers (T,) or (B, T), and floats, at most (D / 2,)"
        )


def check_squared(x: Any, targets: Any) -> None:
    """ValueError if targets are not real numbers in the shape of x."""
    if targets.shape != x.shape or targets.dtype.kind == "c":
        raise ValueError(f"targets are {targets.dtype} {targets.shape}; they must be real numbers {x.shape}, as x")


def check_buckets(w: Any, name: str, bidirectional: bool, max_distance: int, H: int | None = None) -> tuple[int, int]:
    """(n_buckets, H) of a table of relative position biases. ValueError if it has another shape, or too few buckets."""
    if w.ndim != 2 or (H is not None and w.shape[1] != H):
        raise ValueError(f"{name} is {w.shape}; it must be (n_buckets, {'H' if H is None else H})")
    n_buckets, heads = w.shape
    exact = n_buckets // (4 if bidirectional else 2)  # buckets of one distance each
    if not 1 <= exact < max_distance:
        raise ValueError(
            f"{name} has {n_buckets} buckets for distances up to {max_distance}; give it at least "
            f"{4 if bidirectional else 2}, and a max_distance above {exact}"
        )
    return n_buckets, heads


PACKED = {"uint16": 32, "int8": 32, "uint8": 16}  # dtype of quantized codes -> how many of them hold a group of 32 numbers


def check_packed(codes: Any, scales: Any, C: int) -> None:
    """ValueError if codes and scales are not those of a quantized weight (F, C), which reference/quantized.py describes."""
    kinds = codes.dtype.name, scales.dtype.name
    if codes.ndim == scales.ndim == 2 and kinds[0] in PACKED and kinds[1] == "uint16":
        F, groups = scales.shape
        if codes.shape == (F, groups * PACKED[kinds[0]]) and groups == -(-C // 32):
            return
    raise ValueError(
        f"codes are {codes.dtype} {codes.shape}, scales {scales.dtype} {scales.shape}, for rows of {C} numbers; pass those "
        "that quantize returned for a weight (F, C)"
    )


def by_blocks(function: Callable[..., tuple[Array, ...]], w: Array, *args: Any) -> tuple[Array, ...]:
    """function(w, *args), whose results have a row for each of w, for a block of rows at a time: it needs less memory."""
    size = max(1, BLOCK // max(w.shape[1], 1))
    parts = [function(w[i : i + size], *args) for i in range(0, max(len(w), 1), size)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
