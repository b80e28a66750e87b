"""Products with quantized weights, straight from the packed form.

Few rows of x, as in decoding: the numbers of a group are widened in registers and multiplied with x at once; the group's
scale multiplies their sum. Many rows, as in reading a prompt: blocks of the weight are widened into scratch memory and go
to the matrix product.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..common import by_blocks, check_packed
from ..reference import quantized as reference
from ..reference.quantized import GROUP
from .arrays import NOTHING, accumulator, computable, divided, indices, parts_of, plain
from .few_rows import (
    FEW_ROWS,
    Reader,
    columns_at_once,
    columns_of,
    groups_of,
    interleave,
    make_dots,
    rows_at_once,
    write_sums,
)
from .jit import jit, serial_jit
from .matmul import matmul
from .memory import empty
from .product import ASIDE
from .simd import LANES, LEVEL, VECTOR, _element, _int, _routine, _spread, _store, f32, i32

__all__ = ["dequantize", "dequantize_rows", "quantize", "quantized_linear_backward", "quantized_linear_forward"]

BLOCK = 1 << 20  # numbers widened at a time
VECTORS = GROUP // LANES  # of a group
i8, i16 = ir.IntType(8), ir.IntType(16)
BYTES, HALVES, WORDS = (ir.VectorType(kind, LANES) for kind in (i8, i16, i32))


def _words(value: int) -> ir.Constant:
    return ir.Constant(WORDS, [value] * LANES)


def _look_up(builder: ir.IRBuilder, words: Any) -> Any:
    """-8 ... 7 for the words' lower four bits, by AVX-512."""
    kind = ir.FunctionType(VECTOR, [VECTOR, WORDS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.permvar.sf.512")
    return builder.call(function, [ir.Constant(VECTOR, [float(i - 8) for i in range(LANES)]), words])


def _numbers(builder: ir.IRBuilder, bits: int, q: Any) -> list[Any]:
    """The 32 numbers of the group at q, as vectors of floats."""

    def read(first: int) -> Any:
        return builder.load(builder.bitcast(builder.gep(q, [_int(first)]), BYTES.as_pointer()), align=1)

    if bits == 16:
        places = (builder.gep(q, [_int(2 * first)]) for first in range(0, GROUP, LANES))
        shorts = (builder.load(builder.bitcast(place, HALVES.as_pointer()), align=2) for place in places)
        return [builder.bitcast(builder.shl(builder.zext(short, WORDS), _words(16)), VECTOR) for short in shorts]
    if bits == 8:
        words = [builder.sext(read(first), WORDS) for first in range(0, GROUP, LANES)]
    else:
        packed = [builder.zext(read(first), WORDS) for first in range(0, GROUP // 2, LANES)]
        halves = packed + [builder.lshr(word, _words(4)) for word in packed]
        if LEVEL == "avx512":  # it looks numbers up by the lower four bits of a word
            return [_look_up(builder, half) for half in halves]
        words = [builder.sub(builder.and_(half, _words(15)), _words(8)) for half in halves]
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


def _reader(bits: int) -> Reader:
    """Two groups at a time, whose scales lie in one word; 16 bits have none."""
    size = GROUP * bits // 8

    def group(builder: ir.IRBuilder, row: Any, s: Any, scale: Any, further: int = 0) -> tuple[list[Any], Any]:
        place = builder.mul(builder.sdiv(s, _int(GROUP)), _int(size))
        return _numbers(builder, bits, builder.gep(row, [builder.add(place, _int(further * size))])), scale

    def first_scale(builder: ir.IRBuilder, scales: Any, s: Any) -> Any:
        return builder.gep(builder.bitcast(scales, i16.as_pointer()), [builder.sdiv(s, _int(GROUP))])

    def two(builder: ir.IRBuilder, row: Any, scales: Any, s: Any) -> list[tuple[list[Any], Any]]:
        pair = [None, None] if bits == 16 else _two_scales(builder, first_scale(builder, scales, s))
        return [group(builder, row, s, scale, further) for further, scale in enumerate(pair)]

    def one(builder: ir.IRBuilder, row: Any, scales: Any, s: Any, _: Any) -> list[tuple[list[Any], Any]]:
        scale = None if bits == 16 else _one_scale(builder, first_scale(builder, scales, s))
        return [group(builder, row, s, scale)]

    return Reader(f"{bits}_bits", 2 * GROUP, 2 * size, VECTORS, two, one)


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


dots16, dots8, dots4 = (make_dots(_reader(bits)) for bits in (16, 8, 4))
widen16, widen8, widen4 = map(make_widen, (16, 8, 4))


@serial_jit
def interleaved(x, target):
    """target = the rows of x (N, C), with zeros up to whole groups, as the dots take them."""
    N, C = x.shape
    interleave(N, C, target.size // (groups_of(N) * rows_at_once(N)), x.ctypes.data, C, target.ctypes.data)


@divided
def multiply(start, stop, N, x, q, scales, b, y):
    """y (N, F) = x w^T + b for rows [start, stop) of w; x interleaved."""
    k, w_row, scales_row = scales.shape[1] * GROUP, q.shape[1] * q.itemsize, 2 * scales.shape[1]
    rows, aside = rows_at_once(N), np.empty(ASIDE, np.float32)
    columns, at_once, sums = columns_of(rows, VECTORS), columns_at_once(N, VECTORS, w_row), aside.ctypes.data
    for first in range(start, stop, at_once):
        n = min(at_once, stop - first)
        w, s = q.ctypes.data + first * w_row, scales.ctypes.data + first * scales_row
        bias = b[first:].ctypes.data if b.size else 0
        for i in range(0, N, rows):
            if q.itemsize == 2:
                dots16(rows, k, x[i * k :].ctypes.data, n, w, w_row, s, scales_row, sums)
            elif w_row == k:
                dots8(rows, k, x[i * k :].ctypes.data, n, w, w_row, s, scales_row, sums)
            else:
                dots4(rows, k, x[i * k :].ctypes.data, n, w, w_row, s, scales_row, sums)
            m, target = min(rows, N - i), y[i:, first:].ctypes.data
            write_sums(m, n, sums, rows, columns, bias, 0, 1, target, y.shape[1], 1)


@jit
def widen_rows(first, rows, q, scales, w):
    """w, an address = scale q, for so many rows of whole groups."""
    n, q_place = scales.shape[1], q.ctypes.data + first * q.shape[1] * q.itemsize
    scales_place = scales.ctypes.data + 2 * first * n
    if q.itemsize == 2:
        widen16(rows * n, q_place, scales_place, w, 0)
    elif q.shape[1] == n * GROUP:
        widen8(rows * n, q_place, scales_place, w, 0)
    else:
        widen4(rows * n, q_place, scales_place, w, 0)


@divided
def widen(start, stop, q, scales, w):
    """w (F, whole groups) float32 = scale q, for rows [start, stop)."""
    widen_rows(start, stop - start, q, scales, w[start:].ctypes.data)


@divided
def widen_chosen(start, stop, index, q, scales, w):
    """w (N, whole groups) float32 = scale q of the rows that the index names."""
    for i in range(start, stop):
        widen_rows(index[i], 1, q, scales, w[i:].ctypes.data)


def quantize(w, bits=8):
    codes, scales = by_blocks(reference.quantize, w, bits)
    return codes, scales


def dequantize(codes, scales, C, dtype=np.float32):
    check_packed(codes, scales, C)
    return reference.dequantize(codes, scales, C, dtype)


def dequantize_rows(index, codes, scales, C, dtype=np.float32):
    check_packed(codes, scales, C)
    chosen = indices(index, len(codes), "tokens")
    if dtype != np.float32 or C % GROUP:
        return reference.dequantize(codes[index], scales[index], C, dtype)
    w = empty(scales, (*index.shape, C), dtype)
    widen_chosen(len(chosen), parts_of(w.size), chosen, plain(codes), plain(scales), matrix(w))
    return w


def quantized_linear_forward(x, codes, scales, b=None):
    check_packed(codes, scales, x.shape[-1])
    computable(x)
    if b is not None and (b.shape != codes.shape[:1] or b.dtype != x.dtype):
        raise ValueError(f"b is {b.dtype} {b.shape}; it must be {x.dtype} {codes.shape[:1]}")
    N, C, y = math.prod(x.shape[:-1]), x.shape[-1], empty(x, (*x.shape[:-1], len(codes)))
    if x.dtype != np.float32 or N > FEW_ROWS:
        rows, result = matrix(x), matrix(y)
        for block, w in blocks(codes, scales, C, x.dtype):
            matmul(rows, w.T, result[:, block], plus=None if b is None else b[block])
        return y
    q, scales, filled = plain(codes), plain(scales), plain(matrix(x))
    if N > 1 or C % GROUP:
        rows, filled = filled, empty(x, groups_of(N) * rows_at_once(N) * scales.shape[1] * GROUP)
        interleaved(rows, filled)
    parts = min(len(q), parts_of(q.size))
    multiply(len(q), parts, N, filled.reshape(-1), q, scales, NOTHING[x.dtype] if b is None else plain(b), matrix(y))
    return y


def quantized_linear_backward(dy, x, codes, scales, db=None):
    check_packed(codes, scales, x.shape[-1])
    if dy.shape != (*x.shape[:-1], len(codes)) or dy.dtype != x.dtype:
        raise ValueError(f"dy is {dy.dtype} {dy.shape}; it must be {x.dtype} {(*x.shape[:-1], len(codes))}")
    dx, total = empty(x, x.shape), None
    for block, w in blocks(codes, scales, x.shape[-1], x.dtype):
        matmul(matrix(dy)[:, block], w, matrix(dx), plus=total)
        total = matrix(dx)
    if db is not None:
        accumulator(db, codes.shape[:1], dy, "db")
        db += matrix(dy).sum(0)
    return dx


def matrix(x):
    """(..., C) -> (N, C)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


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
