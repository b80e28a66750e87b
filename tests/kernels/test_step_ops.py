"""What a step of decoding does in room for more positions than there are: in every set as without the room."""

from __future__ import annotations

import numpy as np
import pytest
from calls import SETS, error, function

from tinyllm.kernels.reference.attention import attention_forward
from tinyllm.kernels.reference.quantized import GROUP
from tinyllm.kernels.reference.relative import relative_bias_forward

RNG = np.random.default_rng(3)
every_set = pytest.mark.parametrize("any_set", SETS)
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


def numbers(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


@every_set
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_append(dtype, any_set):
    packed = numbers(2, 3, 6, 6, dtype=dtype)
    k, v = packed[:, :, :2], packed[:, :, 3:5]  # parts of one array
    keys, values = np.zeros((2, 2, 9, 2, 6), dtype)
    function("append", any_set)(k, v, keys, values, np.array([7]))
    for found, expected in ((keys, k), (values, v)):
        np.testing.assert_array_equal(found[:, 4:7], expected)
        assert not found[:, :4].any() and not found[:, 7:].any()
    for wrong in (np.zeros((2, 9, 3, 6), dtype), np.zeros((2, 9, 2, 6), "f2"), np.zeros((2, 9, 4, 6), dtype)[:, :, :2]):
        with pytest.raises(ValueError, match="does not take|contiguous"):
            function("append", any_set)(k, v, wrong, values, np.array([7]))


@every_set
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("T", "H", "G", "window", "S"), [(1, 4, 2, None, 150), (1, 2, 2, 5, 70), (3, 1, 1, 20, 70)])
@pytest.mark.parametrize("end", [3, 64, 70])
def test_attention_of_what_is_there(T, H, G, window, S, end, dtype, any_set):
    """The keys behind the end are not looked at, whatever they, the mask and the bias hold there."""
    q, keys, values = numbers(2, T, H, 8, dtype=dtype), numbers(2, S, G, 8, dtype=dtype), numbers(2, S, G, 8, dtype=dtype)
    mask, bias = RNG.random((2, S)) < 0.8, numbers(H, T, S, dtype=dtype)
    bias[:, :, end:], keys[:, end:] = np.nan, np.nan
    y = function("attention_step", any_set)(q, keys, values, np.array([end]), mask, True, window, None, bias)
    there_are = keys[:, :end], values[:, :end], mask[:, :end], True, window, None, bias[:, :, :end]
    assert error(y, attention_forward(q, *there_are)[0]) < TOLERANCE[dtype]


@every_set
@pytest.mark.parametrize("end", [1, 7, 30, 50])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_relative_bias_of_the_last_query(end, bidirectional, any_set):
    w, options = numbers(8, 3), (bidirectional, 20)
    bias = function("relative_bias_last", any_set)(w, np.array([end]), 50, *options)
    assert bias.shape == (3, 1, 50)
    np.testing.assert_array_equal(bias[:, :, :end], relative_bias_forward(w, end, end, *options)[:, -1:])


@every_set
@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("C", [2 * GROUP, GROUP + 3])
def test_rows_of_a_quantized_table(C, bits, any_set):
    w, tokens = numbers(7, C), np.array([[3, 6, 3], [0, 1, 6]])
    q, scales = function("quantize", any_set)(w, bits)
    found = function("dequantize_rows", any_set)(tokens, q, scales, C)
    np.testing.assert_array_equal(found, function("dequantize", any_set)(q, scales, C)[tokens])
