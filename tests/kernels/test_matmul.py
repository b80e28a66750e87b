"""Matrix products against float64: every size, layout and epilogue, nothing outside touched, any processor, any threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import tracemalloc

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import GUARD, in_layout

from tinyllm.kernels.cpu import matmul as file
from tinyllm.kernels.cpu.matmul import BLOCK_ROWS, BLOCK_STEPS, FEW_ROWS, PACKED_STEPS, matmul
from tinyllm.kernels.cpu.simd import LANES, TILE_COLUMNS, TILE_ROWS
from tinyllm.kernels.reference.activation import activation_forward

EDGES = (1, LANES, TILE_ROWS, TILE_COLUMNS, FEW_ROWS, BLOCK_ROWS)
sizes = st.sampled_from(sorted({n + d for n in EDGES for d in (-1, 0, 1)} | {2, 5, 200})) | st.integers(0, 150)
steps = sizes | st.sampled_from((BLOCK_STEPS - 1, BLOCK_STEPS, BLOCK_STEPS + 1, PACKED_STEPS + 3))
layouts = st.sampled_from(("C", "C", "transposed", "wide", "wide transposed", "sliced", "reversed", "offset"))
seeds = st.integers(0, 2**32 - 1)


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    return in_layout(x.T, "wide").T if layout == "wide transposed" else in_layout(x, layout)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


class Guarded:
    """An array to write into, in the midst of another whose numbers must stay."""

    def __init__(self, m: int, n: int, layout: str = "C"):
        self.whole = np.full((m + 4, 2 * n + 70), GUARD, np.float32)
        column = slice(33, 33 + 2 * n, 2) if layout == "sliced" else slice(33, 33 + n)
        self.array = self.whole[2 : m + 2, column]
        if layout == "transposed":
            self.whole = np.full((n + 4, m + 70), GUARD, np.float32)
            self.array = self.whole[2 : n + 2, 33 : 33 + m].T

    def intact(self) -> bool:
        before, self.array[...] = self.array.copy(), GUARD
        intact = bool((self.whole == np.float32(GUARD)).all())
        self.array[...] = before
        return intact


def close(y: np.ndarray, expected: np.ndarray, bound: np.ndarray | float) -> bool:
    """|y - expected| within float32's rounding of sums whose terms' absolute values add up to `bound`."""
    return bool((np.abs(y - expected) <= 1e-6 * bound + 1e-30).all())


@given(sizes, sizes, steps, layouts, layouts, st.sampled_from(("C", "C", "transposed", "sliced")), seeds)
def test_every_size_and_layout(m, n, k, a_layout, b_layout, out_layout, seed):
    rng = np.random.default_rng(seed)
    a, b = normal(rng, m, k), normal(rng, k, n)
    out = Guarded(m, n, out_layout)
    assert matmul(laid_out(a, a_layout), laid_out(b, b_layout), out.array) is out.array
    a, b = a.astype(float), b.astype(float)
    assert close(out.array, a @ b, np.abs(a) @ np.abs(b))
    assert out.intact()


@given(
    *(sizes, sizes, steps),
    st.sampled_from(("bias", "strided bias", "matrix", "itself")),
    st.sampled_from((None, "gelu", "gelu_tanh", "relu", "silu", "tanh")),
    st.sampled_from(("C", "C", "transposed")),
    st.sampled_from(("apart", "apart", "transposed", "in place")),
    seeds,
)
@example(50, 70, PACKED_STEPS + BLOCK_STEPS + 3, "strided bias", "relu", "C", "apart", 0)
@example(50, 70, PACKED_STEPS + 3, "itself", None, "C", "apart", 0)
@example(70, 50, 300, "strided bias", None, "C", "apart", 0)
@example(90, 200, 5, "bias", "gelu", "C", "in place", 0)
def test_epilogues(m, n, k, plus, activation, out_layout, where, seed):
    """The sum, the activation after it, the sum kept or not; as y = x w^T and as dy w."""
    rng = np.random.default_rng(seed)
    a, b = normal(rng, m, k), normal(rng, k, n)
    b = laid_out(b, rng.choice(("C", "transposed")))
    out = Guarded(m, n, out_layout)
    out.array[...] = normal(rng, m, n)
    added = {
        "bias": normal(rng, n),
        "strided bias": normal(rng, 3 * n)[::3],
        "matrix": normal(rng, m, n),
        "itself": out.array,
    }
    start = added[plus].astype(float)
    y = out if where == "in place" else Guarded(m, n, where)
    y.array[...] = GUARD if where != "in place" else y.array
    z = start + a.astype(float) @ b
    bound = np.abs(start) + np.abs(a).astype(float) @ np.abs(b)
    if activation is None:
        matmul(a, b, out.array, plus=added[plus])
        assert close(out.array, z, bound)
    else:
        matmul(a, b, out.array, plus=added[plus], activation=activation, activated=y.array)
        if where != "in place":
            assert close(out.array, z, bound)
            z = out.array.astype(float)  # f itself, of what z came out as: test_vmath.py has its error
            assert close(y.array, activation_forward(z, activation), np.maximum(np.abs(z), 1e-3))
        else:
            assert close(y.array, activation_forward(z, activation), 2 * bound + 1e-3)
    assert out.intact() and y.intact()


@pytest.mark.parametrize("layout", ["C", "wide", "reversed", "offset"])
@pytest.mark.parametrize("m", [*range(1, 10), FEW_ROWS])
def test_few_rows(m, layout):
    """Each number of rows that has its own vectors, and those between; columns and steps that fill none; threads' ends."""
    rng = np.random.default_rng(m)
    for n, k in ((1, 1), (5, LANES - 1), (7, 3 * LANES + 5), (1200, 100), (333, 2000)):
        x, w, bias = laid_out(normal(rng, m, k), layout), laid_out(normal(rng, n, k), layout), normal(rng, n)
        out, y = Guarded(m, n, "sliced"), Guarded(m, n)
        matmul(x, w.T, out.array, plus=bias)
        matmul(x, w.T, y.array, plus=bias, activation="relu", activated=y.array)
        z, bound = bias + x.astype(float) @ w.T, np.abs(bias) + np.abs(x).astype(float) @ np.abs(w.T)
        assert close(out.array, z, bound) and out.intact(), (n, k)
        assert close(y.array, np.maximum(z, 0), bound) and y.intact(), (n, k)


@pytest.mark.parametrize("shape", [(70, 100, 40), (3, 700, 64), (1, 90, 500), (500, 7, 33)])
def test_infinity_and_nan_stay_in_their_row_and_column(shape):
    """Zeros that fill up a tile must not meet an infinity and spread NaN."""
    m, n, k = shape
    a, b = np.ones((m, k), np.float32), np.ones((n, k), np.float32).T
    a[m // 2, k // 2], b[k // 3, n - 1] = np.inf, np.nan
    out = matmul(a, b, np.empty((m, n), np.float32))
    expected = np.full((m, n), k, np.float32)
    expected[m // 2], expected[:, n - 1] = np.inf, np.nan
    assert np.array_equal(out, expected, equal_nan=True)


@given(sizes, sizes, sizes, seeds)
def test_float64(m, n, k, seed):
    rng = np.random.default_rng(seed)
    a, b, c, bias = (rng.standard_normal(shape) for shape in ((k, m), (k, n), (m, n), (n,)))
    y = np.empty((m, n))
    expected = c + a.T @ b
    assert np.allclose(matmul(a.T, b, c, plus=c), expected, rtol=1e-12, atol=1e-12)
    matmul(a.T, b, c, plus=bias, activation="silu", activated=y)
    z = bias + a.T @ b
    assert np.allclose(c, z, atol=1e-12) and np.allclose(y, activation_forward(z, "silu"), atol=1e-12)


def test_wrong_arguments_are_refused():
    a, b, out = np.zeros((3, 4), np.float32), np.zeros((4, 5), np.float32), np.zeros((3, 5), np.float32)
    frozen = np.zeros((3, 5), np.float32)
    frozen.flags.writeable = False
    packed = np.zeros((3, 5), np.dtype([("x", "f4"), ("y", "u1")]))["x"]
    for error, match, call in (
        (ValueError, r"a is \(3, 4\) and b \(3, 5\)", lambda: matmul(a, out, out)),
        (ValueError, "out is", lambda: matmul(a, b, out[:2])),
        (ValueError, "plus is", lambda: matmul(a, b, out, plus=out[:, 0])),
        (ValueError, "read-only", lambda: matmul(a, b, frozen)),
        (ValueError, "no whole number", lambda: matmul(a, b, packed)),
        (ValueError, "activation is 'swish'", lambda: matmul(a, b, out, activation="swish", activated=out)),
        (TypeError, "both or neither", lambda: matmul(a, b, out, activation="gelu")),
        (TypeError, "float32 and float64; convert", lambda: matmul(a, b, out.astype(float))),
        (TypeError, "float16", lambda: matmul(a.astype("f2"), b.astype("f2"), out.astype("f2"))),
        (TypeError, ">f4", lambda: matmul(a.astype(">f4"), b.astype(">f4"), out.astype(">f4"))),
    ):
        with pytest.raises(error, match=match):
            call()


def test_a_second_call_allocates_nothing():
    a, b, out = np.ones((300, 500), np.float32), np.ones((500, 300), np.float32), np.ones((300, 300), np.float32)
    matmul(a, b, out)
    tracemalloc.start()
    try:
        matmul(a, b, out)
        matmul(a.T[:200], b.T[:, :200], out[:200, :200], plus=out[:200, :200])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


def test_two_callers_at_once():
    """Each Python thread has its own scratch."""
    matmul(*np.ones((3, 200, 200), np.float32))
    if numba.threading_layer() == "workqueue":
        pytest.skip("Numba's workqueue, used where neither OpenMP nor TBB is there, takes one caller at a time")
    wrong = []

    def work(number: int) -> None:
        a, b = np.full((200, 210), number, np.float32), np.ones((210, 220), np.float32)
        for _ in range(20):
            if not (matmul(a, b, np.empty((200, 220), np.float32)) == 210 * number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# What needs a process of its own: other processors' tiles, more threads, memory that may not be read -------------------

PRODUCTS = """
import numba, numpy as np
from tinyllm.kernels.cpu import simd
from tinyllm.kernels.cpu.matmul import matmul
rng = np.random.default_rng(0)
many = numba.get_num_threads()
for m, n, k in [(1, 1, 1), (1, 300, 700), (7, 200, 333), (40, 33, 17), (130, 1, 60), (150, 170, 500), (260, 300, 1600)]:
    a, b, bias = (rng.standard_normal(shape).astype("f4") for shape in ((m, k), (k, n), (n,)))
    expected, bound = bias + a.astype(float) @ b, np.abs(bias) + np.abs(a) @ np.abs(b)
    for a_ in (a, a.T.copy().T):
        for b_ in (b, b.T.copy().T):
            results = []
            for threads in sorted({1, many - 1, many}):
                numba.set_num_threads(threads)
                y = np.empty_like(expected, dtype="f4")
                z = matmul(a_, b_, np.empty_like(y), plus=bias, activation="relu", activated=y)
                assert (np.abs(z - expected) < 1e-6 * bound).all() and (y == np.maximum(z, 0)).all(), (m, n, k)
                results.append(z.tobytes())
            assert len(set(results)) == 1, "the result depends on the number of threads"
print(simd.LEVEL, simd.LANES, simd.TILE_ROWS, simd.TILE_COLUMNS)
"""


ANY_X86 = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}


def run(code: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize(("level", "tile"), [("avx2", "8 6 16"), ("neon", "4 8 12"), ("plain", "4 4 8")])
def test_the_tiles_of_other_processors(level, tile):
    """Forced: each compiles here too, and gives the same result for any number of threads."""
    assert run(PRODUCTS, TINYLLM_SIMD=level, NUMBA_NUM_THREADS="5") == f"{level} {tile}"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="features of x86 processors")
@pytest.mark.parametrize(
    ("features", "level"), [("+avx,+avx2,+fma", "avx2"), ("+sse2", "plain"), ("+avx,+avx2,+fma,+avx512f", "avx512")]
)
def test_the_tile_follows_numbas_features(features, level):
    code = "from tinyllm.kernels.cpu import simd; print(simd.LEVEL)"
    assert run(code, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES=features, TINYLLM_SIMD="") == level


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="features of x86 processors")
def test_machine_code_for_any_x86():
    assert run(PRODUCTS, NUMBA_NUM_THREADS="2", **ANY_X86).startswith("plain")


def test_an_unknown_level_is_refused():
    with pytest.raises(AssertionError, match="TINYLLM_SIMD is 'mmx'; set it to one of avx512, avx2, neon, plain"):
        run("import tinyllm.kernels.cpu.simd", TINYLLM_SIMD="mmx")


FENCED = """
import ctypes, mmap
import numpy as np
from tinyllm.kernels.cpu.matmul import matmul
libc, page = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE
rng, maps = np.random.default_rng(0), []

def fenced(rows, columns, at_end):
    'An array whose first or last number stands beside a page that may not be touched.'
    size = 4 * rows * columns
    pages = -(-size // page) * page
    maps.append(mmap.mmap(-1, pages + 2 * page))
    start = ctypes.addressof(ctypes.c_char.from_buffer(maps[-1]))
    for fence in (start, start + page + pages):
        assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0) == 0
    x = np.frombuffer(maps[-1], "f4", rows * columns, page + (pages - size if at_end else 0)).reshape(rows, columns)
    x[...] = rng.standard_normal((rows, columns))
    return x

for at_end in (False, True):
    for m, n, k in [(1, 1, 1), (1, 50, 35), (3, 7, 20), (5, 40, 70), (13, 33, 17), (50, 65, 40), (100, 97, 390)]:
        a, at, b, bt = (fenced(*shape, at_end) for shape in ((m, k), (k, m), (k, n), (n, k)))
        plus, out, bias = (fenced(*shape, at_end) for shape in ((m, n), (m, n), (1, n)))
        for a_ in (a, at.T):
            for b_ in (b, bt.T):
                matmul(a_, b_, out, plus=plus)
                matmul(a_, b_, out, plus=bias[0], activation="gelu", activated=plus)
print("touched nothing")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect is called as on Linux")
@pytest.mark.parametrize("processor", ["this", "any x86"])  # AVX-512's masked reads forgive what others' reads do not
def test_nothing_is_read_outside_of_the_arrays(processor):
    if processor == "any x86" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("features of x86 processors")
    assert run(FENCED, **(ANY_X86 if processor == "any x86" else {})) == "touched nothing"


def test_row_parts_share_out_evenly():
    parts = file._row_parts.py_func
    assert parts(2, 256, 48) == 2 and parts(4, 2, 100) in (1, 2) and parts(7, 3, 50) == 1 and parts(1, 9, 9) == 1
    for threads in (2, 3, 4, 6, 12):
        assert threads % parts(threads, 5, 11) == 0
    assert parts(2, 22, 96) == 1 and parts(2, 256, 24) == 2  # of equal shares, that which reads and copies less
