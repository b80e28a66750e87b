"""What a tile of attention's scores goes through, and how rows get into scratch and out, as vector code.

Compiled loops take 64 numbers at a time, and here rows are so short that most of the time would go into how loops begin and
end: two to three times what the numbers take. So LANES rows go side by side, a vector of each at a time, with each row's
maximum and sum in registers, and across their lanes only at the end.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .simd import (
    LANES,
    VECTOR,
    ZEROS,
    _across,
    _element,
    _first_lanes,
    _int,
    _load,
    _load_some,
    _prefetch,
    _routine,
    _spread,
    _store,
    _store_some,
    _vector_function,
    f32,
    i32,
)
from .vmath import EXP, LN2_HIGH, LN2_LOW, LOG2_E, ROUND

INTEGERS = ir.VectorType(i32, LANES)
AHEAD = 16  # rows: far apart in memory, they are asked for before their turn
LOWEST = -88.2  # e^-88.2 = 2^-127 or so, which the bits below make 0


def _numbers(value: Any) -> ir.Constant:
    return ir.Constant(VECTOR, [float(value)] * LANES)


def _integers(value: int) -> ir.Constant:
    return ir.Constant(INTEGERS, [value] * LANES)


def _exp(builder: ir.IRBuilder, x: Any) -> Any:
    """e^x for x <= 0, as in vmath.py: 2^n e^r with n = round(x / ln 2); 0 from -87.7 down. NaN stays NaN."""

    def fma(a: Any, b: Any, c: Any) -> Any:
        return builder.call(_vector_function(builder, "fmuladd", 3), [a, b, c])

    x = builder.select(builder.fcmp_ordered("<", x, _numbers(LOWEST)), _numbers(LOWEST), x)
    shifted = fma(x, _numbers(LOG2_E), _numbers(ROUND))  # n in its low bits
    n = builder.fsub(shifted, _numbers(ROUND))
    r = fma(n, _numbers(-LN2_LOW), fma(n, _numbers(-LN2_HIGH), x))
    p = _numbers(EXP[0])
    for coefficient in (*EXP[1:], 1, 1):
        p = fma(p, r, _numbers(coefficient))
    exponent = builder.shl(builder.bitcast(shifted, INTEGERS), _integers(23))
    power = builder.add(exponent, _integers(127 << 23))
    return builder.fmul(p, builder.bitcast(power, VECTOR))


def _over_vectors(builder: ir.IRBuilder, n: Any, start: Any = 0) -> Any:
    start = _int(start) if isinstance(start, int) else start
    return cgutils.for_range_slice(builder, start, n, _int(LANES))


def _greatest(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _pointers(builder: ir.IRBuilder, *addresses: Any) -> list[Any]:
    return [builder.inttoptr(address, f32.as_pointer()) for address in addresses]


def _rows_of(builder: ir.IRBuilder, x: Any, x_row: Any) -> list[Any]:
    """LANES rows from x on."""
    return [_element(builder, x, builder.mul(x_row, _int(i))) for i in range(LANES)]


def _build_copy(
    builder: ir.IRBuilder,
    n: Any,
    D: Any,
    x: Any,
    x_row: Any,
    y: Any,
    y_row: Any,
    factors: Any,
    factor_step: Any,
    filled: Any,
) -> None:
    x, y, factors = _pointers(builder, x, y, factors)
    with cgutils.for_range_slice(builder, _int(0), n, _int(1)) as (i, _):
        source, target = _element(builder, x, builder.mul(x_row, i)), _element(builder, y, builder.mul(y_row, i))
        factor = _spread(builder, builder.load(_element(builder, factors, builder.mul(i, factor_step))))
        whole = builder.and_(D, _int(-LANES))
        later = _element(builder, source, builder.mul(x_row, _int(AHEAD)))
        with _over_vectors(builder, whole) as (d, _):
            _prefetch(builder, _element(builder, later, d), 0)
            product = builder.fmul(_load(builder, _element(builder, source, d)), factor)
            _store(builder, product, _element(builder, target, d))
        with _over_vectors(builder, filled, whole) as (d, _):
            there, room = builder.sub(D, d), builder.sub(filled, d)
            product = builder.fmul(_load_some(builder, _element(builder, source, d), there), factor)
            _store_some(builder, product, _element(builder, target, d), room)


copy_rows: Any = _routine("tinyllm_copy_rows", 9, _build_copy)
"""copy_rows(n, D, x, x_row, y, y_row, factors, factor_step, filled): y (n, filled) = factor * x (n, D), zeros beyond D, its
rows y_row floats apart, and those of x x_row; the factor of row i lies at factors + i * factor_step."""


def _build_hide(builder: ir.IRBuilder, x: Any, n: Any, seen: Any, unseen: Any) -> None:
    (x,) = _pointers(builder, x)

    def hide(s: Any, hidden: Any) -> None:
        place = _element(builder, x, s)
        _store(builder, builder.select(hidden, _numbers(float("-inf")), _load(builder, place)), place)

    with _over_vectors(builder, seen) as (s, _):
        hide(s, _first_lanes(builder, builder.sub(seen, s)))
    with _over_vectors(builder, n, builder.and_(unseen, _int(-LANES))) as (s, _):
        hide(s, builder.not_(_first_lanes(builder, builder.sub(unseen, s))))


hide_row: Any = _routine("tinyllm_hide_row", 4, _build_hide)
"""hide_row(x, n, seen, unseen): x (n) = -inf outside of [seen, unseen); n is a multiple of LANES."""


def _build_exp(builder: ir.IRBuilder, x: Any, x_row: Any, n: Any, tops: Any, totals: Any) -> None:
    x, tops, totals = _pointers(builder, x, tops, totals)
    rows, places = _rows_of(builder, x, x_row), [builder.alloca(VECTOR) for _ in range(LANES)]
    for place in places:
        builder.store(_numbers(float("-inf")), place)
    with _over_vectors(builder, n) as (s, _):
        for row, place in zip(rows, places):
            builder.store(_greatest(builder, _load(builder, _element(builder, row, s)), builder.load(place)), place)
    top = _across(builder, [builder.load(place) for place in places], _greatest)
    top = builder.select(builder.fcmp_ordered("==", top, _numbers(float("-inf"))), ZEROS, top)
    _store(builder, top, tops)
    for place in places:
        builder.store(ZEROS, place)
    with _over_vectors(builder, n) as (s, _):
        for i, (row, place) in enumerate(zip(rows, places)):
            numbers = _element(builder, row, s)
            shift = _spread(builder, builder.load(_element(builder, tops, i)))
            e = _exp(builder, builder.fsub(_load(builder, numbers), shift))
            _store(builder, e, numbers)
            builder.store(builder.fadd(builder.load(place), e), place)
    _store(builder, _across(builder, [builder.load(place) for place in places], ir.IRBuilder.fadd), totals)


exp_rows: Any = _routine("tinyllm_exp_rows", 5, _build_exp)
"""exp_rows(x, x_row, n, tops, totals): LANES rows x (n) become exp(x - max), n a multiple of LANES; writes each row's max, 0
where that is -inf, and its sum."""


def _build_gradient(builder: ir.IRBuilder, p: Any, dp: Any, row: Any, n: Any, lses: Any, factors: Any, deltas: Any) -> None:
    p, dp, lses, factors, deltas = _pointers(builder, p, dp, lses, factors, deltas)
    rows = list(zip(_rows_of(builder, p, row), _rows_of(builder, dp, row)))
    with _over_vectors(builder, n) as (s, _):
        for i, (p_row, dp_row) in enumerate(rows):
            lse, factor, delta = (_spread(builder, builder.load(_element(builder, a, i))) for a in (lses, factors, deltas))
            p, dp = _element(builder, p_row, s), _element(builder, dp_row, s)
            weights = builder.fmul(_exp(builder, builder.fsub(_load(builder, p), lse)), factor)
            _store(builder, weights, p)
            _store(builder, builder.fmul(weights, builder.fsub(_load(builder, dp), delta)), dp)


gradient_rows: Any = _routine("tinyllm_gradient_rows", 7, _build_gradient)
"""gradient_rows(p, dp, row, n, lses, factors, deltas): LANES rows of scores p (n) become factor exp(p - lse), and those of
dp the gradient of the scores, p (dp - delta); n is a multiple of LANES. factor is exp(-low) of two_parts (vmath.py): Numba
allows LLVM to add up lse and low, if both are subtracted here, and their sum would be rounded."""
