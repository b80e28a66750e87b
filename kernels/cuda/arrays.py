"""What an op does with its arrays before a kernel sees them.

Kernels take C-contiguous arrays and check no bounds: the ops bring every array into that form (without a copy where it has
it) and compare the shapes. And how the threads are laid over rows: by one warp each, or by a block of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import recording
from .device import name_of, to_device

WARP = 32
LONG_ROW = 1024  # numbers: above it a block computes a row, and not a warp
BLOCK = 256  # threads, where nothing speaks for another number
PACK = 16  # bytes, the most that a thread loads at once
WIDE = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}  # in what the numbers of a dtype are summed


def plain(a: Any) -> Any:
    """The array, or a copy, C-contiguous."""
    return a if a.flags.c_contiguous else a.copy("C")


def computable(x: Any) -> Any:
    if name_of(x.dtype) not in WIDE:
        raise TypeError(
            f"the cuda set computes with {', '.join(WIDE)}, and got {x.dtype}: convert, or use the reference set"
        )
    if not x.ndim:
        raise ValueError("the array is a single number, of shape (); an op needs at least one axis")
    return plain(x)


def address(a: Any) -> int:
    return a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr


def lies_whole(a: Any, *distances: int) -> bool:
    """Whether a, and what lies in it so many bytes apart, begins at multiples of PACK: then packs can be loaded from it."""
    return all(place % PACK == 0 for place in (address(a), *distances))


def rows(x: Any) -> Any:
    """Any leading axes as one: (..., C) -> (N, C)."""
    return computable(x).reshape(x.size // max(x.shape[-1], 1), x.shape[-1])


def flat(x: Any) -> Any:
    """All axes as one: (...) -> (n,)."""
    return computable(x).reshape(-1)


def like(a: Any, x: Any, name: str) -> Any:
    """a, for sure of x's shape and dtype."""
    if a.shape != x.shape or a.dtype != x.dtype:
        raise ValueError(f"{name} is {a.dtype} {a.shape}; it must be {x.dtype} {x.shape}, as the array that it belongs to")
    return a


def vector(w: Any, x: Any, name: str) -> Any:
    """w (C,) for the rows of x; None stays None."""
    if w is None:
        return None
    if w.shape != x.shape[-1:] or w.dtype != x.dtype:
        raise ValueError(
            f"{name} is {w.dtype} {w.shape}; rows of {x.shape[-1]} {x.dtype} numbers need {x.shape[-1:]} of them"
        )
    return plain(w)


def per_row(a: Any, x: Any, name: str) -> Any:
    """One number for each row of x, in the dtype of its sums: (...) -> (N,)."""
    if a.shape != x.shape[:-1] or name_of(a.dtype) != wide(x):
        raise ValueError(
            f"{name} is {a.dtype} {a.shape}; rows {x.shape} of {x.dtype} need {x.shape[:-1]} numbers of {wide(x)}"
        )
    return plain(a).reshape(-1)


def log_sums(lse: Any, shape: tuple[int, ...]) -> Any:
    """lse as the forward gave it, in float64 and contiguous. ValueError if it does not have this shape."""
    if lse.shape != shape or lse.dtype.kind != "f":
        raise ValueError(f"lse is {lse.dtype} {lse.shape}; it must be float64 {shape}: pass what the forward returned")
    return plain(lse.astype("float64", copy=False))


def wide(x: Any) -> str:
    """The dtype of sums over numbers of x: float32 for bfloat16. In it are parameters' gradients, mean and rstd."""
    return WIDE[name_of(x.dtype)]


def accumulator(dw: Any, shape: tuple[int, ...], like: Any, name: str) -> Any:
    """The array that a kernel adds a parameter's gradient into, summed from numbers like `like`: dw, or a copy for `settle`;
    None stays None."""
    if dw is None:
        return None
    writeable = getattr(dw.flags, "writeable", True)  # CuPy has no read-only arrays
    if dw.shape != shape or name_of(dw.dtype) != wide(like) or not writeable:
        kind = "writeable" if writeable else "read-only"
        raise ValueError(f"{name} is {kind} {dw.dtype} {dw.shape}; the gradient needs writeable {wide(like)} {shape}")
    return plain(dw)


def settle(dw: Any, sums: Any) -> None:
    """After the kernel: what it added into a copy goes where it belongs."""
    if dw is not None and sums is not dw:
        dw[...] = sums


def indices(index: Any, n: int, name: str, like: Any, ignore: int = 0) -> Any:
    """Tokens, positions or targets as int64 (N,) on the device of `like`, each of them in [0, n) or `ignore`."""
    return to_device(checked(index, n, name, ignore), like)


def checked(index: Any, n: int, name: str, ignore: int = 0) -> Any:
    """Tokens, positions or targets as int64 (N,) where they are, each of them in [0, n) or `ignore`.

    A kernel would read anywhere. Those that are on the host are checked there: the GPU need not be waited for. Those that a
    graph is recorded with lie on the GPU, and whoever writes them has checked them.
    """
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name} are {index.dtype}; they must be integers")
    flat_index = plain(index.astype("int64", copy=False)).reshape(-1)
    if recording.current is not None:
        return flat_index
    wrong = ((flat_index < 0) | (flat_index >= n)) & (flat_index != ignore if n else True)
    if wrong.any():
        raise IndexError(f"{name} contain {flat_index[wrong][0]}; with {n} rows or classes they must lie in 0 ... {n - 1}")
    return flat_index


def flat_layout(x: Any) -> tuple[int, int]:
    """grid, block for a kernel over all numbers, each thread a pack of them, as common.cuh's map."""
    return -(-x.nbytes // (PACK * BLOCK)), BLOCK


def row_layout(x: Any, threads: int = BLOCK) -> tuple[Any, Any]:
    """grid, block for a kernel over rows (N, C), as common.cuh's row_reduce wants it: block (threads of a row, rows).

    threads: of a row that takes more than a warp.
    """
    n, C = x.shape
    if C > LONG_ROW:
        return n, (threads, 1)
    return -(-n // 4), (WARP, 4)
