"""Attention in bfloat16, in the cpu set and in rounded.py: the factors of its products are rounded, and nothing else is.

They are held to float64, where every number goes with a bound of how far float32 may be off. Rounding keeps the order of
numbers: what is known to lie between two is rounded to something between what these are rounded to, and mostly that is one
and the same. So bounds are of the order of float32's errors, except where a number beside the middle of two bfloat16s may go
either way: they allow for that very number, and are provable.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from calls import accumulators, backward, cotangents, error, forward, function
from hypothesis import given
from hypothesis import strategies as st
from rounded import rounded
from strategies import GUARD, calls
from test_bfloat16 import needs_bfloat16

from tinyllm import kernels
from tinyllm.kernels.cpu import memory
from tinyllm.kernels.cpu.attention import FEW_QUERIES
from tinyllm.kernels.reference.attention import repeat_heads, sum_heads
from tinyllm.kernels.reference.dropout import dropout_forward
from tinyllm.kernels.reference.softmax import allowed

EPS = 1e-6  # of sums of float32, relative to the sum of their terms' absolute values, as in test_matmul.py; of exp as well
TINY = 1e-30  # below 2^-126, the processor's bfloat16s are 0
both_sets = pytest.mark.parametrize("kernel_set", ["rounded", pytest.param("cpu", marks=needs_bfloat16)])

Bounded = tuple[np.ndarray, np.ndarray]  # numbers, and how far each may be off


def product(a: Bounded, b: Bounded) -> Bounded:
    """a b, of factors rounded to bfloat16."""
    (a_, a_slack), (b_, b_slack) = (
        (rounded(x).astype(float), rounded(x + e).astype(float) - rounded(x - e)) for x, e in (a, b)
    )
    size = np.abs(a_) @ np.abs(b_)
    return a_ @ b_, EPS * size + a_slack @ np.abs(b_) + np.abs(a_) @ b_slack + a_slack @ b_slack


def exact(x: np.ndarray) -> Bounded:
    """Matrices of heads last: (B, T, H, D) -> (B, H, T, D)."""
    return x.swapaxes(1, 2).astype(float), np.zeros(1)


def transposed(x: Bounded) -> Bounded:
    return x[0].swapaxes(-1, -2), x[1].swapaxes(-1, -2) if x[1].ndim > 1 else x[1]


def scores(q, k, mask, causal, window, scale, bias) -> Bounded:
    """q scaled already."""
    (T, H), S = q.shape[1:3], k.shape[1]
    x, e = product(exact(q), transposed(exact(repeat_heads(k, H))))
    if bias is not None:
        x = x + bias
        e = e + EPS * np.abs(x)
    ok = allowed(T, S, mask, causal, window)
    return np.where(ok, x, -np.inf), e + EPS * np.abs(x)


def exponential(x: Bounded, shift: Bounded) -> Bounded:
    """exp(x - shift)"""
    difference, e = x[0] - shift[0], x[1] + shift[1]
    y = np.exp(difference)
    return y, y * np.expm1(e + EPS * (1 + np.abs(shift[0]))) + TINY


def dropped(x: Bounded, dropout: float, seed: int) -> Bounded:
    if not dropout:
        return x
    y, e = (dropout_forward(np.broadcast_to(a, x[0].shape), dropout, seed) for a in x)
    return y, e + EPS * np.abs(y)


def scaled(q, scale):
    return q * np.float32(1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def true_forward(q, k, v, mask, causal, window, scale, bias, dropout, seed) -> dict[str, Bounded]:
    x = scores(scaled(q, scale), k, mask, causal, window, scale, bias)
    top = x[0].max(-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0), x[1].max(-1, keepdims=True)
    weights = exponential(x, top)
    total, e = weights[0].sum(-1, keepdims=True), weights[1].sum(-1, keepdims=True)
    y, y_error = product(dropped(weights, dropout, seed), exact(repeat_heads(v, q.shape[2])))
    divisor = np.where(total == 0, 1, total)
    e = e / divisor + EPS
    with np.errstate(divide="ignore"):
        lse = (top[0] + np.log(total))[..., 0]
    y, y_error = (a.swapaxes(1, 2) for a in (y / divisor, (y_error + np.abs(y) * e) / divisor))
    return {"y": (y, y_error), "lse": (lse, (e + top[1] + EPS * (1 + np.abs(top[0])))[..., 0])}


def true_backward(
    dy, q, k, v, y, lse, dbias, mask, causal, window, scale, bias, dropout, seed
) -> dict[str, Bounded]:  # fmt: skip
    H, D, G = *q.shape[2:], k.shape[2]
    factor, q = np.float32(1 / math.sqrt(D) if scale is None else scale).astype(float), scaled(q, scale)
    k_, v_ = repeat_heads(k, H), repeat_heads(v, H)
    shift = np.where(np.isfinite(lse), lse, 0)[..., None].astype(float), np.zeros(1)
    p = exponential(scores(q, k, mask, causal, window, scale, bias), shift)
    dv = product(transposed(dropped(p, dropout, seed)), exact(dy))
    dp = dropped(product(exact(dy), transposed(exact(v_))), dropout, seed)
    dy_y = np.moveaxis(dy.astype(float) * y, 1, 2)
    delta, delta_error = dy_y.sum(-1, keepdims=True), EPS * np.abs(dy_y).sum(-1, keepdims=True)
    difference = dp[0] - delta
    dx = p[0] * difference
    dx_error = (p[0] + p[1]) * (dp[1] + delta_error + EPS * np.abs(difference)) + p[1] * np.abs(difference)
    dq = product((dx, dx_error), exact(k_))
    dk = product(transposed((dx, dx_error)), exact(q))
    truth = {"dq": (factor * dq[0].swapaxes(1, 2), factor * dq[1].swapaxes(1, 2))}
    for name, pair in (("dk", dk), ("dv", dv)):
        truth[name] = tuple(sum_heads(a.swapaxes(1, 2), G) for a in pair)
    if dbias is not None:
        truth["dbias"] = dbias + dx.sum(0), dx_error.sum(0) + EPS * (np.abs(dbias) + np.abs(dx).sum(0))
    return truth


def outside(ours: dict[str, np.ndarray], truth: dict[str, Bounded]) -> list[str]:
    """The names of what lies further off than the truth's bounds allow."""
    beyond = []
    for name, (x, e) in truth.items():
        same = ours[name] == x  # infinities are
        if not (same | (np.abs(np.subtract(ours[name], x, where=~same, out=np.zeros(x.shape))) <= 2 * e + TINY)).all():
            beyond.append(name)
    return beyond


@both_sets
@given(st.data())
def test_is_the_rounded_products_and_float32(kernel_set, data):
    d, arguments = data.draw(calls("attention", "float32"))
    with kernels.autocast("bfloat16"):
        outputs = forward("attention", kernel_set, arguments)
        dys = cotangents("attention", d, outputs)
        sums = accumulators("attention", d, arguments)[0]
        before = {"dbias": None, **{name: a.copy() for name, a in sums.items()}}
        gradients = backward("attention", kernel_set, arguments, outputs, {**dys, **sums})
    if kernel_set == "cpu" and arguments["q"].shape[1] < FEW_QUERIES:  # row by row, in float32
        again = {name: a.copy() for name, a in before.items() if a is not None}
        assert np.array_equal(outputs["y"], forward("attention", "cpu", arguments)["y"])
        expected = backward("attention", "cpu", arguments, outputs, {**dys, **again})
        assert all(np.array_equal(gradient, expected[name]) for name, gradient in gradients.items())
        return
    assert not outside(outputs, true_forward(**arguments))
    assert not outside(gradients, true_backward(**dys, **arguments, **outputs, **before))


def ordinary(T: int, S: int, H: int, G: int, D: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(T)
    shapes = {"q": (2, T, H, D), "k": (2, S, G, D), "v": (2, S, G, D), "dy": (2, T, H, D)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def both_ways(arrays, kernel_set="cpu", **options):
    q, k, v, dy = (arrays[name] for name in ("q", "k", "v", "dy"))
    y, lse = function("attention_forward", kernel_set)(q, k, v, **options)
    gradients = function("attention_backward", kernel_set)(dy, q, k, v, y, lse, **options)
    return {"y": y, "lse": lse, **dict(zip(("dq", "dk", "dv"), gradients))}


def true_ones(arrays, y, lse, causal=False, window=None) -> dict[str, Bounded]:
    """What both_ways should give; y and lse are what its backward was given."""
    q, k, v, dy = (arrays[name] for name in ("q", "k", "v", "dy"))
    options = {"mask": None, "causal": causal, "window": window, "scale": None, "bias": None, "dropout": 0.0, "seed": 0}
    return {**true_forward(q, k, v, **options), **true_backward(dy, q, k, v, y, lse, None, **options)}


@both_sets
def test_the_bounds_tell_bfloat16_from_float32(kernel_set):
    """Else the test above would say nothing. And the two are as near as they should be."""
    arrays = ordinary(64, 64, 2, 2, 32)
    in_float32 = both_ways(arrays, kernel_set, causal=True)
    with kernels.autocast("bfloat16"):
        ours = both_ways(arrays, kernel_set, causal=True)
    assert all(np.array_equal(x, in_float32[name]) for name, x in both_ways(arrays, kernel_set, causal=True).items())
    truth = true_ones(arrays, ours["y"], ours["lse"], causal=True)
    assert not outside(ours, truth) and {*outside(in_float32, truth)} == {*truth}
    for name, x in ours.items():
        assert 1e-4 < error(x, in_float32[name]) < 2e-2, name
    for x, e in truth.values():
        assert np.linalg.norm(e) < 1e-3 * np.linalg.norm(x)


@pytest.fixture
def guards(monkeypatch):
    """The cpu set's new arrays, each in the middle of a larger one that is full of GUARD: [(the larger one, where), ...]."""
    made = []

    def empty(like, shape, dtype=None):
        dtype = np.dtype(like.dtype if dtype is None else dtype)
        size = math.prod((shape,) if isinstance(shape, int) else shape)
        around = np.full(size + 64, GUARD, dtype)
        made.append((around, slice(32, 32 + size)))
        return around[32 : 32 + size].reshape(shape)

    monkeypatch.setattr(memory, "empty", empty)
    return made


@needs_bfloat16
@pytest.mark.parametrize("options", [{"causal": True}, {"causal": True, "window": 33}, {}])
@pytest.mark.parametrize(
    "shape", [(4, 1, 1, 1, 1), (37, 37, 4, 2, 7), (70, 131, 3, 1, 20), (131, 70, 1, 1, 64), (257, 257, 1, 1, 40)]
)
def test_odd_sizes_and_nothing_beside_the_arrays(shape, options, guards):
    """NaN stands around what is read: also times zero it would be seen. Views of one array, as layers have them."""
    arrays = ordinary(*shape)
    views = {}
    for name, a in arrays.items():
        B, T, H, D = a.shape
        wide = np.full((B, T + 2, H + 1, D + 3), np.nan, np.float32)
        views[name] = wide[:, 1:-1, :H, 1:-2]
        views[name][...] = a
    with kernels.autocast("bfloat16"):
        ours = both_ways(views, **options)
    assert not outside(ours, true_ones(arrays, ours["y"], ours["lse"], **options))
    assert len(guards) >= 5  # y, lse, the gradients, scratch of both ways
    for around, written in guards:
        around[written] = GUARD
        assert (around == around.dtype.type(GUARD)).all()
