"""What an op does with its arrays before a kernel sees them, and how a kernel's work is divided among threads.

Kernels are compiled for float32 and float64, for C-contiguous, aligned, writeable arrays, and check no bounds: the ops bring
every array into that form (without a copy where it has it) and compare the shapes. Inside a kernel, beware of `x[i] * 0.5`
and `total / n`: a Python number or an int64 makes float64 of float32, at half the speed; x.dtype.type(0.5) does not.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from .jit import jit, parallel_jit
from .parallel import threads

GRAIN = 1 << 13  # numbers that make one more thread worth the microseconds of its start


class ByDtype(dict[np.dtype, np.ndarray]):
    """An array without numbers, of this many axes, for each dtype that kernels compute with. TypeError for other dtypes."""

    def __init__(self, axes: int):
        super().__init__({np.dtype(dtype): np.empty((0,) * axes, dtype) for dtype in ("f4", "f8")})

    def __missing__(self, dtype: np.dtype) -> np.ndarray:
        raise TypeError(f"the cpu set computes with float32 and float64, and got {dtype}: convert, or use the reference set")


NOTHING = ByDtype(1)  # in place of None, because a kernel has one type per argument
NO_ROWS = ByDtype(2)


def parts_of(n: int) -> int:
    """Into how many parts the work on n numbers is best divided: one for each thread, or fewer of them."""
    return 1 if n < 2 * GRAIN else min(threads(), n // GRAIN)


@jit
def share(part, parts, n):
    """start, stop: the part's share of n things."""
    return part * n // parts, (part + 1) * n // parts


_body: Any = None  # in the globals of each kernel's own copy of _over_parts: what it does with one part


def _over_parts(n, parts, *args):
    if parts == 1:
        _body(*share(0, 1, n), *args)
    else:
        for part in prange(parts):
            _body(*share(part, parts, n), *args)


def divided(body: Callable[..., None]) -> Callable[..., None]:
    """@divided: `def f(start, stop, ...)`, which computes the rows start ... stop - 1, becomes the kernel f(n, parts, ...).

    It computes all n rows, in `parts` equal parts, each by a thread; a single part without any thread's start.
    """
    names = {**globals(), "_body": jit(body, forceinline=True)}
    kernel = types.FunctionType(_over_parts.__code__, names, body.__name__)
    kernel.__qualname__ = f"{body.__module__}.{body.__qualname__}"  # names its file in the cache
    kernel.__doc__ = body.__doc__
    return parallel_jit(kernel)


class _Writeable:
    """Offers a read-only array (a memory map) as a writeable one. No kernel writes into an input."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def plain(a: np.ndarray) -> np.ndarray:
    """The array in the form that kernels are compiled for: itself, a view, or a copy."""
    if a.flags.carray:
        return a
    if a.flags.c_contiguous and a.flags.aligned:
        return np.asarray(_Writeable(a))
    return np.array(a, order="C")


def computable(x: np.ndarray) -> np.ndarray:
    """plain(x), of a dtype that there are kernels for."""
    NOTHING[x.dtype]  # raises TypeError for another dtype
    if not x.ndim:
        raise ValueError("the array is a single number, of shape (); an op needs at least one axis")
    return plain(x)


def rows(x: np.ndarray) -> np.ndarray:
    """Any leading axes as one: (..., C) -> (N, C)."""
    x = computable(x)
    if not x.size:
        return x.reshape(math.prod(x.shape[:-1]), *x.shape[-1:])
    return x.reshape(-1, x.shape[-1])


def flat(x: np.ndarray) -> np.ndarray:
    """All axes as one: (...) -> (n,)."""
    return computable(x).reshape(-1)


def like(a: np.ndarray, x: np.ndarray, name: str) -> np.ndarray:
    """a, for sure of x's shape and dtype."""
    if a.shape != x.shape or a.dtype != x.dtype:
        raise ValueError(f"{name} is {a.dtype} {a.shape}; it must be {x.dtype} {x.shape}, as the array that it belongs to")
    return a


def vector(w: np.ndarray | None, x: np.ndarray, name: str) -> np.ndarray:
    """w (C,) for the rows of x; nothing for None."""
    if w is None:
        return NOTHING[x.dtype]
    if w.shape != x.shape[-1:] or w.dtype != x.dtype:
        raise ValueError(
            f"{name} is {w.dtype} {w.shape}; rows of {x.shape[-1]} {x.dtype} numbers need {x.shape[-1:]} of them"
        )
    return plain(w)


def per_row(a: np.ndarray, x: np.ndarray, name: str) -> np.ndarray:
    """One number for each row of x: (...) -> (N,)."""
    if a.shape != x.shape[:-1] or a.dtype != x.dtype:
        raise ValueError(f"{name} is {a.dtype} {a.shape}; rows {x.shape} of {x.dtype} need {x.shape[:-1]} numbers")
    return plain(a).reshape(-1)


def log_sums(lse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """lse as the forward gave it, in float64 and contiguous. ValueError if it does not have this shape."""
    if lse.shape != shape or lse.dtype.kind != "f":
        raise ValueError(f"lse is {lse.dtype} {lse.shape}; it must be float64 {shape}: pass what the forward returned")
    return plain(lse.astype(np.float64, copy=False))


def accumulator(dw: np.ndarray | None, shape: tuple[int, ...], like: np.ndarray, name: str) -> np.ndarray:
    """The array that a kernel adds a parameter's gradient into: dw, or a copy for `settle`; an empty one for None."""
    if dw is None:
        return np.empty((0,) * len(shape), like.dtype)
    if dw.shape != shape or dw.dtype != like.dtype or not dw.flags.writeable:
        kind = "writeable" if dw.flags.writeable else "read-only"
        raise ValueError(f"{name} is {kind} {dw.dtype} {dw.shape}; the gradient needs writeable {like.dtype} {shape}")
    return plain(dw)


def settle(dw: np.ndarray | None, sums: np.ndarray) -> None:
    """After the kernel: what it added into a copy goes where it belongs."""
    if dw is not None and sums is not dw:
        dw[...] = sums


@jit
def count_outside(index, n, ignore):
    outside = 0
    for i in range(index.size):
        outside += (index[i] < 0 or index[i] >= n) and index[i] != ignore
    return outside


def indices(index: np.ndarray, n: int, name: str, ignore: int = 0) -> np.ndarray:
    """Tokens, positions or targets as int64 (N,), each of them in [0, n) or `ignore`: a kernel would read anywhere."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name} are {index.dtype}; they must be integers")
    plain_index = plain(index if index.dtype == np.int64 else index.astype(np.int64)).reshape(-1)
    if n < 1 or count_outside(plain_index, n, ignore):
        wrong = (index < 0) | (index >= n)
        first = index[wrong & (index != ignore)][0] if n else "any"
        raise IndexError(f"{name} contain {first}; with {n} rows or classes they must lie in 0 ... {n - 1}")
    return plain_index
