"""Products with quantized weights, straight from the packed form.

Few rows of x, as in decoding: the numbers of a group are widened in registers and multiplied with x at once; the group's
scale multiplies their sum. Many rows, as in reading a prompt: blocks of the weight are widened into scratch memory and go
to the matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..reference.quantized import GROUP, dequantize, quantize
from .arrays import divided, parts_of, plain
from .matmul import matmul
from .memory import empty
from .simd import LANES, VECTOR, ZEROS, _element, _int, _load, _routine, _spread, _store, _sum, _vector_function, f32, i32

__all__ = ["dequantize", "quantize", "quantized_linear_backward", "quantized_linear_forward"]

FEW_ROWS = 5  # of x: with more, widening the weight for a matrix product pays
BLOCK = 1 << 20  # numbers widened at a time
WEIGHT_ROWS = 8  # taken at a time
AT_ONCE = 4  # groups whose sums are under way together
i8, i16 = ir.IntType(8), ir.IntType(16)
BYTES, HALVES, WORDS = (ir.VectorType(kind, LANES) for kind in (i8, i16, i32))


def _words(value: int) -> ir.Constant:
    return ir.Constant(WORDS, [value] * LANES)


def _numbers(builder: ir.IRBuilder, bits: int, q: Any) -> list[Any]:
    """The 32 numbers of the group at q, as vectors of floats."""

    def read(first: int) -> Any:
        return builder.load(builder.bitcast(builder.gep(q, [_int(first)]), BYTES.as_pointer()), align=1)

    if bits == 16:
        halves = (builder.gep(q, [_int(2 * first)]) for first in range(0, GROUP, LANES))
        halves = (builder.load(builder.bitcast(half, HALVES.as_pointer()), align=2) for half in halves)
        return [builder.bitcast(builder.shl(builder.zext(half, WORDS), _words(16)), VECTOR) for half in halves]
    if bits == 8:
        words = [builder.sext(read(first), WORDS) for first in range(0, GROUP, LANES)]
    else:
        packed = [builder.zext(read(first), WORDS) for first in range(0, GROUP // 2, LANES)]
        lower = [builder.and_(word, _words(15)) for word in packed]
        words = [builder.sub(word, _words(8)) for word in lower + [builder.lshr(word, _words(4)) for word in packed]]
    return [builder.sitofp(word, VECTOR) for word in words]


def _two_scales(builder: ir.IRBuilder, scales: Any) -> list[Any]:
    """The two scales from here on, each in every lane: bfloat16 is the upper half of a float32."""
    both = builder.load(builder.bitcast(scales, i32.as_pointer()), align=2)
    spread = _spread(builder, builder.bitcast(both, f32))
    words = builder.bitcast(spread, WORDS)
    pair = builder.shl(words, _words(16)), builder.and_(words, _words(-65536))
    return [builder.bitcast(word, VECTOR) for word in pair]


def _one_scale(builder: ir.IRBuilder, scale: Any) -> Any:
    word = builder.shl(builder.zext(builder.load(scale), i32), ir.Constant(i32, 16))
    return _spread(builder, builder.bitcast(word, f32))


def make_dots(bits: int) -> Any:
    """dots(rows, n, x, q, scales, y): y[i] = sum over n groups of scale_i q_i x, for so many rows of the weight.

    The weight is read front to back, as memory likes it best; the sums of four groups do not wait for each other.
    """

    def build(builder: ir.IRBuilder, rows: Any, n: Any, x: Any, q: Any, scales: Any, y: Any) -> None:
        x, y = (builder.inttoptr(address, f32.as_pointer()) for address in (x, y))
        q, scales = builder.inttoptr(q, i8.as_pointer()), builder.inttoptr(scales, i16.as_pointer())
        fma = _vector_function(builder, "fmuladd", 3)
        places = [builder.alloca(VECTOR) for _ in range(AT_ONCE)]

        def add_group(place: Any, g: Any, group: Any, scale: Any) -> None:
            total = ZEROS
            weights = _numbers(builder, bits, builder.gep(q, [builder.mul(group, _int(GROUP * bits // 8))]))
            for j, weight in enumerate(weights):
                x_vector = _load(builder, _element(builder, x, builder.mul(g, _int(GROUP)), j * LANES))
                total = builder.call(fma, [x_vector, weight, total])
            builder.store(builder.call(fma, [scale, total, builder.load(place)]), place)

        whole = builder.sub(n, builder.srem(n, _int(AT_ONCE)))
        with cgutils.for_range_slice(builder, _int(0), rows, _int(1)) as (row, _):
            row_start = builder.mul(row, n)
            for place in places:
                builder.store(ZEROS, place)
            with cgutils.for_range_slice(builder, _int(0), whole, _int(AT_ONCE)) as (g, _):
                for i in range(0, AT_ONCE, 2):
                    here = builder.add(g, _int(i))
                    group = builder.add(row_start, here)
                    first, second = _two_scales(builder, builder.gep(scales, [group]))
                    add_group(places[i], here, group, first)
                    add_group(places[i + 1], builder.add(here, _int(1)), builder.add(group, _int(1)), second)
            with cgutils.for_range_slice(builder, whole, n, _int(1)) as (g, _):
                group = builder.add(row_start, g)
                add_group(places[0], g, group, _one_scale(builder, builder.gep(scales, [group])))
            total = builder.load(places[0])
            for place in places[1:]:
                total = builder.fadd(total, builder.load(place))
            builder.store(_sum(builder, total), _element(builder, y, row))

    return _routine(f"tinyllm_dots_of_{bits}_bits_{LANES}", 6, build)


def make_widen(bits: int) -> Any:
    """widen(n, q, scales, w): w = scale q for n groups, float32."""

    def build(builder: ir.IRBuilder, n: Any, q: Any, scales: Any, w: Any, _: Any) -> None:
        w = builder.inttoptr(w, f32.as_pointer())
        q, scales = builder.inttoptr(q, i8.as_pointer()), builder.inttoptr(scales, i16.as_pointer())
        with cgutils.for_range_slice(builder, _int(0), n, _int(1)) as (g, _):
            scale = _one_scale(builder, builder.gep(scales, [g]))
            for j, weight in enumerate(_numbers(builder, bits, builder.gep(q, [builder.mul(g, _int(GROUP * bits // 8))]))):
                _store(builder, builder.fmul(scale, weight), _element(builder, w, builder.mul(g, _int(GROUP)), j * LANES))

    return _routine(f"tinyllm_widen_{bits}_bits_{LANES}", 5, build)


dots16, dots8, dots4 = map(make_dots, (16, 8, 4))
widen16, widen8, widen4 = map(make_widen, (16, 8, 4))


@divided
def multiply(start, stop, x, q, scales, b, y):
    """y (N, F) = x w^T + b for rows [start, stop) of w; x (N, whole groups)."""
    n, row = scales.shape[1], q.shape[1] * q.itemsize
    for first in range(start, stop, WEIGHT_ROWS):
        rows = min(WEIGHT_ROWS, stop - first)  # they stay in the cache for the next row of x
        q_there, scales_there = q.ctypes.data + first * row, scales.ctypes.data + 2 * first * n
        for i in range(len(x)):
            if q.itemsize == 2:
                dots16(rows, n, x[i].ctypes.data, q_there, scales_there, y[i, first:].ctypes.data)
            elif row == x.shape[1]:
                dots8(rows, n, x[i].ctypes.data, q_there, scales_there, y[i, first:].ctypes.data)
            else:
                dots4(rows, n, x[i].ctypes.data, q_there, scales_there, y[i, first:].ctypes.data)
            if b.size:
                for f in range(first, first + rows):
                    y[i, f] += b[f]


@divided
def widen(start, stop, q, scales, w):
    """w (F, whole groups) float32 = scale q, for rows [start, stop)."""
    n, first, first_scale = scales.shape[1], start * q.shape[1] * q.itemsize, 2 * start * scales.shape[1]
    if q.itemsize == 2:
        widen16((stop - start) * n, q.ctypes.data + first, scales.ctypes.data + first_scale, w[start:].ctypes.data, 0)
    elif q.shape[1] == w.shape[1]:
        widen8((stop - start) * n, q.ctypes.data + first, scales.ctypes.data + first_scale, w[start:].ctypes.data, 0)
    else:
        widen4((stop - start) * n, q.ctypes.data + first, scales.ctypes.data + first_scale, w[start:].ctypes.data, 0)


def quantized_linear_forward(x, q, scales, b=None):
    N, C, y = x.size // x.shape[-1], x.shape[-1], empty(x, (*x.shape[:-1], len(q)))
    if x.dtype != np.float32 or N > FEW_ROWS:
        rows, result = matrix(x), matrix(y)
        for block, w in blocks(q, scales, C, x.dtype):
            matmul(rows, w.T, result[:, block], plus=None if b is None else b[block])
        return y
    filled = plain(matrix(x))
    if C % GROUP:
        filled = np.zeros((N, scales.shape[1] * GROUP), np.float32)
        filled[:, :C] = matrix(x)
    parts = min(len(q), parts_of(q.size))
    multiply(len(q), parts, filled, plain(q), plain(scales), empty(x, 0) if b is None else plain(b), matrix(y))
    return y


def quantized_linear_backward(dy, x, q, scales, db=None):
    dx, total = empty(x, x.shape), None
    for block, w in blocks(q, scales, x.shape[-1], x.dtype):
        matmul(matrix(dy)[:, block], w, matrix(dx), plus=total)
        total = matrix(dx)
    if db is not None:
        db += matrix(dy).sum(0)
    return dx


def matrix(x):
    """(..., C) -> (N, C)."""
    return x.reshape(-1, x.shape[-1])


def blocks(q, scales, C, dtype):
    """Blocks of rows of the weight, widened: (which rows, their numbers (rows, C)); one array serves all of them."""
    if dtype != np.float32:
        yield slice(0, len(q)), dequantize(q, scales, C, dtype)
        return
    width = scales.shape[1] * GROUP
    rows = min(max(1, BLOCK // width), len(q))
    scratch = np.empty((rows, width), np.float32)
    for first in range(0, len(q), rows):
        block = slice(first, min(first + rows, len(q)))
        w = scratch[: block.stop - first]
        widen(len(w), min(len(w), parts_of(w.size)), plain(q[block]), plain(scales[block]), w)
        yield block, w[:, :C]
