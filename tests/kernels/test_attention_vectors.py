"""The vector code of the cpu set's attention: each routine against its formula; nothing beside is written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import GUARD

from tinyllm.kernels.cpu.attention_vectors import copy_rows, exp_rows, gradient_rows, hide_row
from tinyllm.kernels.cpu.jit import jit
from tinyllm.kernels.cpu.simd import LANES
from tinyllm.kernels.reference.attention import attention_backward, attention_forward

seeds = st.integers(0, 2**32 - 1)
vectors = st.integers(1, 7)  # of a row
INF = np.float32(np.inf)


@jit
def copied(n, D, x, x_row, y, y_row, factors, step, filled):
    copy_rows(n, D, x.ctypes.data, x_row, y.ctypes.data, y_row, factors.ctypes.data, step, filled)


@jit
def hidden(x, n, seen, unseen):
    hide_row(x.ctypes.data, n, seen, unseen)


@jit
def exped(x, x_row, n, tops, totals):
    exp_rows(x.ctypes.data, x_row, n, tops.ctypes.data, totals.ctypes.data)


@jit
def gradient(p, dp, row, n, lses, factors, deltas):
    gradient_rows(p.ctypes.data, dp.ctypes.data, row, n, lses.ctypes.data, factors.ctypes.data, deltas.ctypes.data)


def guarded(rng, rows: int, n: int, scale: float = 1) -> np.ndarray:
    """(rows, n + 3), its last three columns guards."""
    x = np.full((rows, n + 3), GUARD, np.float32)
    x[:, :n] = scale * rng.standard_normal((rows, n))
    return x


@given(st.integers(0, 20), st.integers(1, 70), st.booleans(), st.integers(0, 40), seeds)
def test_copy(n, D, each, more, seed):
    rng, filled = np.random.default_rng(seed), D + more
    x, y = guarded(rng, n + 1, D), np.full((n + 1, filled + 3), GUARD, np.float32)
    factors = rng.standard_normal(n + 1).astype("f4")
    copied(n, D, x, D + 3, y, filled + 3, factors, int(each), filled)
    expected = np.full_like(y, GUARD)
    expected[:n, :filled] = 0
    expected[:n, :D] = x[:n, :D] * (factors[:n, None] if each else factors[0])
    assert np.array_equal(y, expected)


@given(vectors, st.data())
def test_hide(k, data):
    n = k * LANES
    seen = data.draw(st.integers(0, n))
    unseen = data.draw(st.integers(seen, n))
    x = guarded(np.random.default_rng(0), 1, n)[0]
    expected = x.copy()
    expected[:seen], expected[unseen:n] = -INF, -INF
    hidden(x, n, seen, unseen)
    assert np.array_equal(x, expected)


@given(vectors, st.sampled_from((0.1, 1, 30)), seeds)
def test_exp(k, scale, seed):
    rng, n = np.random.default_rng(seed), k * LANES
    x = guarded(rng, LANES, n, scale)
    x[:, :n][rng.random((LANES, n)) < 0.2] = -INF
    x[1, :n] = -INF
    x[2, n - 1] = np.nan
    top = np.nan_to_num(np.fmax.reduce(x[:, :n], 1), neginf=0)
    truth = np.exp((x[:, :n] - top[:, None]).astype(float))
    tops, totals = np.zeros(LANES, "f4"), np.zeros(LANES, "f4")
    exped(x, n + 3, n, tops, totals)
    assert np.array_equal(tops, top) and np.all(x[:, n:] == np.float32(GUARD))
    assert np.allclose(x[:, :n], truth, rtol=3e-7, atol=1e-37, equal_nan=True)
    assert np.all(x[:, :n][truth == 0] == 0)
    assert np.allclose(totals, truth.sum(1), rtol=1e-6, equal_nan=True) and totals[1] == 0 and np.isnan(totals[2])


def test_exp_is_as_exact_as_elsewhere():
    x = np.linspace(-95, 0, 1 << 14, dtype=np.float32).reshape(LANES, -1)
    x[:, 0] = 0  # the greatest of each row
    truth, tops, totals = np.exp(x.astype(float)), np.zeros(LANES, "f4"), np.zeros(LANES, "f4")
    argument = x.copy()
    exped(x, x.shape[1], x.shape[1], tops, totals)
    normal = truth > 2.0**-125
    assert np.abs(x[normal] / truth[normal] - 1).max() < 2.0**-22.5
    assert np.all(x[argument < -88] == 0) and np.all((x >= 0) & (x <= 2 * truth))


@given(vectors, seeds)
def test_gradient(k, seed):
    rng, n = np.random.default_rng(seed), k * LANES
    p, dp = guarded(rng, LANES, n), guarded(rng, LANES, n)
    p[:, :n][rng.random((LANES, n)) < 0.2] = -INF
    lses, deltas = (rng.standard_normal(LANES).astype("f4") for _ in range(2))
    factors = (1 + 1e-3 * rng.standard_normal(LANES)).astype("f4")
    lses += 5  # a score is never above it
    lses[1] = INF  # what stands for a query that sees nothing
    weights = np.exp(p[:, :n].astype(float) - lses[:, None]) * factors[:, None]
    expected = weights * (dp[:, :n].astype(float) - deltas[:, None])
    gradient(p, dp, n + 3, n, lses, factors, deltas)
    assert np.allclose(p[:, :n], weights, rtol=3e-6, atol=1e-37) and np.all(p[1, :n] == 0)
    assert np.allclose(dp[:, :n], expected, rtol=3e-6, atol=1e-5)
    assert np.all(p[:, n:] == np.float32(GUARD)) and np.all(dp[:, n:] == np.float32(GUARD))


@pytest.mark.parametrize("size", [(40, 40, False), (90, 30, True), (33, 80, True)])
def test_a_query_of_nothing_but_nan_gives_nan(size):
    """Also where it stands beside keys that the causal mask hides, and others stay as they are."""
    from tinyllm.kernels.cpu.attention import attention_backward as backward
    from tinyllm.kernels.cpu.attention import attention_forward as forward

    T, S, causal = size
    rng = np.random.default_rng(0)
    q, dy = rng.standard_normal((2, 1, T, 1, 8)).astype("f4")
    k, v = rng.standard_normal((2, 1, S, 1, 8)).astype("f4")
    t = max(T - S, 0)  # the first that sees a key
    q[0, t] = np.nan
    y, lse = forward(q, k, v, causal=causal)
    others = np.arange(T) != t
    assert np.isnan(y[0, t]).all() and np.isnan(lse[0, 0, t])
    expected, expected_lse = attention_forward(q.astype(float), k, v, causal=causal)
    assert np.allclose(y[:, others], expected[:, others], atol=1e-5)
    assert np.allclose(lse[..., others], expected_lse[..., others], atol=1e-5)
    q[0, t] = 0
    arguments = dy, q, k, v, *forward(q, k, v, causal=causal)
    wide = (a.astype(float) for a in arguments)
    for ours, theirs in zip(backward(*arguments, causal=causal), attention_backward(*wide, causal=causal)):
        assert np.allclose(ours, theirs, atol=1e-5)
