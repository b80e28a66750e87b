"""The CPU's ladder of blogs/kernels.md: one matrix product in steps, from three loops to the packed microkernel, each timed.

    python benchmarks/ladder.py
    python benchmarks/ladder.py --size 768x384x1536 --rounds 9

c (m, n) = a (m, k) b (k, n) in float32, on one thread. All steps compute the same product, which is compared with float64's;
they take turns, and the table has each one's median. How near a product comes to what the processor can do at all,
benchmarks/matmul.py measures. For reading: these functions take sizes of whole tiles only, and write c from
nothing. What the library runs is kernels/cpu/matmul.py, which the table has as well.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np

from tinyllm import kernels
from tinyllm.kernels.cpu.jit import jit
from tinyllm.kernels.cpu.matmul import BLOCK_ROWS, matmul
from tinyllm.kernels.cpu.simd import BFLOAT16, LEVEL, TILE_COLUMNS, TILE_ROWS, floats, make_tile, pack

ROWS, COLUMNS = 64, 256  # of b: a block for the second-level cache, 64 kB
tile = make_tile()  # of a as it lies, and b packed
SIZE, TINY = "768x384x1536", "96x64x192"


# The steps --------------------------------------------------------------------------------------------------------------


@numba.njit
def naive(a, b, c):
    """Each number of c by itself: a row of a times a column of b. The sum's order is kept, as the loop says."""
    m, k = a.shape
    for i in range(m):
        for j in range(b.shape[1]):
            total = np.float32(0)
            for s in range(k):
                total += a[i, s] * b[s, j]
            c[i, j] = total


@jit
def reordered(a, b, c):
    """The innermost loop runs along rows of b and c: neighbours in memory, which LLVM makes vectors of."""
    m, k = a.shape
    c[:] = 0
    for i in range(m):
        for s in range(k):
            for j in range(b.shape[1]):
                c[i, j] += a[i, s] * b[s, j]


@jit
def blocked(a, b, c):
    """A block of b, ROWS x COLUMNS, is used by all rows of a while it is in the second-level cache."""
    m, k = a.shape
    c[:] = 0
    for j0 in range(0, b.shape[1], COLUMNS):
        for s0 in range(0, k, ROWS):
            for i in range(m):
                sums = c[i, j0 : j0 + COLUMNS]
                for s in range(s0, min(s0 + ROWS, k)):
                    row = b[s, j0 : j0 + COLUMNS]
                    for j in range(sums.size):
                        sums[j] += a[i, s] * row[j]


@jit
def unrolled(a, b, c):
    """Four steps at once: a number of c is loaded and stored once for four multiplications."""
    m, k = a.shape
    c[:] = 0
    for j0 in range(0, b.shape[1], COLUMNS):
        for s0 in range(0, k, ROWS):
            for i in range(m):
                sums = c[i, j0 : j0 + COLUMNS]
                for s in range(s0, min(s0 + ROWS, k), 4):
                    a0, a1, a2, a3 = a[i, s], a[i, s + 1], a[i, s + 2], a[i, s + 3]
                    b0, b1 = b[s, j0 : j0 + COLUMNS], b[s + 1, j0 : j0 + COLUMNS]
                    b2, b3 = b[s + 2, j0 : j0 + COLUMNS], b[s + 3, j0 : j0 + COLUMNS]
                    for j in range(sums.size):
                        sums[j] += a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]


@jit
def pack_all(b, packed):
    """b in panels of TILE_COLUMNS columns, each (k, TILE_COLUMNS) without gaps, one behind the other."""
    k, n = b.shape
    source, target = b.ctypes.data, packed.ctypes.data
    pack(k, n, n, source, n, target, k * TILE_COLUMNS, TILE_COLUMNS)


@jit
def tiled(a, b, c, packed):
    """A tile of c stays in registers for all k steps, by the vector code of simd.py; b is packed for it."""
    (m, k), n = a.shape, b.shape[1]
    pack_all(b, packed)
    for j in range(0, n, TILE_COLUMNS):
        for i in range(0, m, TILE_ROWS):
            a_rows, panel = a.ctypes.data + 4 * i * k, packed.ctypes.data + 4 * j * k
            tile(k, a_rows, k, 1, panel, 0, 0, c.ctypes.data + 4 * (i * n + j), n)


@jit
def packed_both(a, b, c, packed, block):
    """A block of a is copied to where it stays in the second-level cache, while all panels of b pass by."""
    (m, k), n = a.shape, b.shape[1]
    row = block.shape[1]
    pack_all(b, packed)
    for i0 in range(0, m, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, m - i0)
        for i in range(rows):
            source, target = floats(a.ctypes.data + 4 * (i0 + i) * k, k), floats(block.ctypes.data + 4 * i * row, k)
            for s in range(k):
                target[s] = source[s]
        for j in range(0, n, TILE_COLUMNS):
            for i in range(0, rows, TILE_ROWS):
                a_rows, panel = block.ctypes.data + 4 * i * row, packed.ctypes.data + 4 * j * k
                tile(k, a_rows, row, 1, panel, 0, 0, c.ctypes.data + 4 * ((i0 + i) * n + j), n)


def in_bfloat16(a, b, c):
    with kernels.autocast("bfloat16"):
        matmul(a, b, c)


def steps(sizes: tuple[int, int, int]) -> dict[str, Callable[..., object]]:
    """What the table's rows are called, and the functions (a, b, c) that they are."""
    m, k, n = sizes
    packed, block = np.empty(k * n, np.float32), np.empty((BLOCK_ROWS, k + 16), np.float32)
    ladder: dict[str, Callable[..., object]] = {
        "three loops": naive,
        "loops reordered": reordered,
        "blocks of b": blocked,
        "four steps at once": unrolled,
        "tile in registers, b packed": lambda a, b, c: tiled(a, b, c, packed),
        "blocks of a copied": lambda a, b, c: packed_both(a, b, c, packed, block),
        "kernels/cpu/matmul.py": matmul,
    }
    return ladder | ({"the same in bfloat16": in_bfloat16} if BFLOAT16 else {}) | {"NumPy": np.matmul}


# Measuring --------------------------------------------------------------------------------------------------------------


def error(c: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(c - exact) / np.linalg.norm(exact))


def seconds_of(function: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def measure(sizes: tuple[int, int, int], rounds: int) -> list[tuple[str, float]]:
    """(step, median seconds). Raises ValueError where a step's product is wrong."""
    m, k, n = sizes
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32), np.empty((m, n), np.float32)
    exact = a.astype(float) @ b
    ladder = steps(sizes)
    for name, function in ladder.items():  # compiles
        c[:] = np.nan
        function(a, b, c)
        if not error(c, exact) < (1e-2 if "bfloat16" in name else 1e-5):
            raise ValueError(f"{name}: the product is wrong, by {error(c, exact):.1e} of its size")
    times: dict[str, list[float]] = {name: [] for name in ladder}
    for _ in range(rounds):
        for name, function in ladder.items():
            times[name].append(seconds_of(function, a, b, c))
    return [(name, statistics.median(of_step)) for name, of_step in times.items()]


def table(sizes: tuple[int, int, int], medians: list[tuple[str, float]]) -> list[str]:
    """The lines of a Markdown table: milliseconds, billions of operations a second, and the ratio to the first."""
    m, k, n = sizes
    lines = ["| step | ms | GFLOP/s | times as fast as the first |", "| --- | ---: | ---: | ---: |"]
    first = medians[0][1]
    for name, seconds in medians:
        rate = 2 * m * n * k / seconds / 1e9
        lines.append(f"| {name} | {seconds * 1e3:.2f} | {rate:.1f} | {first / seconds:.1f} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="One matrix product, step by step, from three loops to the microkernel.")
    parser.add_argument("--size", default=SIZE, help=f"m x k x n, multiples of {TILE_ROWS}, 4 and {TILE_COLUMNS}")
    parser.add_argument("--rounds", type=int, default=5, help="of measuring, in which all steps take turns")
    parser.add_argument("--tiny", action="store_true", help=f"{TINY}, one round: whether it works")
    options = parser.parse_args(arguments)
    m, k, n = (int(number) for number in (TINY if options.tiny else options.size).split("x"))
    if m % TILE_ROWS or k % 4 or n % TILE_COLUMNS:
        parser.error(f"{m}x{k}x{n}: here m must be a multiple of {TILE_ROWS}, k of 4, n of {TILE_COLUMNS}")
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        medians = measure((m, k, n), 1 if options.tiny else options.rounds)
    finally:
        numba.set_num_threads(threads)
    print(
        f"c ({m}, {n}) = a ({m}, {k}) b ({k}, {n}), float32, one thread, {LEVEL}: a tile is {TILE_ROWS} x {TILE_COLUMNS}\n"
    )
    print("\n".join(table((m, k, n), medians)))


if __name__ == "__main__":
    main()
