"""Adam, Adafactor, the global norm and scaling: in place, exact for any size."""

from __future__ import annotations

import math

import numba
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


shapes = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40)))
LARGE = [(1, 1), (1, 5000), (5000, 1), (1100, 65), (3, 20_000), (50_000,)]


@every_set
@given(
    shape=shapes | st.sampled_from(LARGE),
    dtype=st.sampled_from(["float32", "float64"]),
    layout=st.sampled_from(["C", "transposed", "sliced"]),
    options=st.fixed_dictionaries(
        {
            "lr": st.sampled_from([1e-3, 0.1]),
            "decay": st.sampled_from([0.8, 0.5]),
            "clip": st.sampled_from([1.0, 0.2, 100.0]),
            "relative": st.sampled_from([1e-3, 10.0, None]),
            "weight_decay": st.sampled_from([0.0, 0.1]),
            "factor": st.sampled_from([1.0, 0.03]),
        }
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_adafactor_steps_are_the_papers(shape, dtype, layout, options, seed, any_set):
    """Three steps against the formulas, with the second moments written out as the whole matrix, in float64."""
    rng = np.random.default_rng(seed)
    p = in_layout(rng.standard_normal(shape).astype(dtype), layout)
    v = tuple(in_layout(np.zeros(n, dtype), layout) for n in shape)
    P, V = p.astype(float), [np.zeros(n) for n in shape]
    names = "lr", "decay", "clip", "relative", "weight_decay", "factor"
    lr, decay, clip, relative, weight_decay, factor = (options[name] for name in names)
    for step in (1, 2, 3):
        g = in_layout((rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)).astype(dtype), layout)
        before, G, beta = g.copy(), factor * g.astype(float), 1 - step**-decay
        assert function("adafactor_step", any_set)(p, g, v, step, **options) is None
        assert np.array_equal(g, before)
        for axis in range(len(shape)):
            others = tuple(other for other in range(len(shape)) if other != axis)
            V[axis] = beta * V[axis] + (1 - beta) * (G**2 + 1e-30).mean(others)
        second = V[0] if len(shape) == 1 else np.outer(V[0], V[1]) / V[0].mean()
        u = G / np.sqrt(second)
        u /= max(1, math.sqrt((u**2).mean()) / clip)
        size = lr if relative is None else lr * max(relative, math.sqrt((P**2).mean()))
        P = P - lr * weight_decay * P - size * u
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert p.dtype == dtype and error(p, P) < tolerance
    for a, b in zip(v, V, strict=True):
        assert a.dtype == dtype and error(a / b.max(), b / b.max()) < tolerance


@every_set
def test_adafactor_leaves_rows_without_gradient_where_they_are(any_set):
    """As the rows of an embedding whose tokens have not come yet."""
    p, g = np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)
    g[2:], before = 0, p.copy()
    function("adafactor_step", any_set)(p, g, (np.zeros(6, np.float32), np.zeros(4, np.float32)), 1, 0.1)
    assert np.isfinite(p).all() and np.array_equal(p[2:], before[2:]) and not np.isclose(p[:2], before[:2]).any()


@pytest.mark.parametrize("fast_set", ["cpu", "cuda"])
@pytest.mark.parametrize(("shape", "moments"), [((6, 4), (4, 6)), ((6, 4), (6,)), ((6,), (6, 1)), ((6,), (5,))])
def test_adafactor_refuses_moments_of_other_shapes(shape, moments, fast_set):
    p, v = np.ones(shape, np.float32), tuple(np.zeros(n, np.float32) for n in moments)
    with pytest.raises(ValueError):
        function("adafactor_step", fast_set)(p, p.copy(), v, 1, 0.1)
    assert (p == 1).all()


def test_adafactor_on_any_number_of_threads():
    """The means are the same to the bit. The step may differ by a rounding, by how the loop was compiled."""
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 700, 129)).astype(np.float32)
    results = []
    for n in {1, numba.config.NUMBA_NUM_THREADS}:
        numba.set_num_threads(n)
        p, v = start.copy(), (np.zeros(700, np.float32), np.zeros(129, np.float32))
        function("adafactor_step", "cpu")(p, g, v, 1, 0.1)
        results.append((p, *v))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    (p, rows, columns), (q, *others) = results[0], results[-1]
    assert error(p, q) < 1e-6
    assert np.array_equal(rows, others[0]) and np.array_equal(columns, others[1])
