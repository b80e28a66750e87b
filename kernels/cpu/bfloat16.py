"""bfloat16 products: float32s are rounded and packed in pairs, which one instruction multiplies and sums in float32.

bfloat16 is the upper half of a float32: its exponent, and 8 bits of its precision. The dot product of AVX512-BF16 takes two
of them in place of each float32, so it does twice the work in the same time (4th generation Xeon and EPYC, Ryzen 7000):

    sum (float32)  +=  a[2s] b[2s]  +  a[2s + 1] b[2s + 1]      in each lane

In place of each float, the tile of simd.py then holds the pair of numbers of steps 2s and 2s + 1. Matrices stay float32 in
memory. They are rounded while they are packed, because a product reads each number once there. Nothing else of matmul.py
changes. If k is odd, the second number of the last pair is zero.

As in simd.py, these functions take addresses and counts. Here k and n count floats.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..context import autocast_dtype
from .simd import (
    BFLOAT16,
    LANES,
    TILE_COLUMNS,
    VECTOR,
    _element,
    _int,
    _read_pairs,
    _read_some_pairs,
    _routine,
    _shuffle,
    _store,
    _transpose,
    f32,
    make_pack,
    narrow,
)

WORDS = ir.VectorType(ir.IntType(16), 2 * LANES)
ALTERNATING = [half + lane for lane in range(LANES) for half in (0, LANES)]


def asked_for() -> bool:
    """Return whether autocast asks for products in bfloat16. ValueError if it does and the processor cannot compute them."""
    asked = autocast_dtype() == "bfloat16"
    if asked and not BFLOAT16:
        raise ValueError(
            "this processor cannot multiply in bfloat16: it lacks AVX512-BF16, which 4th generation Xeon and EPYC and Ryzen "
            "7000 have, and later ones. Compute in float32: leave out autocast('bfloat16')"
        )
    return asked


def _half(builder: ir.IRBuilder, n: Any) -> Any:
    """The number of pairs that hold n numbers."""
    return builder.sdiv(builder.add(n, _int(1)), _int(2))


def _pairs(builder: ir.IRBuilder, firsts: Any, seconds: Any) -> Any:
    """The pairs of numbers of two rows that are one below the other."""
    words = builder.bitcast(narrow(builder, firsts, seconds), WORDS)
    return builder.bitcast(_shuffle(builder, words, words, ALTERNATING), VECTOR)


pack_pairs: Any = make_pack("tinyllm_pack_pairs", 2, _pairs)


def _build_pack_pairs_transposed(builder: ir.IRBuilder, k: Any, n: Any, b: Any, b_row: Any, panel: Any) -> None:
    b, panel = (builder.inttoptr(address, f32.as_pointer()) for address in (b, panel))
    aside, last = builder.alloca(VECTOR, LANES), builder.sub(n, _int(1))
    for v in range(0, TILE_COLUMNS, LANES):
        inside = (builder.select(builder.icmp_signed("<", _int(v + i), n), _int(v + i), last) for i in range(LANES))
        rows = [_element(builder, b, builder.mul(b_row, i)) for i in inside]

        def target(pair: Any, v: int = v) -> Any:
            return _element(builder, panel, builder.mul(pair, _int(TILE_COLUMNS)), v)

        whole = builder.sub(k, builder.srem(k, _int(2 * LANES)))
        with cgutils.for_range_slice(builder, _int(0), whole, _int(2 * LANES)) as (s, _):
            for i, vector in enumerate(_transpose(builder, [_read_pairs(builder, row, s) for row in rows])):
                _store(builder, vector, target(builder.add(builder.sdiv(s, _int(2)), _int(i))))
        with builder.if_then(builder.icmp_signed("<", whole, k)):  # the panel may end after any of the rows
            rest = builder.sub(k, whole)
            read = [_read_some_pairs(builder, row, whole, rest) for row in rows]
            for i, vector in enumerate(_transpose(builder, read)):
                builder.store(vector, builder.gep(aside, [_int(i)]))
            with cgutils.for_range_slice(builder, _int(0), _half(builder, rest), _int(1)) as (i, _):
                place = target(builder.add(builder.sdiv(whole, _int(2)), i))
                _store(builder, builder.load(builder.gep(aside, [i])), place)


pack_pairs_transposed: Any = _routine("tinyllm_pack_pairs_transposed", 5, _build_pack_pairs_transposed)
"""pack_pairs_transposed(k, n, b, b_row, panel): panel (k/2, TILE_COLUMNS) = the transpose of b (n, k), each two steps as a
pair. 0 < n <= TILE_COLUMNS; the columns from n on repeat the last row."""


def _build_copy_pairs(builder: ir.IRBuilder, m: Any, k: Any, a: Any, a_row: Any, block: Any, block_row: Any) -> None:
    a, block = (builder.inttoptr(address, f32.as_pointer()) for address in (a, block))
    whole = builder.sub(k, builder.srem(k, _int(2 * LANES)))
    with cgutils.for_range_slice(builder, _int(0), m, _int(1)) as (i, _):
        source, target = _element(builder, a, builder.mul(i, a_row)), _element(builder, block, builder.mul(i, block_row))
        with cgutils.for_range_slice(builder, _int(0), whole, _int(2 * LANES)) as (s, _):
            _store(builder, _read_pairs(builder, source, s), _element(builder, target, builder.sdiv(s, _int(2))))
        with builder.if_then(builder.icmp_signed("<", whole, k)):
            pairs = _read_some_pairs(builder, source, whole, builder.sub(k, whole))
            _store(builder, pairs, _element(builder, target, builder.sdiv(whole, _int(2))))


copy_pairs: Any = _routine("tinyllm_copy_pairs", 6, _build_copy_pairs)
"""copy_pairs(m, k, a, a_row, block, block_row): a (m, k) as rows of pairs, block (m, k/2), zeros up to whole vectors."""
