"""Copies of arrays between pages that may not be touched: an access beside an array ends the kernel with an error."""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

PAGE = mmap.PAGESIZE
CANARY = 0xC5  # what lies between an array's end and its page's, at most 15 bytes
NOTHING = 0  # protection: neither read nor write


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library; loaded when first needed, since only where the emulator runs there is one of this kind."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


class Region:
    """A copy of the bytes low ... high, which one or more arrays lie in; its end is at a page that may not be touched.

    An address in it is a multiple of 16 where the original's is.
    """

    def __init__(self, low: int, high: int):
        self.low, self.size = low, high - low
        pages = (self.size + 16 + PAGE - 1) // PAGE * PAGE
        self.mapped = pages + 2 * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.base = libc().mmap(None, self.mapped, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        if self.base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"the emulator has no memory for a copy of {self.size} bytes")
        end = self.base + PAGE + pages
        self.start = end - self.size - (end - self.size - low) % 16
        self.left_over = end - self.start - self.size
        ctypes.memset(self.start + self.size, CANARY, self.left_over)
        ctypes.memmove(self.start, low, self.size)
        for page in (self.base, end):
            libc().mprotect(page, PAGE, NOTHING)

    def address(self, original: int) -> int:
        return self.start + original - self.low

    def copy_back(self) -> None:
        ctypes.memmove(self.low, self.start, self.size)

    def overrun(self) -> bool:
        """Whether something was written in the few bytes between the end and the page."""
        return ctypes.string_at(self.start + self.size, self.left_over) != bytes([CANARY]) * self.left_over

    def free(self) -> None:
        libc().munmap(self.base, self.mapped)


def regions_of(arrays: Iterable[np.ndarray]) -> list[Region]:
    """A Region for each array; one for several that overlap, as the parts of a packed array do."""
    merged: list[list[int]] = []
    for low, high in sorted(byte_bounds(a) for a in arrays if a.size):
        if merged and low < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return [Region(low, high) for low, high in merged]


def address_of(a: np.ndarray) -> Any:
    return a.__array_interface__["data"][0]
