"""Vector code for matrix products, written as LLVM IR: one tile of a product held in registers, and the packing for it.

Numba compiles loops, and LLVM's vectoriser reaches 7 to 80 GFLOP/s a thread with the loops of a matrix product. What the
processor can do (117 on a Zen 4 core, 258 on a Zen 5) needs a block of the result, a tile, that stays in registers over
the whole inner loop: TILE_ROWS x TILE_COLUMNS sums, to each of which every step adds one product. A step reads TILE_COLUMNS
numbers of b, as vectors, and TILE_ROWS numbers of a, each spread over a vector: so few reads for so many sums that the
multipliers never wait. The size is what fits the register file, by the processor's features.

All functions here are for compiled kernels. They take addresses (`array.ctypes.data`, in bytes) and counts in elements, of
float32, and know no array bounds: matmul.py and attention.py see to it that nothing is read or written outside.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from llvmlite.binding import llvm_version_info
from numba import carray, types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from .jit import jit


class Tile(NamedTuple):
    """Sums that a microkernel holds in registers: rows x (vectors * lanes)."""

    lanes: int
    rows: int
    vectors: int


# Registers: 32 of 16 floats, 16 of 8, 32 of 4, 16 of 4. A tile needs rows * vectors + vectors + 1 of them.
TILES = {"avx512": Tile(16, 12, 2), "avx2": Tile(8, 6, 2), "neon": Tile(4, 8, 3), "plain": Tile(4, 4, 2)}


def processor_features() -> list[str]:
    """What LLVM may use of this processor, "+avx2" and the like; NUMBA_CPU_FEATURES in the environment overrides it."""
    chosen = getattr(config, "CPU_FEATURES", None)
    return (get_host_cpu_features() if chosen is None else chosen).split(",")


def simd_level() -> str:
    """Which of TILES this processor runs best; TINYLLM_SIMD in the environment overrides it."""
    forced = os.environ.get("TINYLLM_SIMD")
    if forced and forced not in TILES:
        raise ValueError(f"TINYLLM_SIMD is {forced!r}; set it to one of {', '.join(TILES)}, or leave it unset")
    if forced:
        return forced
    features = processor_features()
    if "+avx512f" in features:
        return "avx512"
    if "+avx2" in features and "+fma" in features:
        return "avx2"
    return "neon" if platform.machine().lower() in ("arm64", "aarch64") else "plain"


LEVEL = simd_level()
LANES, TILE_ROWS, TILE_VECTORS = TILES[LEVEL]
TILE_COLUMNS = TILE_VECTORS * LANES
BFLOAT16 = LEVEL == "avx512" and {"+avx512bf16", "+avx512bw"} <= {*processor_features()}  # whether it multiplies bfloat16

f32, i32, i64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(f32, LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)


def _int(value: int) -> ir.Constant:
    return ir.Constant(i64, value)


def _element(builder: ir.IRBuilder, base: Any, *offsets: Any) -> Any:
    """Pointer to base[sum of offsets], in floats."""
    for offset in offsets:
        base = builder.gep(base, [_int(offset) if isinstance(offset, int) else offset])
    return base


def _least(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _load(builder: ir.IRBuilder, pointer: Any) -> Any:
    """LANES floats from here on; any address."""
    return builder.load(builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def _first_lanes(builder: ir.IRBuilder, count: Any) -> Any:
    """Of LANES booleans, the first `count` true; count may be < 0 or > LANES."""
    lanes = ir.VectorType(i64, LANES)
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), _spread(builder, count, lanes))


def _load_some(builder: ir.IRBuilder, pointer: Any, count: Any) -> Any:
    """The first `count` of LANES floats from here on, zeros in place of the others, which are not read; count may be < 0."""
    mask = _first_lanes(builder, count)
    pointer = builder.bitcast(pointer, VECTOR.as_pointer())
    kind = ir.FunctionType(VECTOR, [pointer.type, i32, mask.type, VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0v{LANES}f32")
    return builder.call(function, [pointer, ir.Constant(i32, 4), mask, ZEROS])


def _store_some(builder: ir.IRBuilder, vector: Any, pointer: Any, count: Any) -> None:
    """Writes the first `count` of LANES floats, and nothing beyond."""
    mask = _first_lanes(builder, count)
    pointer = builder.bitcast(pointer, VECTOR.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, pointer.type, i32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0v{LANES}f32")
    builder.call(function, [vector, pointer, ir.Constant(i32, 4), mask])


def _store(builder: ir.IRBuilder, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def _vector_function(builder: ir.IRBuilder, name: str, n: int) -> Any:
    """LLVM's intrinsic function of n vectors."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * n)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


# LANES pairs of bfloat16, in the bits of a float each, as LLVM's functions take and give them: up to LLVM 15, as integers
PAIRS = NARROWED = ir.VectorType(_BFloat(), 2 * LANES)
if llvm_version_info[0] < 16:
    PAIRS, NARROWED = ir.VectorType(i32, LANES), ir.VectorType(ir.IntType(16), 2 * LANES)


def _on_pairs(builder: ir.IRBuilder, name: str, result: ir.Type, *values: Any) -> Any:
    """An instruction of AVX512-BF16. Without it, undefined numbers: bfloat16.py refuses before anybody comes here."""
    if not BFLOAT16:
        return ir.Constant(result, ir.Undefined)
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512bf16.{name}.512"), values)


def narrow(builder: ir.IRBuilder, first: Any, second: Any) -> Any:
    """2 LANES floats rounded to bfloat16, to the nearest and of two as near to the even one, as LANES pairs: at the front
    those of `first`. A number below 2^-126 becomes 0."""
    return builder.bitcast(_on_pairs(builder, "cvtne2ps2bf16", NARROWED, second, first), VECTOR)


def _multiply_add(builder: ir.IRBuilder, a: Any, b: Any, total: Any, pairs: bool) -> Any:
    """total + a b in each lane. Of pairs, both products are added, in float32."""
    if pairs:
        return _on_pairs(builder, "dpbf16ps", VECTOR, total, builder.bitcast(a, PAIRS), builder.bitcast(b, PAIRS))
    return builder.call(_vector_function(builder, "fmuladd", 3), [a, b, total])


def _shuffle(builder: ir.IRBuilder, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(i32, len(lanes)), lanes))


def _across(builder: ir.IRBuilder, vectors: list[Any], combine: Callable[..., Any] = ir.IRBuilder.fadd) -> Any:
    """LANES vectors -> one, in lane j of which is the sum, or what else, of the numbers of vector j."""
    size = 1
    while size < LANES:
        low = [lane if not lane & size else LANES + (lane ^ size) for lane in range(LANES)]
        high = [lane | size if not lane & size else LANES + lane for lane in range(LANES)]
        pairs = zip(vectors[::2], vectors[1::2])
        vectors = [combine(builder, _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)) for a, b in pairs]
        size *= 2
    return vectors[0]


def _spread(builder: ir.IRBuilder, number: Any, vector: ir.Type = VECTOR) -> Any:
    """A vector with this number in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    return _shuffle(builder, builder.insert_element(undefined, number, ir.Constant(i32, 0)), undefined, [0] * LANES)


def _prefetch(builder: ir.IRBuilder, pointer: Any, write: int) -> None:
    """Asks for this line of memory in the first-level cache, to be read (0) or written (1) soon. Any address will do."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")  # LLVM renames it if need be
    builder.call(function, [builder.bitcast(pointer, byte), *(ir.Constant(i32, option) for option in (write, 3, 1))])


def _routine(name: str, n_args: int, build: Callable[..., None]) -> Any:
    """A function for kernels that takes n_args integers and returns nothing, its body written by build(builder, *args).

    It is a function of its own in the machine code too, never inlined: its registers are its own, and there is one copy.
    """

    def declared(module: ir.Module) -> ir.Function:
        if name in module.globals:
            return module.globals[name]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64] * n_args), name)
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        builder = ir.IRBuilder(function.append_basic_block())
        build(builder, *function.args)
        builder.ret_void()
        return function

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.call(declared(builder.module), args)
        return context.get_dummy_value()

    def typed(context: Any, *args: Any) -> Any:
        return types.void(*[types.int64] * n_args), codegen

    # Numba reads the number of arguments from the signature, hence one lambda for each.
    by_count = {
        4: lambda context, a, b, c, d: typed(context),
        5: lambda context, a, b, c, d, e: typed(context),
        6: lambda context, a, b, c, d, e, f: typed(context),
        7: lambda context, a, b, c, d, e, f, g: typed(context),
        8: lambda context, a, b, c, d, e, f, g, h: typed(context),
        9: lambda context, a, b, c, d, e, f, g, h, i: typed(context),
        10: lambda context, a, b, c, d, e, f, g, h, i, j: typed(context),
    }
    return intrinsic(by_count[n_args])


def make_tile(
    rows: int = TILE_ROWS,
    vectors: int = TILE_VECTORS,
    a_row: int | None = None,
    a_step: int | None = None,
    unroll: int = 4,
    pairs: bool = False,
    b_in_rows: bool = False,
) -> Any:
    """tile(k, a, b, start, start_row, c, c_row): c = start + a b over one tile of rows x (vectors * LANES).

    a(i, s), for row i and step s < k, lies at a + i * a_row + s * a_step: either way round. b is packed,
    (k, vectors * LANES) without gaps. Row i of c lies at c + i * c_row. start likewise, and what it is says what the
    product does: c itself to accumulate, another matrix to add, a bias with start_row = 0, or the address 0 for nothing.
    Where a_row and a_step are not known here, the tile takes them as well: tile(k, a, a_row, a_step, b, ...). It is as
    fast on x86; elsewhere computing 12 addresses a step may cost something.

    b_in_rows: b is not packed; its row s lies at b + s * b_row, and the tile takes b_row after b.
    pairs: a and b are of pairs of bfloat16s (bfloat16.py), each in the place of a float: a step is two steps of the product.
    """
    fixed = a_row is not None and a_step is not None

    def build_any(builder: ir.IRBuilder, k: Any, a: Any, *rest: Any) -> None:
        if fixed:
            rest = _int(a_row or 0), _int(a_step or 0), *rest
        if not b_in_rows:
            rest = *rest[:3], _int(vectors * LANES), *rest[3:]
        build(builder, k, a, *rest)

    def build(
        builder: ir.IRBuilder,
        k: Any,
        a: Any,
        a_row: Any,
        a_step: Any,
        b: Any,
        b_row: Any,
        start: Any,
        start_row: Any,
        c: Any,
        c_row: Any,
    ) -> None:
        a, b, c = (builder.inttoptr(address, f32.as_pointer()) for address in (a, b, c))
        sums = [[builder.alloca(VECTOR) for _ in range(vectors)] for _ in range(rows)]  # LLVM makes registers of them
        for row in sums:
            for place in row:
                builder.store(ZEROS, place)

        def step(s: Any) -> None:
            b_step, a_offset = builder.mul(s, b_row), builder.mul(s, a_step)
            b_vectors = [_load(builder, _element(builder, b, b_step, j * LANES)) for j in range(vectors)]
            for i in range(rows):
                number = _spread(builder, builder.load(_element(builder, a, a_offset, builder.mul(a_row, _int(i)))))
                for j in range(vectors):
                    total = _multiply_add(builder, number, b_vectors[j], builder.load(sums[i][j]), pairs)
                    builder.store(total, sums[i][j])

        whole = builder.sub(k, builder.srem(k, _int(unroll)))
        with cgutils.for_range_slice(builder, _int(0), whole, _int(unroll)) as (s, _):
            # one row of c after the other: asked for all at once, they would keep the reads of b waiting
            row = _least(builder, builder.sdiv(s, _int(unroll)), _int(rows - 1))
            for j in range(vectors):
                _prefetch(builder, _element(builder, c, builder.mul(c_row, row), j * LANES), 1)
            for u in range(unroll):
                step(builder.add(s, _int(u)))
        with cgutils.for_range_slice(builder, whole, k, _int(1)) as (s, _):
            step(s)

        def write(added: Any) -> None:
            for i in range(rows):
                for j in range(vectors):
                    value = builder.load(sums[i][j])
                    if added is not None:
                        place = _element(builder, added, builder.mul(start_row, _int(i)), j * LANES)
                        value = builder.fadd(value, _load(builder, place))
                    _store(builder, value, _element(builder, c, builder.mul(c_row, _int(i)), j * LANES))

        with builder.if_else(builder.icmp_signed("==", start, _int(0))) as (nothing, something):
            with nothing:
                write(None)
            with something:
                write(builder.inttoptr(start, f32.as_pointer()))

    name = f"tinyllm_tile_{rows}x{vectors}x{LANES}{'_pairs' if pairs else ''}{'_in_rows' if b_in_rows else ''}"
    if fixed:
        name += f"_{a_row}_{a_step}"
    return _routine(name, (7 if fixed else 9) + b_in_rows, build_any)


def _read(builder: ir.IRBuilder, row: Any, s: Any) -> Any:
    """LANES floats of the row, from s on."""
    return _load(builder, _element(builder, row, s))


def _read_pairs(builder: ir.IRBuilder, row: Any, s: Any) -> Any:
    """2 LANES floats of the row, from s on, as pairs."""
    return narrow(builder, _read(builder, row, s), _load(builder, _element(builder, row, s, LANES)))


def _read_some_pairs(builder: ir.IRBuilder, row: Any, s: Any, count: Any) -> Any:
    """2 LANES floats of the row, from s on, as pairs; zeros in place of all but `count`, which are not read."""
    rest = builder.sub(count, _int(LANES))
    first, second = _element(builder, row, s), _element(builder, row, s, LANES)
    return narrow(builder, _load_some(builder, first, count), _load_some(builder, second, rest))


def _transpose(builder: ir.IRBuilder, vectors: list[Any]) -> list[Any]:
    """LANES vectors of LANES as a matrix, transposed: swap blocks of 1, 2, 4, ... across the diagonal."""
    size = 1
    while size < LANES:
        swapped = list(vectors)
        low = [lane if not lane & size else LANES + (lane ^ size) for lane in range(LANES)]
        high = [lane | size if not lane & size else LANES + lane for lane in range(LANES)]
        for i in range(LANES):
            if not i & size:
                pair = vectors[i], vectors[i | size]
                swapped[i], swapped[i | size] = _shuffle(builder, *pair, low), _shuffle(builder, *pair, high)
        vectors, size = swapped, 2 * size
    return vectors


def _build_transpose(builder: ir.IRBuilder, n: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> None:
    source, target = (builder.inttoptr(address, f32.as_pointer()) for address in (source, target))
    last = builder.sub(n, _int(1))
    rows = []
    for i in range(LANES):
        there = builder.icmp_signed("<", _int(i), n)
        row = builder.mul(source_row, builder.select(there, _int(i), last))
        rows.append(builder.select(there, _load(builder, _element(builder, source, row)), ZEROS))
    for i, vector in enumerate(_transpose(builder, rows)):
        _store(builder, vector, _element(builder, target, builder.mul(target_row, _int(i))))


transpose_block: Any = _routine(f"tinyllm_transpose_{LANES}", 5, _build_transpose)
"""transpose_block(n, source, source_row, target, target_row): 0 < n <= LANES rows of LANES, and zeros for rows to come,
transposed to LANES rows of LANES."""


def _copy_vector(context: Any, source: Any, target: Any) -> Any:
    """copy_vector(source, target): LANES floats."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (builder.inttoptr(address, f32.as_pointer()) for address in args)
        _store(builder, _load(builder, source), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


copy_vector: Any = intrinsic(_copy_vector)


def _pointer(kind: Any, llvm_type: ir.Type) -> Any:
    """A function for kernels: the address as a pointer to numbers of this type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], llvm_type.as_pointer())

    return intrinsic(lambda context, address: (types.CPointer(kind)(types.int64), codegen))


_float_pointer, _integer_pointer = _pointer(types.float32, f32), _pointer(types.int64, i64)


@jit(forceinline=True)
def floats(address, n):
    """The n float32s from this address on, as an array: for loops that LLVM vectorises.

    Assign number by number: a slice assigned to a slice brings in two seconds of compiling the text of a shape error.
    """
    return carray(_float_pointer(address), n)


@jit(forceinline=True)
def integers(address, n):
    """The n int64s from this address on, as an array."""
    return carray(_integer_pointer(address), n)


ROWS_TOGETHER = 8  # of b, a piece of each panel, before the next are packed: memory is read nearly in its order


def make_pack(name: str, rows: int, combine: Callable[..., Any]) -> Any:
    """pack(k, n, filled, b, b_row, panels, panel_size, panel_row): rows of b (k, n), cut into panels of TILE_COLUMNS.

    combine(builder, vectors...) makes one row of a panel of each `rows` rows of b. Row s of b lies at b + s * b_row; panel i
    at panels + i * panel_size, its rows panel_row apart, in floats. Zeros stand for rows beyond k, and for columns beyond n
    up to `filled`, rounded up to whole vectors.
    """

    def build(
        builder: ir.IRBuilder, k: Any, n: Any, filled: Any, b: Any, b_row: Any, panels: Any, panel_size: Any, panel_row: Any
    ) -> None:
        b, panels = (builder.inttoptr(address, f32.as_pointer()) for address in (b, panels))

        def over(start: Any, stop: Any, step: int) -> Any:
            return cgutils.for_range_slice(builder, start, stop, _int(step))

        def pack_row(s: Any, column: Any, panel: Any) -> None:
            first = _element(builder, b, builder.mul(s, b_row), column)
            target = _element(builder, panel, builder.mul(builder.sdiv(s, _int(rows)), panel_row))
            there = [builder.icmp_signed("<", builder.add(s, _int(i)), k) for i in range(rows)]
            distances = [builder.select(inside, builder.mul(b_row, _int(i)), _int(0)) for i, inside in enumerate(there)]
            sources = [_element(builder, first, distance) for distance in distances]
            left = [builder.select(inside, builder.sub(n, column), _int(0)) for inside in there]
            width = _least(builder, builder.sub(filled, column), _int(TILE_COLUMNS))
            with builder.if_else(builder.icmp_signed(">=", left[-1], _int(TILE_COLUMNS))) as (whole, edge):
                with whole:
                    for j in range(0, TILE_COLUMNS, LANES):
                        vectors = [_load(builder, _element(builder, row, j)) for row in sources]
                        _store(builder, combine(builder, *vectors), _element(builder, target, j))
                with edge, over(_int(0), width, LANES) as (j, _):
                    places = [(_element(builder, row, j), builder.sub(count, j)) for row, count in zip(sources, left)]
                    vectors = [_load_some(builder, place, count) for place, count in places]
                    _store(builder, combine(builder, *vectors), _element(builder, target, j))

        with over(_int(0), k, ROWS_TOGETHER) as (s0, _), over(_int(0), filled, TILE_COLUMNS) as (column, _):
            panel = _element(builder, panels, builder.mul(builder.sdiv(column, _int(TILE_COLUMNS)), panel_size))
            with over(s0, _least(builder, builder.add(s0, _int(ROWS_TOGETHER)), k), rows) as (s, _):
                pack_row(s, column, panel)

    return _routine(name, 8, build)


pack: Any = make_pack("tinyllm_pack", 1, lambda builder, row: row)


@jit
def pack_transposed(k, n, b, b_row, panel):
    """panel (k, TILE_COLUMNS) = the transpose of b (n, k), zeros where b ends; 0 < n <= TILE_COLUMNS."""
    whole = k - k % LANES
    for v in range(0, TILE_COLUMNS, LANES):
        rows = min(n - v, LANES)
        if rows <= 0:
            for s in range(k):
                target = floats(panel + 4 * (s * TILE_COLUMNS + v), LANES)
                for i in range(LANES):
                    target[i] = 0
            continue
        for s in range(0, whole, LANES):
            transpose_block(rows, b + 4 * (v * b_row + s), b_row, panel + 4 * (s * TILE_COLUMNS + v), TILE_COLUMNS)
        for s in range(whole, k):
            target = floats(panel + 4 * (s * TILE_COLUMNS + v), LANES)
            for i in range(LANES):
                target[i] = floats(b + 4 * ((v + i) * b_row + s), 1)[0] if i < rows else 0
