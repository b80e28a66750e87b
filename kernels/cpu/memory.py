"""Fresh arrays without page faults: buffers that go back to a pool when the last array over them is gone.

The operating system hands out memory that it maps and clears at the first touch of each page, which costs more than many a
kernel that fills it. A training step asks for the same sizes each time, so a buffer once touched serves every step. NumPy
keeps an array's `base` alive as long as any view of it: a Buffer is that base, and its end returns the memory. So nothing
that anybody holds is ever handed out again, and nobody has to give anything back.
"""

from __future__ import annotations

import math
import os

import numpy as np

SMALL = 1 << 14  # bytes: below this malloc has it at hand
ALIGNMENT = 64  # a line of the cache, and the widest vector


def _default_limit() -> int:
    """A quarter of the machine's memory, where it can be asked for."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 2 << 30


class Pool:
    """Buffers waiting for use, by size; at most `limit` bytes of them."""

    def __init__(self, limit: int):
        self.limit = limit
        self.waiting = 0  # bytes
        self.buffers: dict[int, list[np.ndarray]] = {}

    def take(self, size: int) -> np.ndarray:
        """`size` bytes, aligned; what they hold is whatever was there."""
        try:
            raw = self.buffers[size].pop()
        except (KeyError, IndexError):
            whole = np.empty(size + ALIGNMENT, np.uint8)
            start = -whole.ctypes.data % ALIGNMENT
            return whole[start : start + size]
        self.waiting -= size
        return raw

    def give(self, raw: np.ndarray) -> None:
        if self.waiting + raw.nbytes <= self.limit:
            self.waiting += raw.nbytes
            self.buffers.setdefault(raw.nbytes, []).append(raw)

    def trim(self) -> None:
        """Returns all waiting buffers to the operating system."""
        self.buffers, self.waiting = {}, 0


pool = Pool(_default_limit())


class Buffer:
    """Memory of the pool for as long as this object lives, in the form in which NumPy takes arrays from others."""

    def __init__(self, pool: Pool, shape: tuple[int, ...], dtype: np.dtype, size: int):
        self.pool, self.raw = pool, pool.take(size)
        address = self.raw.__array_interface__["data"]
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": address, "version": 3}

    def __del__(self) -> None:
        if hasattr(self, "raw"):
            self.pool.give(self.raw)


def size_class(n: int) -> int:
    """n bytes rounded up so that at most an eighth is wasted, and nearly equal sizes share buffers."""
    step = 1 << max(n.bit_length() - 4, 6)
    return -(-n // step) * step


def empty(like, shape, dtype=None):
    dtype = like.dtype if dtype is None else np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    n = math.prod(shape) * dtype.itemsize
    if n < SMALL:
        return np.empty(shape, dtype)
    return np.asarray(Buffer(pool, shape, dtype, size_class(n)))


def zeros(like, shape, dtype=None):
    x = empty(like, shape, dtype)
    x.fill(0)
    return x
