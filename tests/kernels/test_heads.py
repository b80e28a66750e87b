"""Heads side by side: the parts in order, without a copy where one array has them already."""

from __future__ import annotations

import numpy as np
import pytest
from calls import SETS, function
from hypothesis import given
from hypothesis import strategies as st
from on_cuda import require_bfloat16
from strategies import in_layout

RNG = np.random.default_rng(3)
every_set = pytest.mark.parametrize("any_set", SETS)
every_fast_set = pytest.mark.parametrize("fast_set", [name for name in SETS if name != "reference"])


def numbers(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


@every_set
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@given(
    sizes=st.sampled_from(((1, 1, 1), (2, 5, 3), (3, 200, 8), (0, 4, 2), (2, 0, 2))),
    heads=st.lists(st.sampled_from((1, 2, 7)), min_size=1, max_size=3),
    layouts=st.tuples(*[st.sampled_from(("C", "transposed", "sliced", "reversed", "wide"))] * 3),
)
def test_the_parts_in_order(sizes, heads, layouts, dtype, any_set):
    if dtype == "bfloat16":
        if any_set == "cpu":
            pytest.skip("the cpu set computes with float32 and float64")
        dtype = require_bfloat16()
    B, T, D = sizes
    parts = [in_layout(numbers(B, T, n, D, dtype=dtype), layout) for n, layout in zip(heads, layouts)]
    joined = function("join_heads", any_set)(*parts)
    assert joined.dtype == dtype and (joined.flags.c_contiguous or any_set == "reference")
    assert np.array_equal(joined.astype("f8"), np.concatenate(parts, axis=2).astype("f8"))


@every_fast_set
@pytest.mark.parametrize("shape", [(1, 1, 3, 2), (2, 5, 6, 8), (4, 100, 12, 64)])
def test_adjacent_views_of_one_array_are_that_array(shape, fast_set):
    join, whole = function("join_heads", fast_set), numbers(*shape)
    first, second, third = whole[:, :, :1], whole[:, :, 1:2], whole[:, :, 2:]
    assert is_the_same(join(first, second, third), whole)
    packed = numbers(*shape[:2], shape[2] * shape[3])  # as a matrix product writes it
    heads = packed.reshape(shape)
    assert is_the_same(join(heads[:, :, :2], heads[:, :, 2:]), heads)


@every_fast_set
def test_other_views_are_copied(fast_set):
    join, whole = function("join_heads", fast_set), numbers(2, 5, 6, 8)
    first, second, third = whole[:, :, :2], whole[:, :, 2:4], whole[:, :, 4:]
    other = whole.copy()
    for parts in (
        (second, first, third), (first, third), (first, second), (first, first, first), (first, other[:, :, 2:4], third),
        (whole[:, ::-1, :2], whole[:, ::-1, 2:]), (first, second, third[::-1]),
    ):  # fmt: skip
        joined = join(*parts)
        assert np.array_equal(joined, np.concatenate(parts, axis=2)) and not np.may_share_memory(joined, whole)


@every_fast_set
@pytest.mark.parametrize(("T", "S", "G"), [(7, 7, 2), (7, 7, 4), (5, 9, 4), (300, 300, 1), (1, 1, 1)])
def test_attention_gradients_join_without_a_copy(T, S, G, fast_set):
    """As matrix products of one weight want them: dq, dk and dv if they come from one sequence, else dk and dv."""
    q, dy = numbers(2, T, 4, 8), numbers(2, T, 4, 8)
    k, v = numbers(2, S, G, 8), numbers(2, S, G, 8)
    y, lse = function("attention_forward", fast_set)(q, k, v)
    parts = function("attention_backward", fast_set)(dy, q, k, v, y, lse)
    if T != S:
        parts = parts[1:]
    joined = function("join_heads", fast_set)(*parts)
    assert all(np.shares_memory(joined, part) for part in parts)
    assert np.array_equal(joined, np.concatenate(parts, axis=2))


def is_the_same(a, b):
    return a.shape == b.shape and a.ctypes.data == b.ctypes.data and a.strides == b.strides
