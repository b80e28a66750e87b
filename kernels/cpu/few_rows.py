"""Products y = x w^T of few rows of x, as in decoding: a row for each sequence, or for each token of a guess to be checked.

Packing w would not be earned back: memory sets the pace, which reads w once and at its full speed where two things hold.
1. Each number of w meets all rows of x as it comes by, and rows x columns sums stay in registers over the whole of k. The
   rows of x lie interleaved, a vector of each in turn: one stream, whatever the distance of x's rows.
2. Several rows of w in work at once (columns of the product) are several streams, and more than two are too many for the
   processor to look ahead in. So those of the group after next are asked for meanwhile, front to back as they lie in memory,
   and no nearer than the second-level cache, for the first is full of x. (The next group would do for floats. Numbers of 8
   or 4 bits are at their end before memory answers.)
From where the numbers of w come, a reader says: floats, pairs of bfloat16s, or a few bits (quantized.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .arrays import share
from .bfloat16 import copy_pairs
from .jit import Native, jit
from .product import ASIDE, activate_block, copy, read
from .simd import (
    LANES,
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR,
    ZEROS,
    _across,
    _element,
    _int,
    _load,
    _load_some,
    _multiply_add,
    _read_pairs,
    _read_some_pairs,
    _routine,
    _store,
    copy_vector,
    f32,
    floats,
    i32,
)

FEW_ROWS = 32  # with no more, a product goes this way
ROWS = (1, 2, 4, 8)  # that are taken at once; the most for which there are vectors
MOST_COLUMNS = 6
AHEAD = 2  # groups of columns
CACHED = 1 << 17  # bytes of w that stay in the second-level cache
REGISTERS = (TILE_ROWS + 1) * TILE_VECTORS + 1  # as many as a tile has
LINE = 64  # bytes of memory that come together
byte = ir.IntType(8)


class Reader(NamedTuple):
    """How a row of w is read: `step` numbers at a time, which take `size` bytes, in pieces that share a scale."""

    name: str
    step: int
    size: int
    vectors: int  # that are read together
    pieces: Callable[..., list[tuple[list[Any], Any]]]  # (builder, row, scales, s): its vectors and their scale, or None
    rest: Callable[..., list[tuple[list[Any], Any]]]  # (builder, row, scales, s, count): where fewer than a step are left
    pairs: bool = False


def _asks_for(builder: ir.IRBuilder, pointer: Any) -> None:
    """This line of memory, for the second-level cache. Any address will do."""
    kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [pointer, *(ir.Constant(i32, option) for option in (0, 2, 1))])


def _ask_for_line(context: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _asks_for(builder, builder.inttoptr(args[0], byte.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


_ask: Any = intrinsic(_ask_for_line)


@jit
def ask_for(address, size):
    """These bytes of memory, for the second-level cache."""
    for line in range(address, address + size, LINE):
        _ask(line)


def _columns(rows: int, vectors: int) -> int:
    """How many columns are taken at once: of each, the sums and the vectors that are read together stay in registers."""
    return max(1, min(MOST_COLUMNS, REGISTERS // (rows + vectors)))


columns_of = jit(_columns)


def make_dots(reader: Reader) -> Any:
    """dots(rows, k, x, n, w, w_row, scales, scales_row, sums): sums = x w^T over k numbers, one group of columns at a time.

    rows is one of ROWS, and how many columns make a group follows from it. x is interleaved, see below. w and scales are
    addresses of n rows, so many bytes apart; in the last group, the last row stands for those beyond. sums: (groups, rows,
    columns), and room for LANES more.
    """

    def body(
        builder: ir.IRBuilder, rows: int, k: Any, x: Any, n: Any, w: Any, w_row: Any, scales: Any, scales_row: Any, sums: Any
    ) -> None:
        columns = _columns(rows, reader.vectors)
        places = [[cgutils.alloca_once(builder, VECTOR) for _ in range(columns)] for _ in range(rows)]
        last, whole = builder.sub(n, _int(1)), builder.sub(k, builder.srem(k, _int(reader.step)))

        def multiply(i: int, j: int, vectors: list[Any], scale: Any, x_vectors: list[Any]) -> None:
            total = before = builder.load(places[i][j])
            if scale is not None:
                total = ZEROS
            for a, b in zip(x_vectors, vectors):
                total = _multiply_add(builder, a, b, total, reader.pairs)
            if scale is not None:
                total = _multiply_add(builder, scale, total, before, False)
            builder.store(total, places[i][j])

        def step(by_column: list[Any], s: Any) -> None:
            """The pieces of a group's columns from number s on, times those of x."""
            x_step = builder.mul(builder.sdiv(s, _int(2 if reader.pairs else 1)), _int(rows))
            for piece in range(len(by_column[0])):
                pieces = [found[piece] for found in by_column]
                if rows > 1:  # scaling the numbers is less than scaling each row's sum
                    pieces = [(_scaled(builder, vectors, scale), None) for vectors, scale in pieces]
                length = len(pieces[0][0])
                for i in range(rows):
                    places_of_x = [((piece * length + v) * rows + i) * LANES for v in range(length)]
                    x_vectors = [_load(builder, _element(builder, x, x_step, place)) for place in places_of_x]
                    for j, (vectors, scale) in enumerate(pieces):
                        multiply(i, j, vectors, scale, x_vectors)

        with cgutils.for_range_slice(builder, _int(0), n, _int(columns)) as (first, _):
            for place in sum(places, []):
                builder.store(ZEROS, place)
            group = [builder.add(first, _int(j)) for j in range(columns)]
            group = [builder.select(builder.icmp_signed("<", j, n), j, last) for j in group]
            w_rows = [builder.gep(w, [builder.mul(w_row, j)]) for j in group]
            scale_rows = [builder.gep(scales, [builder.mul(scales_row, j)]) for j in group]
            ahead = builder.gep(w, [builder.mul(w_row, builder.add(first, _int(AHEAD * columns)))])

            with cgutils.for_range_slice(builder, _int(0), whole, _int(reader.step)) as (s, _):
                done = builder.mul(builder.sdiv(s, _int(reader.step)), _int(reader.size * columns))
                for line in range(0, reader.size * columns, LINE):
                    _asks_for(builder, builder.gep(ahead, [builder.add(done, _int(line))]))
                step([reader.pieces(builder, row, scale, s) for row, scale in zip(w_rows, scale_rows)], s)
            with builder.if_then(builder.icmp_signed("<", whole, k)):
                left = builder.sub(k, whole)
                step([reader.rest(builder, row, scale, whole, left) for row, scale in zip(w_rows, scale_rows)], whole)

            vectors, done = [builder.load(place) for place in sum(places, [])], builder.mul(first, _int(rows))
            for place in range(0, len(vectors), LANES):
                some = vectors[place : place + LANES]
                total = _across(builder, some + [ZEROS] * (LANES - len(some)))
                _store(builder, total, _element(builder, sums, done, place))

    def build(builder: ir.IRBuilder, rows: Any, k: Any, x: Any, n: Any, w: Any, w_row: Any, scales: Any, *rest: Any) -> None:
        scales_row, sums = rest
        x, sums = (builder.inttoptr(address, f32.as_pointer()) for address in (x, sums))
        w, scales = (builder.inttoptr(address, byte.as_pointer()) for address in (w, scales))
        for at_once in ROWS:
            with builder.if_then(builder.icmp_signed("==", rows, _int(at_once))):
                body(builder, at_once, k, x, n, w, w_row, scales, scales_row, sums)

    return _routine(f"tinyllm_dots_{reader.name}_{LANES}", 9, build)


def _scaled(builder: ir.IRBuilder, vectors: list[Any], scale: Any) -> list[Any]:
    return vectors if scale is None else [builder.fmul(vector, scale) for vector in vectors]


def _floats(builder: ir.IRBuilder, row: Any) -> Any:
    return builder.bitcast(row, f32.as_pointer())


FLOATS = Reader(
    "floats",
    LANES,
    4 * LANES,
    1,
    lambda builder, row, _, s: [([_load(builder, _element(builder, _floats(builder, row), s))], None)],
    lambda builder, row, _, s, count: [([_load_some(builder, _element(builder, _floats(builder, row), s), count)], None)],
)
PAIRS = Reader(
    "pairs",
    2 * LANES,
    8 * LANES,
    1,
    lambda builder, row, _, s: [([_read_pairs(builder, _floats(builder, row), s)], None)],
    lambda builder, row, _, s, count: [([_read_some_pairs(builder, _floats(builder, row), s, count)], None)],
    pairs=True,
)
dots_of_floats, dots_of_pairs = make_dots(FLOATS), make_dots(PAIRS)


@jit
def rows_at_once(m):
    """The fewest of ROWS that hold m rows, or the most of them, several times."""
    return 1 if m == 1 else 2 if m == 2 else 4 if m <= 4 else 8


@jit
def groups_of(m):
    """How often so many rows are taken."""
    return (m + rows_at_once(m) - 1) // rows_at_once(m)


@jit
def filled_steps(k):
    """k rounded up to whole vectors of pairs, and so of floats: zeros stand beyond k."""
    return (k + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)


@jit
def interleave(m, k, filled, x, x_row, target):
    """For each group of rows of x (m, k): a vector of each row in turn, (filled / LANES, rows, LANES), zeros beyond x."""
    rows = rows_at_once(m)
    for i in range(groups_of(m) * rows):
        group = target + 4 * (i - i % rows) * filled
        for s in range(0, filled, LANES):
            source, place = x + 4 * (i * x_row + s), group + 4 * (s * rows + i % rows * LANES)
            if i < m and s + LANES <= k:
                copy_vector(source, place)
            else:
                copy(source, max(0, min(LANES, k - s)) if i < m else 0, place, LANES)


@jit
def scratch_of(m, k):
    """Floats that a thread needs: what stands aside, the pairs of x, x interleaved."""
    return ASIDE + (m + groups_of(m) * rows_at_once(m)) * filled_steps(k)


@jit
def columns_at_once(m, vectors, row_size):
    """Columns, whole groups, whose sums have room aside; where rows of w are taken several times, they stay in the cache."""
    rows = rows_at_once(m)
    columns = columns_of(rows, vectors)
    groups = (ASIDE - LANES) // (rows * columns)
    return columns * (groups if m <= rows else max(1, min(groups, CACHED // (columns * row_size))))


@jit
def write_sums(m, n, sums, rows, columns, start, start_row, start_column, c, c_row, c_column):
    """c (m, n) = start + sums (groups, rows, columns); start 0: nothing to add."""
    width = n if rows == 1 else columns  # a single row's sums lie one behind the other
    for r in range(m):
        for first in range(0, n, width):
            for s in range(first, min(first + width, n)):
                value = floats(sums + 4 * (first * rows + r * width + s - first), 1)[0]
                if start != 0:
                    value += floats(start + 4 * (r * start_row + s * start_column), 1)[0]
                floats(c + 4 * (r * c_row + s * c_column), 1)[0] = value


@Native
def few_rows_part(product, part, parts, scratch):
    """A thread's columns of a product of few rows."""
    p = read(product)
    first, last = share(part, parts, p.n)
    rows, filled, sums = rows_at_once(p.m), filled_steps(p.k) // p.unit, scratch + 4 * part * scratch_of(p.m, p.k)
    x, columns, at_once = sums + 4 * ASIDE, columns_of(rows, 1), columns_at_once(p.m, 1, 4 * p.k)
    if p.unit == 2:
        pairs, x = x, x + 4 * p.m * filled
        copy_pairs(p.m, p.k, p.a, p.a_row, pairs, filled)
        interleave(p.m, filled, filled, pairs, filled, x)
    else:
        interleave(p.m, p.k, filled, p.a, p.a_row, x)
    for j in range(first, last, at_once):
        n, w = min(at_once, last - j), p.b + 4 * j * p.b_column
        for i in range(0, p.m, rows):
            if p.unit == 2:
                dots_of_pairs(rows, p.k, x + 4 * i * filled, n, w, 4 * p.b_column, 0, 0, sums)
            else:
                dots_of_floats(rows, p.k, x + 4 * i * filled, n, w, 4 * p.b_column, 0, 0, sums)
            start = 0 if p.start == 0 else p.start + 4 * (i * p.start_row + j * p.start_column)
            c = p.c + 4 * (i * p.c_row + j * p.c_column)
            m = min(rows, p.m - i)
            write_sums(m, n, sums, rows, columns, start, p.start_row, p.start_column, c, p.c_row, p.c_column)
    if p.y != 0:
        activate_block(p, 0, p.m, first, last - first, sums)
