"""Matrix products: every size, and every layout of back-propagation, given as views the way NumPy is given them.

    y = x w^T + b     matmul(x, w.T, y, plus=b)
    dx = dy w         matmul(dy, w, dx)
    dw += dy^T x      matmul(dy.T, x, dw, plus=dw)

In float32, from the triple loop to this file in four steps (Goto & van de Geijn 2008, "Anatomy of high-performance matrix
multiplication"):
1. A tile of the result stays in registers while its k products are summed (simd.py).
2. b is packed, once, into panels of a tile's width, which a tile reads front to back. All threads pack together.
3. A block of a, BLOCK_ROWS x BLOCK_STEPS, is copied to where it stays in the thread's second-level cache while all tiles
   between it and the panels are computed. Zeros fill panels and blocks up to whole tiles.
4. The threads share out the tiles. A tile that sticks out over the result's edge is computed aside; what belongs is copied.
Where kernels.autocast asks for it, all of this is done with pairs of bfloat16s in the place of floats (bfloat16.py).
A product y = x w^T of few rows does not earn back the packing: few_rows.py.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .activation import CODES, activation_forward
from .arrays import share
from .bfloat16 import asked_for, copy_pairs, pack_pairs, pack_pairs_transposed
from .few_rows import FEW_ROWS, ask_for, few_rows_part, scratch_of
from .jit import Native, call, jit, parallel_jit, serial_jit
from .parallel import threads
from .product import ASIDE, activate, activate_block, copy, describe, read, workspace
from .simd import LANES, TILE_COLUMNS, TILE_ROWS, floats, make_tile, pack, pack_transposed

BLOCK_TILES = 8
BLOCK_ROWS, BLOCK_STEPS = BLOCK_TILES * TILE_ROWS, 384  # of a: 150 kB at most, for a second-level cache of 256 kB or more
PACKED_STEPS = 4 * BLOCK_STEPS  # of b, at a time: rows at most,
PACKED_SIZE = 1 << 21  # and floats, unless a block's steps alone are more
GROUP_SIZE = 1 << 16  # floats of the panels that a block meets together: they too stay in the second-level cache
SHARE = 1 << 19  # multiplications that make one more thread worth its start
A_ROW = BLOCK_STEPS + LANES  # the distance of the copied rows is no power of two: 12 rows must not fall into one cache set
A_BLOCK = BLOCK_ROWS * A_ROW
THREAD_SCRATCH = A_BLOCK + ASIDE

tile_of_rows = make_tile(a_row=A_ROW, a_step=1)
tile_of_columns = make_tile(a_row=1, a_step=BLOCK_ROWS)
tile_of_row_pairs = make_tile(a_row=A_ROW, a_step=1, pairs=True)
tile_of_column_pairs = make_tile(a_row=1, a_step=BLOCK_ROWS, pairs=True)


@jit
def _steps(p, k):
    """Floats that k numbers of a row take when they are packed."""
    return (k + p.unit - 1) // p.unit


@jit
def _pack_panels(p, first, last, k0, k, j0, packed):
    """Panels first ... last - 1 of the columns from j0 on: k rows from k0 on."""
    size, j = _steps(p, k) * TILE_COLUMNS, j0 + first * TILE_COLUMNS
    n, filled = min(last * TILE_COLUMNS, p.n - j0) - first * TILE_COLUMNS, (last - first) * TILE_COLUMNS
    source, target = p.b + 4 * (k0 * p.b_row + j * p.b_column), packed + 4 * first * size
    if p.b_column == 1:
        if p.unit == 2:
            pack_pairs(k, n, filled, source, p.b_row, target, size, TILE_COLUMNS)
        else:
            pack(k, n, filled, source, p.b_row, target, size, TILE_COLUMNS)
        return
    for j in range(0, n, TILE_COLUMNS):
        columns = min(TILE_COLUMNS, n - j)
        for i in range(columns):  # all at once are more than the processor looks ahead in: first asked for one by one
            ask_for(source + 4 * (j + i) * p.b_column, 4 * k)
        if p.unit == 2:
            pack_pairs_transposed(k, columns, source + 4 * j * p.b_column, p.b_column, target + 4 * j * _steps(p, k))
        else:
            pack_transposed(k, columns, source + 4 * j * p.b_column, p.b_column, target + 4 * j * k)


@jit
def _copy_block(p, i, m, k0, k, block):
    """a[i:i+m, k0:k0+k], laid as it lies, with zeros for rows up to a whole tile."""
    source = p.a + 4 * (i * p.a_row + k0 * p.a_column)
    filled = (m + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS
    if p.unit == 2:
        if p.a_column == 1:
            copy_pairs(m, k, source, p.a_row, block, A_ROW)
            for r in range(m, filled):
                copy(source, 0, block + 4 * r * A_ROW, _steps(p, k))
        else:
            pack_pairs(k, m, filled, source, p.a_column, block, TILE_COLUMNS, BLOCK_ROWS)
    elif p.a_column == 1:
        for r in range(filled):
            copy(source + 4 * r * p.a_row, k if r < m else 0, block + 4 * r * A_ROW, k)
    else:
        for s in range(k):
            copy(source + 4 * s * p.a_column, m, block + 4 * s * BLOCK_ROWS, filled)


@jit
def _add_corner(m, n, tile, x, x_row, x_column):
    """The tile's first (m, n) += x, in any layout."""
    for i in range(m):
        row = floats(tile + 4 * i * TILE_COLUMNS, n)
        for j in range(n):
            row[j] += floats(x + 4 * (i * x_row + j * x_column), 1)[0]


@jit
def _write_corner(m, n, tile, x, x_row, x_column):
    """x (m, n) = the tile's first."""
    for i in range(m):
        row = floats(tile + 4 * i * TILE_COLUMNS, n)
        for j in range(n):
            floats(x + 4 * (i * x_row + j * x_column), 1)[0] = row[j]


@jit
def _one_tile(p, i, m, j, n, k, a, panel, first, aside):
    """c[i:i+m, j:j+n] over k numbers of a row, which are the product's first or add to those before."""
    c = p.c + 4 * (i * p.c_row + j * p.c_column)
    start, start_row, start_column = c, p.c_row, p.c_column
    if first:
        start_row, start_column = p.start_row, p.start_column
        start = 0 if p.start == 0 else p.start + 4 * (i * start_row + j * start_column)
    inside = m == TILE_ROWS and n == TILE_COLUMNS and p.c_column == 1 and (start == 0 or start_column == 1)
    target, target_row = (c, p.c_row) if inside else (aside, TILE_COLUMNS)
    added, added_row = (start, start_row) if inside else (0, 0)
    if p.unit == 2:
        if p.a_column == 1:
            tile_of_row_pairs(_steps(p, k), a, panel, added, added_row, target, target_row)
        else:
            tile_of_column_pairs(_steps(p, k), a, panel, added, added_row, target, target_row)
    elif p.a_column == 1:
        tile_of_rows(k, a, panel, added, added_row, target, target_row)
    else:
        tile_of_columns(k, a, panel, added, added_row, target, target_row)
    if not inside:
        if start != 0:
            _add_corner(m, n, aside, start, start_row, start_column)
        _write_corner(m, n, aside, c, p.c_row, p.c_column)


@jit
def _multiply(p, i0, i1, first, last, k0, k, j0, packed, scratch):
    """Rows i0 ... i1 - 1 of c, panels first ... last - 1 of its columns from j0 on; k numbers of a's rows from k0 on.

    Along the rows of c, over a group of panels, before the next rows: so the processor foresees what of c comes from memory.
    """
    for i in range(i0, i1, BLOCK_ROWS):
        m = min(BLOCK_ROWS, i1 - i)
        for s in range(0, max(k, 1), BLOCK_STEPS * p.unit):
            now = min(BLOCK_STEPS * p.unit, k - s)
            _copy_block(p, i, m, k0 + s, now, scratch)
            at_once = max(1, GROUP_SIZE // (max(_steps(p, now), 1) * TILE_COLUMNS))
            for group in range(first, last, at_once):
                for r in range(0, m, TILE_ROWS):
                    a, rows = scratch + 4 * r * (A_ROW if p.a_column == 1 else 1), min(TILE_ROWS, m - r)
                    for panel in range(group, min(group + at_once, last)):
                        b, j = packed + 4 * (panel * _steps(p, k) + s // p.unit) * TILE_COLUMNS, j0 + panel * TILE_COLUMNS
                        n = min(TILE_COLUMNS, p.n - j)
                        _one_tile(p, i + r, rows, j, n, now, a, b, k0 + s == 0, scratch + 4 * A_BLOCK)
        if p.y != 0 and k0 + k == p.k:
            j = j0 + first * TILE_COLUMNS
            activate_block(p, i, m, j, min(j0 + last * TILE_COLUMNS, p.n) - j, scratch + 4 * A_BLOCK)


@jit
def _row_parts(parts, rows, panels):
    """The tiles' rows go into so many parts, and the panels into parts / so many, that the largest share takes least time.

    In quarters of a tile's: copying a row of tiles takes two, and reading a panel one, once for each block of rows.
    """
    least, best = 5 * rows * panels + 2 * rows + 1, 1
    for r in range(1, parts + 1):
        c = parts // r
        own_rows, own_panels = (rows + r - 1) // r, (panels + c - 1) // c
        blocks = (own_rows + BLOCK_TILES - 1) // BLOCK_TILES
        time = 4 * own_rows * own_panels + 2 * own_rows + own_panels * blocks
        if r * c == parts and time < least:
            least, best = time, r
    return best


@Native
def _pack_part(product, part, parts, k0, k, j0, columns, scratch):
    """A thread's part of packing b[k0:k0+k, j0:j0+columns]."""
    panels = (columns + TILE_COLUMNS - 1) // TILE_COLUMNS
    first, last = share(part, parts, panels)
    _pack_panels(read(product), first, last, k0, k, j0, scratch + 4 * parts * THREAD_SCRATCH)


@Native
def _multiply_part(product, part, parts, k0, k, j0, columns, scratch):
    """A thread's part of multiplying by what was packed."""
    p = read(product)
    tiles, panels = (p.m + TILE_ROWS - 1) // TILE_ROWS, (columns + TILE_COLUMNS - 1) // TILE_COLUMNS
    row_parts = _row_parts(parts, tiles, panels)
    column_parts = parts // row_parts
    row, last_row = share(part // column_parts, row_parts, tiles)
    first, last = share(part % column_parts, column_parts, panels)
    packed, own = scratch + 4 * parts * THREAD_SCRATCH, scratch + 4 * part * THREAD_SCRATCH
    _multiply(p, row * TILE_ROWS, min(last_row * TILE_ROWS, p.m), first, last, k0, k, j0, packed, own)


@serial_jit
def _serial(pack_part, multiply_part, parts, product, k0, k, j0, columns, scratch):
    call(pack_part, (product, 0, 1, k0, k, j0, columns, scratch))
    call(multiply_part, (product, 0, 1, k0, k, j0, columns, scratch))


@parallel_jit
def _parallel(pack_part, multiply_part, parts, product, k0, k, j0, columns, scratch):
    for part in prange(parts):
        call(pack_part, (product, part, parts, k0, k, j0, columns, scratch))
    for part in prange(parts):
        call(multiply_part, (product, part, parts, k0, k, j0, columns, scratch))


@serial_jit
def _few_rows_serial(few_rows_part, parts, product, scratch):
    call(few_rows_part, (product, 0, 1, scratch))


@parallel_jit
def _few_rows_parallel(few_rows_part, parts, product, scratch):
    for part in prange(parts):
        call(few_rows_part, (product, part, parts, scratch))


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    *,
    plus: np.ndarray | None = None,
    activation: str | None = None,
    activated: np.ndarray | None = None,
) -> np.ndarray:
    """out = plus + a b.  a (m, k), b (k, n) -> out (m, n), all float32 or all float64. Returns out.

    Inside `with kernels.autocast("bfloat16"):` float32s of a and b are rounded to bfloat16 on the way, their sums are not.
    plus is (n,), a bias, or (m, n): another matrix to add, or out itself to accumulate.
    With an activation f by name, activated = f(out) is written on the way; where activated is out, only f's result stays.
    Rows (or columns, of a transposed view) may lie any distance apart; what is contiguous neither way is copied first.
    out and activated must not overlap the other arrays, except where they are one and the same.
    Raises TypeError for other dtypes, ValueError for shapes that do not fit, an unknown activation, and bfloat16 on a
    processor that does not have it.
    """
    _check(a, b, out, plus, activation, activated)
    if a.dtype == np.float64:
        _matmul64(a, b, out, plus)
    elif out.size:
        plus = plus[None] if plus is not None and plus.ndim == 1 else plus
        if activation is None or activated is None:
            _matmul32(a, b, out, plus)
        elif _rows_contiguous(out) and _rows_contiguous(activated):
            _matmul32(a, b, out, plus, CODES[activation], activated)
            return out
        else:
            _matmul32(a, b, out, plus)
    if activation is not None and activated is not None:
        activated[...] = activation_forward(out, activation)
    return out


def _matmul64(a, b, out, plus) -> None:
    """By NumPy: float64 is for checking gradients."""
    if plus is None:
        np.matmul(a, b, out=out)
    else:
        np.add(np.matmul(a, b), plus, out=out)


def _matmul32(a, b, out, plus, code=0, y=None) -> None:
    """The way that fits the product, on as many threads as its size is worth."""
    a, b = _packable(a), _packable(b)
    (m, k), n = a.shape, b.shape[1]
    if n < m and n <= FEW_ROWS and y is None:  # out^T = plus^T + b^T a^T
        a, b, out, plus, m, n = b.T, a.T, out.T, None if plus is None else plus.T, n, m
    after = 0 if y is None else activate.address
    product, unit = workspace.product, 2 if asked_for() else 1
    start, y = out if plus is None else plus, out if y is None else y
    describe()(product, a, b, start, out, y, plus is not None, code, after, unit)
    parts = m * n * k // SHARE
    parts = min(threads(), parts) if parts > 1 else 1
    if m <= FEW_ROWS and _rows_contiguous(a) and _rows_contiguous(b.T):
        run = _few_rows_parallel if parts > 1 else _few_rows_serial
        run(few_rows_part.address, parts, product, workspace.scratch(parts * scratch_of(m, k)))
        return
    run = _parallel if parts > 1 else _serial
    at_once = min(max(PACKED_SIZE // n // BLOCK_STEPS, 1) * BLOCK_STEPS, PACKED_STEPS) * unit
    for k0 in range(0, max(k, 1), at_once):
        numbers = min(at_once, k - k0)
        steps = -(-numbers // unit)
        columns = max(PACKED_SIZE // max(steps, 1) // TILE_COLUMNS, 1) * TILE_COLUMNS
        scratch = workspace.scratch(parts * THREAD_SCRATCH + steps * min(columns, n + TILE_COLUMNS))
        for j0 in range(0, n, columns):
            now = min(columns, n - j0)
            run(_pack_part.address, _multiply_part.address, parts, product, k0, numbers, j0, now, scratch)


def _rows_contiguous(x: np.ndarray) -> bool:
    return x.strides[1] == x.itemsize or x.shape[1] == 1


def _packable(x: np.ndarray) -> np.ndarray:
    """x, or a copy where neither rows nor columns are contiguous."""
    return x if 4 in x.strides or 1 in x.shape else np.ascontiguousarray(x)


def _check(a, b, out, plus, activation, activated) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"a is {a.shape} and b {b.shape}; a product needs (m, k) and (k, n)")
    shape = a.shape[0], b.shape[1]
    if (activation is None) != (activated is None):
        raise TypeError("activation is the function's name, activated the array for its result: give both or neither")
    for name, x in (("out", out), ("activated", activated), ("plus", plus)):
        if x is None:
            continue
        if x.shape != shape and not (x is plus and x.shape == shape[1:]):
            raise ValueError(f"{name} is {x.shape}; the product of {a.shape} and {b.shape} is {shape}")
        if x is not plus and not x.flags.writeable:
            raise ValueError(f"{name} is read-only")
    distances = 0  # their last bits tell whether all are whole numbers
    for x in (a, b, out, plus, activated):
        if x is not None:
            distances |= x.strides[0] | x.strides[-1]
            if x.dtype != a.dtype:
                raise TypeError(f"the arrays are {a.dtype} and {x.dtype}; convert them to one dtype")
    if a.dtype != np.float32 and a.dtype != np.float64:
        raise TypeError(f"the arrays are {a.dtype}; the cpu set computes with float32 and float64")
    if distances % a.itemsize:
        raise ValueError("an array's rows or columns lie no whole number of elements apart: copy it first")
