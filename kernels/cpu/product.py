"""A product of matrices as a record of integers: what kernels that are compiled once, and called by address, are told.

Its matrices are addresses and distances, in any layout; matmul.py says which products there are.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from .activation import apply
from .jit import Native, call, hold, jit, serial_jit
from .simd import floats, integers

ASIDE = 1024  # floats at each thread's disposal: a tile or sums, a piece of an activation


class Product(NamedTuple):
    """c = start + a b, then y = f(c). For each matrix its address and the distances, in floats, of its rows and columns."""

    m: int  # rows of a, c, y and start
    n: int  # columns of b, c, y and start
    k: int  # columns of a and rows of b
    a: int
    a_row: int
    a_column: int
    b: int
    b_row: int
    b_column: int
    start: int  # 0: nothing to add
    start_row: int
    start_column: int
    c: int
    c_row: int
    c_column: int
    y: int  # 0: no activation; otherwise c's and y's columns lie without gaps
    y_row: int
    code: int  # of the activation,
    activate: int  # and the address of activate
    unit: int  # numbers of a row of a, or a column of b, that are packed in the place of a float: 1, or a pair of bfloat16s


@jit
def _place(x):
    """The address of x, and the distances of its rows and columns in floats: 1 where there is but one."""
    rows, columns = x.shape
    row, column = x.strides
    return x.ctypes.data, 1 if rows == 1 else row // 4, 1 if columns == 1 else column // 4


@serial_jit
def _write(product, a, b, start, c, y, adds, code, activate, unit):
    """Writes the Product to this address; `adds` and `activate` are 0 for a product without start, or without y."""
    v = integers(product, 20)
    v[0], v[1], v[2] = c.shape[0], c.shape[1], a.shape[1]
    v[3], v[4], v[5] = _place(a)
    v[6], v[7], v[8] = _place(b)
    v[9], v[10], v[11] = start.ctypes.data if adds else 0, start.strides[0] // 4, start.strides[1] // 4
    v[12], v[13], v[14] = _place(c)
    v[15], v[16] = y.ctypes.data if activate else 0, y.strides[0] // 4
    v[17], v[18], v[19] = code, activate, unit


@functools.cache
def describe():
    """_write, compiled once for arrays of any layout instead of once for each."""
    matrix = types.Array(types.float32, 2, "A", readonly=True, aligned=False)
    with global_compiler_lock:  # functools.cache lets several threads in
        if not _write.compiled.overloads:
            _write.compiled.compile((types.int64, *[matrix] * 5, *[types.int64] * 4))
            _write.compiled.disable_compile()
    return _write


@jit
def read(product):
    """The Product that was written to this address."""
    v = integers(product, 20)
    return Product(
        v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9],
        v[10], v[11], v[12], v[13], v[14], v[15], v[16], v[17], v[18], v[19],
    )  # fmt: skip


@jit
def copy(source, n, target, filled):
    """n floats, and zeros up to `filled`."""
    x, y = floats(source, n), floats(target, filled)
    for j in range(n):
        y[j] = x[j]
    for j in range(n, filled):
        y[j] = 0


@Native
def activate(code, m, n, z, z_row, y, y_row, aside):
    """y = f(z), both (m, n). In place, by way of `aside`: where LLVM sees that y may be z, it compiles no vectors."""
    if z_row == n and y_row == n:  # one long row, which vectors fill better than many short ones
        m, n = 1, m * n
    for i in range(m):
        if y != z:
            apply(code, floats(z + 4 * i * z_row, n), floats(y + 4 * i * y_row, n))
        else:
            for j in range(0, n, ASIDE):
                piece, place = min(ASIDE, n - j), z + 4 * (i * z_row + j)
                apply(code, floats(place, piece), floats(aside, piece))
                copy(aside, piece, place, piece)


@jit
def activate_block(p, i, m, j, n, aside):
    z, y = p.c + 4 * (i * p.c_row + j), p.y + 4 * (i * p.y_row + j)
    call(p.activate, (p.code, m, n, z, p.c_row, y, p.y_row, aside))


class Workspace(threading.local):
    """What a calling thread needs besides its arrays, kept from call to call: a Product's place, and scratch that grows."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self.record = np.zeros(len(Product._fields), np.int64)
        self.product = self.record.ctypes.data
        self.floats, self.address = np.empty(0, np.float32), 0

    def scratch(self, size: int) -> int:
        """The address of `size` floats, aligned to the lines of the caches."""
        if size + 16 > self.floats.size:
            self.floats = np.empty(size + 16, np.float32)
            self.address = -(-self.floats.ctypes.data // 64) * 64
        hold(self.floats)
        return self.address

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Within the block the thread has other memory, which is not used again behind it."""
        before = dict(vars(self))
        self._renew()
        try:
            yield
        finally:
            vars(self).update(before)


workspace = Workspace()
