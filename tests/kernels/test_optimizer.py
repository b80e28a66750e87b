"""Adam, the global norm and scaling: in place, over flat buffers, exact for any size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from calls import SETS, error, function
from hypothesis import given
from hypothesis import strategies as st
from strategies import in_layout

every_set = pytest.mark.parametrize("any_set", SETS)
sizes = pytest.mark.parametrize("n", [0, 1, 17, 1000, 100_003])
dtypes = pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])


def buffers(n, dtype, layout="C"):
    rng = np.random.default_rng(n)
    p, g, m = (rng.standard_normal(n) for _ in range(3))
    return [in_layout(a.astype(dtype), layout) for a in (p, g, m, rng.random(n))]


@every_set
@sizes
@dtypes
@pytest.mark.parametrize("layout", ["C", "sliced"])
def test_adam_step_is_the_papers(n, dtype, tolerance, layout, any_set):
    """Against the formulas number by number, in Python's floats."""
    p, g, m, v = buffers(n, dtype, layout)
    expected = np.empty((3, n))
    lr, beta1, beta2, eps, decay, step = 0.01, 0.8, 0.95, 1e-3, 0.1, 3
    for i in range(n):
        mean = beta1 * float(m[i]) + (1 - beta1) * float(g[i])
        square = beta2 * float(v[i]) + (1 - beta2) * float(g[i]) ** 2
        ratio = (mean / (1 - beta1**step)) / (math.sqrt(square / (1 - beta2**step)) + eps)
        expected[:, i] = float(p[i]) - lr * decay * float(p[i]) - lr * ratio, mean, square
    before = g.copy()
    assert function("adam_step", any_set)(p, g, m, v, step, lr, beta1, beta2, eps, decay) is None
    for a, b in zip((p, m, v), expected, strict=True):
        assert a.dtype == dtype and error(a, b) < tolerance
    assert np.array_equal(g, before)


@every_set
@dtypes
@given(n=st.sampled_from([1, 2, 31, 64, 1000, 40_000]), largest=st.floats(1e-4, 1e4), step=st.integers(1, 1000))
def test_a_step_with_a_factor_is_scaling_and_then_a_step(n, largest, step, dtype, tolerance, any_set):
    """Clipping as the gradient is read, which itself stays as it is."""
    p, g, m, v = buffers(n, dtype)
    options = step, 0.01, 0.8, 0.95, 1e-6, 0.1
    factor = min(1.0, largest / function("global_norm", any_set)(g))
    expected, scaled = [a.copy() for a in (p, m, v)], g.copy()
    function("scale", any_set)(scaled, factor)
    function("adam_step", any_set)(expected[0], scaled, *expected[1:], *options)
    before = g.copy()
    function("adam_step", any_set)(p, g, m, v, *options, factor=factor)
    assert np.array_equal(g, before)
    for a, b in zip((p, m, v), expected, strict=True):
        assert a.dtype == dtype and error(a, b) < tolerance


@every_set
def test_adams_first_step_is_of_length_lr(any_set):
    """Whatever the gradient's size: what the correction of the bias is for."""
    g = np.array([1e-3, -5.0, 1e4])
    p, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    function("adam_step", any_set)(p, g, m, v, 1, 0.1, eps=0.0)
    assert error(p, [-0.1, 0.1, -0.1]) < 1e-12


@every_set
@sizes
@dtypes
def test_global_norm(n, dtype, tolerance, any_set):
    g = buffers(n, dtype)[1]
    norm = function("global_norm", any_set)(g)
    assert isinstance(norm, float)
    assert norm == pytest.approx(math.sqrt(math.fsum(float(x) ** 2 for x in g)), rel=1e-14)  # in float32 too


@every_set
def test_global_norm_neither_overflows_nor_vanishes_in_float32(any_set):
    g = np.array([3e30, -4e30], np.float32)
    assert function("global_norm", any_set)(g) == pytest.approx(5e30, rel=1e-6)
    assert function("global_norm", any_set)(g * np.float32(1e-60)) == pytest.approx(0, abs=1e-29)


@every_set
@sizes
@dtypes
def test_scale(n, dtype, tolerance, any_set):
    g = buffers(n, dtype)[1]
    before = g.copy()
    function("scale", any_set)(g, 0.3)
    assert g.dtype == dtype and error(g, before.astype("f8") * 0.3) < tolerance


@every_set
@sizes
@dtypes
@pytest.mark.parametrize("layout", ["C", "sliced"])
def test_clear(n, dtype, tolerance, layout, any_set):
    g = buffers(n, dtype, layout)[1]
    g[: n // 2] = np.nan
    assert function("clear", any_set)(g) is None
    assert g.dtype == dtype and np.array_equal(g, np.zeros(n))
