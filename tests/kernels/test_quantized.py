"""Quantized weights: how near they come, how they are packed, and products that are those of the widened weight."""

import sys

import numpy as np
import pytest
from calls import SETS, function
from hypothesis import given
from hypothesis import strategies as st
from test_matmul import FENCED, run

from tinyllm.kernels import common
from tinyllm.kernels.float_bits import from_upper_half, upper_half
from tinyllm.kernels.reference.quantized import GROUP

ROWS = (*range(1, 10), 32, 33)  # of x: as many as have their own vectors, and so many that the weight is widened
every_set = pytest.mark.parametrize("any_set", SETS)
all_sizes = pytest.mark.parametrize("bits", [16, 8, 4])


def weight(F, C, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal((F, C)).astype(dtype)


@every_set
@all_sizes
@pytest.mark.parametrize("C", [1, 31, 32, 33, 200])
def test_near_and_small(C, bits, any_set):
    w = weight(7, C)
    q, scales = function("quantize", any_set)(w, bits)
    n = -(-C // GROUP)
    assert q.shape == (7, n * GROUP * bits // 8 // q.itemsize) and scales.shape == (7, n)
    assert (q.dtype, scales.dtype) == ({16: np.uint16, 8: np.int8, 4: np.uint8}[bits], np.uint16)
    back = function("dequantize", any_set)(q, scales, C)
    assert back.shape == w.shape and back.dtype == np.float32
    step = np.abs(from_upper_half(scales)).repeat(GROUP, 1)[:, :C]
    if bits == 8:
        assert (np.abs(back - w) <= 0.51 * step + 0.005 * np.abs(w)).all()
    assert np.linalg.norm(back - w) < {16: 0.002, 8: 0.008, 4: 0.1}[bits] * np.linalg.norm(w)


@every_set
@all_sizes
def test_whole_numbers_zeros_and_extremes_are_exact(bits, any_set):
    largest = {16: 255, 8: 127, 4: 8}[bits]
    w = np.zeros((4, 64), np.float32)
    w[1, :32] = np.random.default_rng(0).integers(-largest + 1, largest, 32)
    w[1, 0] = -largest
    w[2], w[3, 5] = -w[1], 1e-9
    q, scales = function("quantize", any_set)(w, bits)
    np.testing.assert_allclose(function("dequantize", any_set)(q, scales, 64), w, rtol=0.005)


@every_set
@all_sizes
def test_blocks_of_rows_are_the_whole(bits, any_set, monkeypatch):
    """The fast sets quantize some rows at a time, and get what the reference gets."""
    monkeypatch.setattr(common, "BLOCK", 100)
    for w in (weight(9, 40), weight(1, 300), np.zeros((0, 40), np.float32)):
        ours, truth = function("quantize", any_set)(w, bits), function("quantize", "reference")(w, bits)
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(ours, truth, strict=True))
        assert function("dequantize", any_set)(*ours, w.shape[1]).shape == w.shape


def test_how_four_bits_lie():
    w = np.zeros((1, 32), np.float32)
    w[0, :4], w[0, 16:19] = [-8, 7, 1, 0], [3, -1, 2]
    q, scales = function("quantize", "reference")(w, 4)
    assert from_upper_half(scales).tolist() == [[1]]
    assert q[0, :4].tolist() == [0 | 11 << 4, 15 | 7 << 4, 9 | 10 << 4, 8 | 8 << 4]


@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-(2.0**120), max_value=2.0**120), min_size=1))
def test_bfloat16_is_the_nearest(numbers):
    x = np.array(numbers, np.float32)
    rounded = from_upper_half(upper_half(x))
    assert (np.abs(rounded - x) <= np.abs(x) * 2**-8 + 1e-38).all()
    np.testing.assert_array_equal(from_upper_half(upper_half(rounded)), rounded)


@every_set
@all_sizes
@given(st.data())
def test_products_are_those_of_the_widened_weight(bits, any_set, data):
    N, C, F = (data.draw(st.sampled_from(sizes)) for sizes in (ROWS, (1, 31, 64, 172, 300), (1, 3, 8, 33, 200)))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    shape = data.draw(st.sampled_from([(N, C), (1, N, C)]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    q, scales = function("quantize", "reference")(weight(F, C, N), bits)
    w = function("dequantize", "reference")(q, scales, C, np.float64)
    x, dy = random.standard_normal(shape).astype(dtype), random.standard_normal((*shape[:-1], F)).astype(dtype)
    b = random.standard_normal(F).astype(dtype) if data.draw(st.booleans()) else None
    tolerance = {"rtol": 0, "atol": (1e-4 if dtype == "float32" else 1e-12) * max(C, F) ** 0.5}

    y = function("quantized_linear_forward", any_set)(x, q, scales, b)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, x @ w.T + (0 if b is None else b), **tolerance)

    db = None if b is None else np.ones(F, dtype)
    dx = function("quantized_linear_backward", any_set)(dy, x, q, scales, db)
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx, dy @ w, **tolerance)
    if db is not None:
        np.testing.assert_allclose(db, 1 + dy.reshape(-1, F).sum(0), **tolerance)


@every_set
def test_read_only_files_will_do(any_set):
    """Weights may be memory maps."""
    q, scales = function("quantize", any_set)(weight(9, 64), 4)
    x = weight(1, 64)
    expected = function("quantized_linear_forward", any_set)(x, q, scales)
    q.flags.writeable = scales.flags.writeable = x.flags.writeable = False
    np.testing.assert_array_equal(function("quantized_linear_forward", any_set)(x, q, scales), expected)


FENCED_WEIGHTS = (
    FENCED.partition("for at_end")[0]
    + """
from tinyllm.kernels.cpu.quantized import quantize, quantized_linear_forward
for at_end in (False, True):
    for bits in (16, 8, 4):
        for N, C, F in [(1, 96, 10), (2, 64, 2), (3, 32, 6), (8, 160, 14), (9, 96, 4)]:
            x, b = fenced(N, C, at_end), fenced(1, F, at_end)[0]
            q, scales = quantize(rng.standard_normal((F, C)).astype("f4"), bits)
            beside = [fenced(1, a.nbytes // 4, at_end).view(a.dtype).reshape(a.shape) for a in (q, scales)]
            for a, copy in zip((q, scales), beside):
                copy[...] = a
            quantized_linear_forward(x, *beside, b)
print("touched nothing")
"""
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect is called as on Linux")
def test_nothing_is_read_outside_of_the_weights():
    assert run(FENCED_WEIGHTS) == "touched nothing"


@pytest.mark.parametrize("level", ["avx2", "plain"])
def test_the_numbers_by_other_processors(level):
    code = """
import numpy as np
from tinyllm.kernels.cpu.quantized import dequantize, quantize, quantized_linear_forward
rng = np.random.default_rng(0)
for bits in (16, 8, 4):
    for N in (1, 2, 3, 7, 9):
        x, w, b = (rng.standard_normal(shape, "f4") for shape in ((N, 70), (13, 70), 13))
        q, scales = quantize(w, bits)
        error = quantized_linear_forward(x, q, scales, b) - (x @ dequantize(q, scales, 70, np.float64).T + b)
        assert abs(error).max() < 1e-4, (bits, N)
print("right")
"""
    assert run(code, TINYLLM_SIMD=level) == "right"


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="16, 8 or 4 bits, not to 3"):
        function("quantize", "reference")(weight(1, 1), 3)
