"""The emulator computes what CUDA would, and finds out what a kernel does wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm.kernels.cuda.emulator import EmulatedModule, EmulatorError, loader

try:
    loader.require_compiler()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

ORDERS = ("forward", "reversed", "shuffled")

KERNELS = r"""#include "common.cuh"
extern "C" __global__ void scaled(const float* x, float* y, float factor, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = factor * x[i];
}
extern "C" __global__ void beside(float* x, int by) { x[threadIdx.x + by] = 1; }
extern "C" __global__ void through_null(float* x) { if (threadIdx.x == 7) *(volatile float*)16 = 1; }
extern "C" __global__ void rotated(const float* x, float* y, bool with_barrier) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = s[(threadIdx.x + 1) % 64];
}
extern "C" __global__ void unwritten(float* x) {
  __shared__ float s[32];
  if (threadIdx.x < 31) s[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void dynamic(float* x, int n) {
  extern __shared__ __align__(16) float s[];
  s[n - 1] = 1;
  x[0] = s[0];
}
extern "C" __global__ void divergent(float* x) {
  if (threadIdx.x < 16) __syncthreads();
  else
    __syncthreads();
}
extern "C" __global__ void deadlocked(float* x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
  else __syncthreads();
}
extern "C" __global__ void from_nobody(float* x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffu, x[threadIdx.x], 16);
}
extern "C" __global__ void left_early(float* x) {
  if (threadIdx.x >= 16) return;
  x[threadIdx.x] += __shfl_down_sync(ALL, x[threadIdx.x], 8);
}
extern "C" __global__ void last_one_wins(float* x) { x[0] = blockIdx.x; }
extern "C" __global__ void in_turn(unsigned* turn, unsigned first) {
  if (blockIdx.x == first) publish(turn, 1);
  else wait_for(turn, 1);
}
extern "C" __global__ void too_deep(float* x) {
  volatile char deep[100000];
  for (int i = 0; i < 100000; i += 100) deep[i] = 1;
  x[0] = deep[500];
}
extern "C" __global__ void sums(const float* x, float* y, int n) {
  float total = 0, top = -infinity<float>();
  for (int i = threadIdx.x; i < n; i += blockDim.x) total += x[i], top = Max()(top, x[i]);
  total = row_sum(total);
  top = row_max(top);
  y[threadIdx.x] = total + 1000 * top;
}
extern "C" __global__ void shuffles(int* x) {
  int lane = threadIdx.x;
  x[lane] = __shfl_sync(ALL, lane, 5, 8);
  x[32 + lane] = __shfl_up_sync(ALL, lane, 3);
  x[64 + lane] = __shfl_down_sync(ALL, lane, 3, 16);
  x[96 + lane] = __shfl_xor_sync(ALL, lane, 6);
  x[128 + lane] = __ballot_sync(ALL, lane % 3 == 0);
  x[160 + lane] = __any_sync(ALL, lane == 4) + 2 * __all_sync(ALL, lane < 32) + 4 * __all_sync(ALL, lane < 31);
}
// c (16, 8) = a (16, 16) b (16, 8) by one warp, the numbers brought to shared memory by asynchronous copies
extern "C" __global__ void tensor(const bfloat16* a, const bfloat16* b, float* c, int waits) {
  __shared__ __align__(16) bfloat16 A[16][24], B[16][8];
  int lane = threadIdx.x;
  copy_async(&A[lane / 2][lane % 2 * 8], a + lane * 8);
  copy_async_commit();
  copy_async(B[lane % 16], b + lane % 16 * 8);
  copy_async_commit();
  if (waits) copy_async_wait<0>(); else copy_async_wait<1>();
  __syncwarp();
  unsigned x[4], y[2];
  ldmatrix_x4(x, &A[lane % 16][lane / 16 * 8]);
  ldmatrix_x2_transposed(y, B[lane % 16]);
  float z[4] = {};
  mma_m16n8k16(z, x, y, z);
  for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = z[i];
}
"""


@pytest.fixture(scope="module")
def module():
    return EmulatedModule(KERNELS)


@pytest.fixture
def run(module):
    return lambda name, grid, block, *args, **options: module.get_function(name)((grid,), (block,), args, **options)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- it computes ----------------------------------------------------------------------------------------------------


def test_a_grid_of_blocks(run):
    x, y = numbers(1000), np.zeros(1000, np.float32)
    statistics = run("scaled", 8, 128, x, y, np.float32(3), np.int32(1000))
    np.testing.assert_array_equal(y, 3 * x)
    assert statistics["blocks"] == 8 and statistics["barriers"] == 0


def test_views_that_overlap_are_written_back_once(run):
    """Two parts of one packed array: neither is overwritten with what the other's copy held before."""
    packed = numbers(4, 8)
    before = packed.copy()
    run("scaled", 1, 32, packed[1:, 2:], packed[1:, :2], np.float32(1), np.int32(1))
    expected = before.copy()
    expected[1, 0] = before[1, 2]
    np.testing.assert_array_equal(packed, expected)
    run("scaled", 1, 32, packed, packed, np.float32(2), np.int32(32))  # in place
    np.testing.assert_array_equal(packed, 2 * expected)


@pytest.mark.parametrize("threads", [32, 64, 256, 1024])
@pytest.mark.parametrize("order", ORDERS)
def test_reductions_over_a_row(run, threads, order):
    x, y = numbers(700), np.zeros(threads, np.float32)
    run("sums", 1, threads, x, y, np.int32(700), order=order)
    np.testing.assert_allclose(y, x.sum(dtype="f8") + 1000 * x.max(), rtol=1e-6)
    assert len(set(y.tolist())) == 1


def test_shuffles_and_votes(run):
    x = np.zeros((6, 32), np.int32)
    run("shuffles", 1, 32, x)
    lane = np.arange(32)
    expected = [
        lane // 8 * 8 + 5,
        np.where(lane >= 3, lane - 3, lane),
        np.where(lane % 16 < 13, lane + 3, lane),
        lane ^ 6,
        np.full(32, sum(1 << i for i in range(0, 32, 3))).astype(np.int32),
        np.full(32, 3),
    ]
    np.testing.assert_array_equal(x, expected)


def bfloat16(x):
    """To the nearest, as its 16 bits; and what these are worth."""
    bits = x.view(np.uint32)
    words = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return words, (words.astype(np.uint32) << 16).view(np.float32)


def test_tensor_cores(run):
    (a, wide_a), (b, wide_b), c = bfloat16(numbers(16, 16)), bfloat16(numbers(16, 8)), np.zeros((16, 8), np.float32)
    run("tensor", 1, 32, a, b, c, np.int32(1))
    np.testing.assert_allclose(c, wide_a @ wide_b, atol=1e-5)


def test_bfloat16_is_rounded_to_the_nearest_even():
    code = """#include "common.cuh"
    extern "C" __global__ void rounded(const float* x, bfloat16* y) { y[threadIdx.x] = bfloat16(x[threadIdx.x]); }"""
    x = np.concatenate([numbers(60), np.array([1 + 2**-8, 1 + 3 * 2**-8, np.inf, np.nan], np.float32)])
    y = np.zeros(64, np.uint16)
    EmulatedModule(code).get_function("rounded")(1, 64, (x, y))
    assert y[:63].tolist() == bfloat16(x)[0][:63].tolist() and y[63] & 0x7F80 == 0x7F80 and y[63] & 0x7F


# ---- it finds out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "args", "message"),
    [
        ("beside", (1,), "behind the end"),
        ("beside", (9,), r"thread \(\d+,0,0\): invalid memory access"),
        ("beside", (-1100,), "invalid memory access"),
        ("through_null", (), r"thread \(7,0,0\): invalid memory access at 0x10"),
        ("dynamic", (100,), "invalid memory access"),
        ("too_deep", (), "invalid memory access"),
        ("divergent", (), r"divergent __syncthreads\(\): some threads wait at kernel.cu:\d+ and others at kernel.cu:\d+"),
        ("deadlocked", (), "deadlock: 16 threads wait at __syncthreads.. and 16 for lanes"),
        ("from_nobody", (), r"lane \d+ reads from lane \d+, which takes no part"),
        ("left_early", (), r"names lanes that are not there any more|returns while lane \d+ waits for it"),
    ],
)
def test_errors(run, kernel, args, message):
    x = np.zeros(33, np.float32)[1:]  # its end is not that of 16 bytes
    with pytest.raises(EmulatorError, match=message):
        run(kernel, 1, 32, x, *map(np.int32, args), shared_mem=64)
    y = np.zeros(32, np.float32)
    run("scaled", 1, 32, y + 1, y, np.float32(1), np.int32(32))  # the next launch is none the worse
    assert y.all()


def test_much_shared_memory_must_be_asked_for(run):
    """More than 48 KiB, what kernels here declare included."""
    x = np.zeros(1, np.float32)
    with pytest.raises(EmulatorError, match="49152 bytes of shared memory must be asked for by max_dyn"):
        run("dynamic", 1, 1, x, np.int32(1), shared_mem=48 << 10)
    run("dynamic", 1, 1, x, np.int32(1), shared_mem=46 << 10)
    assert x == 1


def test_a_missing_barrier_gives_poison(run):
    x, y = numbers(64), np.zeros(64, np.float32)
    for order in ORDERS:
        run("rotated", 1, 64, x, y, np.bool_(True), order=order)
        np.testing.assert_array_equal(y, np.roll(x, -1))
        run("rotated", 1, 64, x, y, np.bool_(False), order=order)
        assert np.isnan(y).any(), order


def test_shared_memory_that_nobody_wrote_is_nan(run):
    x = np.zeros(32, np.float32)
    run("unwritten", 1, 32, x)
    assert np.isnan(x[31]) and (x[:31] == 1).all()


def test_a_wrong_wait_for_a_copy_shows(run):
    (a, _), (b, _), c = bfloat16(numbers(16, 16)), bfloat16(numbers(16, 8)), np.zeros((16, 8), np.float32)
    run("tensor", 1, 32, a, b, c, np.int32(0))
    assert np.isnan(c).all()


def test_a_block_that_waits_for_a_later_one(run):
    """On a GPU that is at work with others the later one might not begin before this one has ended: never."""
    turn = np.zeros(1, np.uint32)
    run("in_turn", 2, 1, turn, np.uint32(0), order="forward")
    assert turn == 1
    with pytest.raises(EmulatorError, match="wait_for: 0 is there, not 1, and who would change it has not begun"):
        run("in_turn", 2, 1, np.zeros(1, np.uint32), np.uint32(1), order="forward")


def test_blocks_run_in_another_order_each_time(run):
    x, last = np.zeros(1, np.float32), set()
    for _ in range(20):
        run("last_one_wins", 10, 1, x)
        last.add(x[0])
    assert len(last) > 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.float32(1), np.int32(1)), "has 4 parameters, and got 3"),
        ((numbers(4), 1.0, np.int32(4)), r"argument 2 is 1.0 \(float\), and the parameter has the kind f4"),
        ((numbers(4), np.float32(1), 4), "argument 3 .* i4"),
        ((np.float32(1), np.float32(1), np.int32(4)), "argument 1 .* p8"),
        ((numbers(4), numbers(4), np.int32(4)), "argument 2 is an array of float32"),
    ],
)
def test_arguments_are_compared_with_the_parameters(run, args, message):
    """CuPy would pass an int or a float with the wrong number of bytes in silence."""
    with pytest.raises(EmulatorError, match=message):
        run("scaled", 1, 32, numbers(4), *args)


def test_a_read_only_array_is_not_written(run):
    y = np.zeros(4, np.float32)
    y.flags.writeable = False
    with pytest.raises(EmulatorError, match="read-only"):
        run("scaled", 1, 32, numbers(4), y, np.float32(1), np.int32(4))


def test_blocks_that_no_gpu_has(run):
    for grid, block in ((1, 1025), (0, 32), (1, 0)):
        with pytest.raises(EmulatorError, match="1 to 1024 threads"):
            run("last_one_wins", grid, block, np.zeros(1, np.float32))


def test_a_source_that_does_not_compile():
    with pytest.raises(EmulatorError, match=r"g\+\+ does not compile[\s\S]*kernel.cu:2"):
        EmulatedModule('extern "C" __global__ void f(float* x) {\n  x[0] = nothing; }')


def test_the_cache_forgets_what_nobody_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = 'extern "C" __global__ void f(float* x) { x[0] = %d; }'
    EmulatedModule(code % 1)
    (first,) = loader.cache_folder().iterdir()
    os.utime(first, (0, 0))
    EmulatedModule(code % 1)  # loaded: kept
    EmulatedModule(code % 2)
    assert first.exists() and len(list(loader.cache_folder().iterdir())) == 2
    os.utime(first, (0, 0))
    EmulatedModule(code % 3)
    assert not first.exists()


def test_the_lesson_about_a_missing_barrier():
    script = Path(__file__).parents[2] / "examples" / "missing_barrier.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) > 4, done.stderr
    assert "right" in lines[0] and lines[-1].endswith(tuple("0123456789abcdef"))
    assert all("64 of 128 numbers are what nobody" in line for line in lines[1:4])
    assert "block (2,0,0)" in lines[-1] and "invalid memory access" in lines[-1]
