"""Fresh arrays without page faults: buffers that go back to a pool when the last array over them is gone.

The operating system hands out memory that it maps and clears at the first touch of each page, which costs more than many a
kernel that fills it. A training step asks for the same sizes each time, so a buffer once touched serves every step. NumPy
keeps an array's `base` alive as long as any view of it: a Buffer is that base, and its end returns the memory. So nothing
that anybody holds is ever handed out again, and nobody has to give anything back. Buffers are of a class of their own, as
NumPy leaves out from between a view and its base what is of the view's class: what is handed out is a plain array.
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


class Buffer(np.ndarray):
    """An array over memory of the pool. With the end of one that has a `pool`, the memory goes back there."""

    pool: Pool | None = None

    def __del__(self) -> None:
        if self.pool is not None and self.base is not None:
            self.pool.give(self.base)


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
            return whole[start : start + size].view(Buffer)
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
    buffer = Buffer(shape, dtype, pool.take(size_class(n)))
    buffer.pool = pool
    return buffer.view(np.ndarray)


def zeros(like, shape, dtype=None):
    x = empty(like, shape, dtype)
    x.fill(0)
    return x
