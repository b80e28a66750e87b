"""What drawn numbers of order one do not show: masks that mean what they say, extremes, NaN, errors, threads."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from calls import SETS, error, function
from hypothesis import given
from hypothesis import strategies as st
from strategies import ACTIVATIONS, in_layout

from tinyllm.kernels.common import IGNORE
from tinyllm.kernels.reference.dropout import keep_mask
from tinyllm.kernels.reference.softmax import allowed

every_set = pytest.mark.parametrize("any_set", SETS)
every_fast_set = pytest.mark.parametrize("fast_set", [name for name in SETS if name != "reference"])
RNG = np.random.default_rng(7)


@given(
    T=st.integers(1, 5),
    S=st.integers(1, 5),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 4),
    kind=st.sampled_from((None, "padding", "queries")),
)
def test_allowed_is_what_its_docstring_says(T, S, causal, window, kind):
    B = 2
    mask = None if kind is None else RNG.random((B, S) if kind == "padding" else (B, T, S)) < 0.7
    ok = allowed(T, S, mask, causal, window)
    ok = np.broadcast_to(True if ok is None else ok, (B, 3, T, S))
    for b, h, t, s in np.ndindex(B, 3, T, S):
        place = S - T + t  # the query's own place among the keys
        expected = (not causal or s <= place) and (window is None or s > place - window)
        if kind is not None:
            expected = expected and (mask[b, s] if kind == "padding" else mask[b, t, s])
        assert ok[b, h, t, s] == expected


@every_set
def test_softmax_of_huge_and_hidden_scores(any_set):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-np.inf, 0, 1], [-np.inf, -np.inf, -np.inf]], np.float32)
    y = function("softmax_forward", any_set)(x)
    e = math.e
    expected = [[e / (1 + e), 1 / (1 + e), 0], [0, 1 / (1 + e), e / (1 + e)], [0, 0, 0]]
    assert error(y, expected) < 1e-6


# an activation and its derivative far from 0, where they are not those of relu
FAR_OUT = {"tanh": (np.sign, np.zeros_like)}


@every_set
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_far_out(activation, dtype, any_set):
    """No overflow, and the asymptotes."""
    x = np.array([-1e4, -300, -40, 40, 300, 1e4], dtype)
    y = function("activation_forward", any_set)(x, activation)
    slope = function("activation_backward", any_set)(np.ones_like(x), x, activation)
    f, derivative = FAR_OUT.get(activation, (lambda x: np.maximum(x, 0), lambda x: x > 0))
    assert error(y, f(x)) < 1e-6
    assert error(slope, derivative(x)) < 1e-6


@every_set
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_huge_logits(dtype, any_set):
    z = np.array([[1e4, -1e4, 0], [-1e4, -1e4 + 2, -1e4]], dtype)
    loss, lse = function("cross_entropy_forward", any_set)(z, np.array([1, 1]))
    second = math.log(1 + 2 * math.exp(-2))
    assert loss == pytest.approx((2e4 + second) / 2, rel=1e-6)
    d = function("cross_entropy_backward", any_set)(2.0, z, np.array([1, 1]), lse)
    p = math.exp(-second)
    assert error(d, [[1, -1, 0], [(1 - p) / 2, p - 1, (1 - p) / 2]]) < (1e-6 if dtype == "float32" else 1e-11)


@every_set
@pytest.mark.parametrize("offset", [0, 1e2, -1e4, 1e4, 1e6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_logits_far_from_zero(offset, smoothing, any_set):
    """A constant that is added to all logits changes neither the loss nor its gradient."""
    z = (np.random.default_rng(0).standard_normal((8, 50)) + offset).astype("f4")
    t = np.arange(8)
    shifted = z.astype("f8") - offset
    p = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    y = np.full((8, 50), smoothing / 50)
    y[t, t] += 1 - smoothing
    loss, lse = function("cross_entropy_forward", any_set)(z, t, smoothing)
    assert loss == pytest.approx(-(y * np.log(p)).sum() / 8, rel=1e-6)
    assert np.abs(function("cross_entropy_backward", any_set)(1.0, z, t, lse, smoothing) - (p - y) / 8).max() < 3e-8


@every_set
@pytest.mark.parametrize("offset", [1e4, -1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_linear_cross_entropy_of_logits_far_from_zero(offset, smoothing, any_set):
    """The same, where the logits come of a bias and are computed again in chunks."""
    rng = np.random.default_rng(0)
    x, w, t = rng.integers(-4, 5, (9, 3)), rng.integers(-4, 5, (20, 3)) / 16, np.arange(9)
    t[4] = IGNORE
    ours = []
    for b in (0, offset):  # the logits are whole multiples of 1/16, and so are exact in float32
        given = x.astype("f4"), w.astype("f4"), np.full(20, b, "f4"), t
        loss, lse, last = function("linear_cross_entropy_forward", any_set)(*given, smoothing)
        dw = np.zeros((20, 3), "f4")
        dx = function("linear_cross_entropy_backward", any_set)(1.0, *given, lse, last, dw, None, smoothing)
        ours.append((np.float64(loss), dx, dw))
    assert all(np.abs(a - b).max() < 4e-7 for a, b in zip(*ours))


@every_set
@pytest.mark.parametrize("T", [3, 40])  # row by row and by tiles; in CUDA by stretches and by tiles
@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_attention_of_scores_far_from_zero(T, offset, any_set):
    rng = np.random.default_rng(0)
    q, k = (rng.integers(-4, 5, (1, T, 2, 8)).astype("f4") for _ in range(2))
    v, dy = (rng.standard_normal((1, T, 2, 8)).astype("f4") for _ in range(2))
    ours = []
    for b in (0, offset):  # the scores are whole multiples of 1/16
        options = {"scale": 1 / 16, "bias": np.full((2, T, T), b, "f4"), "causal": True}
        y, lse = function("attention_forward", any_set)(q, k, v, **options)
        dbias = np.zeros((2, T, T), "f4")
        ours.append((y, *function("attention_backward", any_set)(dy, q, k, v, y, lse, **options, dbias=dbias), dbias))
    assert all(error(a, b) < 5e-6 for a, b in zip(*ours))


def with_nan(*shape):
    x = RNG.standard_normal(shape).astype(np.float32)
    x[(0,) * len(shape)] = np.nan
    return x


X, W = RNG.standard_normal((4, 40)).astype(np.float32), RNG.standard_normal((40, 40)).astype(np.float32)
HEADS = RNG.standard_normal((1, 4, 2, 8)).astype(np.float32)
TOKENS = np.array([3, 1, 0, 2])
NAN_CALLS = {
    "linear_forward": (with_nan(4, 40), W),
    "linear_activation_forward": (with_nan(4, 40), W),
    "embedding_forward": (TOKENS, with_nan(4, 40)),
    "position_forward": (with_nan(1, 4, 40), W, TOKENS),
    "layernorm_forward": (with_nan(4, 40), W[0]),
    "add_layernorm_forward": (X, with_nan(4, 40), W[0]),
    "rmsnorm_forward": (with_nan(4, 40), W[0]),
    "add_rmsnorm_forward": (X, with_nan(4, 40), W[0]),
    "add": (X, with_nan(4, 40)),
    "gated_forward": (with_nan(4, 40), "silu"),
    "softmax_forward": (with_nan(4, 40),),
    "attention_forward": (with_nan(1, 4, 2, 8), HEADS, HEADS),
    "cross_entropy_forward": (with_nan(4, 40), TOKENS),
    "linear_cross_entropy_forward": (with_nan(4, 40), W, None, TOKENS),
    "linear_backward": (with_nan(4, 40), X, W),
    "layernorm_backward": (with_nan(4, 40), X, W[0], X[:, 0], X[:, 1]),
    "rmsnorm_backward": (with_nan(4, 40), X, W[0], X[:, 1]),
    "activation_backward": (with_nan(4, 40), X, "gelu"),
    "gated_backward": (with_nan(4, 20), X, "silu"),
    "softmax_backward": (with_nan(4, 40), X),
    "global_norm": (with_nan(40),),
    **{f"activation_forward {name}": (with_nan(4, 40), name) for name in ACTIVATIONS},
}


@every_set
@pytest.mark.parametrize("call", NAN_CALLS)
def test_a_nan_is_never_lost(call, any_set):
    """A loss that turns NaN can only be reported if no kernel takes a NaN for a number."""
    result = function(call.split()[0], any_set)(*NAN_CALLS[call])
    assert any(np.isnan(r).any() for r in (result if isinstance(result, tuple) else (result,)))


@every_fast_set
@given(
    shape=st.sampled_from(((1, 1), (7, 3), (3, 5, 17), (300, 100))),
    p=st.floats(0, 0.99),
    seed=st.integers(0, 2**64 - 1),
)
def test_dropout_is_the_references_bit_for_bit(shape, p, seed, fast_set):
    x = RNG.standard_normal(shape).astype(np.float32)
    assert np.array_equal(
        function("dropout_forward", fast_set)(x, p, seed), function("dropout_forward", "reference")(x, p, seed)
    )


@every_set
@pytest.mark.parametrize("op", ["add_layernorm", "add_rmsnorm"])
@given(shape=st.sampled_from(((1, 1), (7, 3), (3, 5, 17), (300, 100))), both=st.booleans())
def test_a_norm_after_a_sum_is_the_sum_and_then_the_norm(shape, both, op, any_set):
    """One pass gives what two give, bit for bit on the CPU, and its gradient is the sum of those of both ways."""
    x, f, dy, dx = RNG.standard_normal((4, *shape)).astype(np.float32)
    w, dx, eps = RNG.standard_normal(shape[-1]).astype(np.float32), dx if both else None, {"eps": 1e-5}
    total, *outputs = function(f"{op}_forward", any_set)(x, f, w, **eps)
    assert np.array_equal(total, function("add", any_set)(x, f))
    alone = op.removeprefix("add_")
    bound = 1e-5 if any_set == "cuda" else 0  # where a row begins decides which of its threads adds which numbers
    expected = function(f"{alone}_forward", any_set)(total, w, **eps)
    assert all(error(a, b) <= bound for a, b in zip(outputs, expected, strict=True))
    sums = [(np.zeros_like(w), np.zeros_like(w))[: len(outputs) - 1] for _ in range(2)]
    found = function(f"{op}_backward", any_set)(dy, dx, total, w, *outputs[1:], *sums[0])
    of_norm = function(f"{alone}_backward", any_set)(dy, total, w, *outputs[1:], *sums[1])
    assert error(found, of_norm if dx is None else dx + of_norm) < 1e-6
    assert all(error(a, b) <= bound for a, b in zip(*sums))


@every_set
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    shape=st.sampled_from(((1, 1), (0, 3), (7, 3), (3, 5, 17), (300, 100))),
    layouts=st.tuples(*[st.sampled_from(("C", "transposed", "sliced", "reversed"))] * 2),
)
def test_add(shape, layouts, dtype, any_set):
    x, f = (in_layout(RNG.standard_normal(shape).astype(dtype), layout) for layout in layouts)
    y = function("add", any_set)(x, f)
    assert np.array_equal(y, x + f) and y.dtype == dtype
    assert not np.may_share_memory(y, x) and not np.may_share_memory(y, f)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_masks_look_random(p):
    """1 - p of all entries stay, in each row, column and diagonal about as many; another seed gives another mask."""
    n = 1000
    sigma = math.sqrt(p * (1 - p))
    masks = [keep_mask(n, n, p, seed) for seed in (0, 1, 2**32, 2**64 - 1)]
    for keep in masks:
        assert abs(keep.mean() - (1 - p)) < 5 * sigma / n
        for lines in (keep, keep.T, np.array([np.diagonal(np.roll(keep, i, axis=1)) for i in range(n)])):
            assert 0.8 < lines.mean(1).std() / (sigma / math.sqrt(n)) < 1.2
    for i, a in enumerate(masks):
        for b in [*masks[:i], np.roll(a, 1, axis=0), np.roll(a, 1, axis=1)]:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / n


@every_fast_set
@pytest.mark.parametrize("layout", ["transposed", "sliced", "wide", "reversed"])
def test_gradients_add_up_in_any_layout(layout, fast_set):
    """Parameter.grad is contiguous; who calls an op with something else gets the right sum as well."""
    dy, tokens = RNG.standard_normal((4, 40)), np.array([1, 1, 0, 1])
    start = RNG.standard_normal((40, 40))
    for op, args in (("linear_backward", (dy, dy, start)), ("embedding_backward", (dy, tokens))):
        expected, dw = start.copy(), in_layout(start, layout)
        function(op, "reference")(*args, expected)
        function(op, fast_set)(*args, dw)
        assert error(dw, expected) < 1e-12, op


BAD_CALLS = {
    "a token that is no row": (
        IndexError,
        "tokens contain 65",
        "embedding_forward",
        (np.array([3, 65]), W[:1].repeat(65, 0)),
    ),
    "a negative token": (IndexError, "tokens contain -1", "embedding_forward", (np.array([[-1]]), W)),
    "a token in the backward": (IndexError, "40", "embedding_backward", (X[:1], np.array([40]), W.copy())),
    "a token that is a float": (TypeError, "integers", "embedding_forward", (np.array([1.0]), W)),
    "a position that is no row": (IndexError, "positions contain 40", "position_forward", (X[None], W, np.arange(37, 41))),
    "positions of another length": (ValueError, "positions", "position_forward", (X[None], W, np.arange(3))),
    "a target that is no class": (IndexError, "targets contain 40", "cross_entropy_forward", (X, np.array([1, 2, 40, 3]))),
    "a negative target": (IndexError, "targets contain -1", "cross_entropy_forward", (X, np.array([1, -1, -100, 3]))),
    "targets of another shape": (ValueError, "targets", "cross_entropy_forward", (X, np.array([1, 2, 3]))),
    "half precision": (TypeError, "float16", "softmax_forward", (X.astype(np.float16),)),
    "integers": (TypeError, "int64", "activation_forward", (np.arange(4), "gelu")),
    "a weight of another length": (ValueError, "w is float32 (39,)", "layernorm_forward", (X, W[0, :39])),
    "a weight of another dtype": (ValueError, "float64", "rmsnorm_forward", (X, W[0].astype(np.float64))),
    "a branch of another shape": (ValueError, "f is", "add_rmsnorm_forward", (X, X[:2], W[0])),
    "a branch of another dtype": (ValueError, "f is float64", "add", (X, X.astype(np.float64))),
    "a gradient of the sum of another shape": (
        ValueError,
        "dx is",
        "add_rmsnorm_backward",
        (X, X[:2], X, W[0], X[:, 0]),
    ),
    "heads of another size": (ValueError, "a part is", "join_heads", (HEADS, HEADS[..., :7])),
    "a gradient of another shape": (ValueError, "dy is", "activation_backward", (X[:2], X, "gelu")),
    "statistics of another shape": (ValueError, "rstd", "rmsnorm_backward", (X, X, W[0], X[:2, 0])),
    "a sum of another shape": (ValueError, "dw is", "rmsnorm_backward", (X, X, W[0], X[:, 0], W[0, :7].copy())),
    "an unknown activation": (ValueError, "'swish'", "activation_forward", (X, "swish")),
    "an odd number of gates": (ValueError, "even", "gated_forward", (X[:, :39], "silu")),
    "a mask of another shape": (ValueError, "mask is", "softmax_forward", (X, np.ones((3, 40), bool))),
    "a mask of numbers": (ValueError, "bool", "softmax_forward", (X, np.ones((4, 40)))),
    "moments of another length": (ValueError, "m1 is", "adam_step", (W[0].copy(), W[1], W[2, :9].copy(), W[3], 1, 0.1)),
}


@every_fast_set
@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_input_is_named(call, fast_set):
    """The kernels check no bounds: what would make them read beside an array is an error before."""
    kind, match, op, args = BAD_CALLS[call]
    with pytest.raises(kind, match=match.replace("(", r"\(").replace(")", r"\)")):
        function(op, fast_set)(*args)


def test_any_number_of_threads():
    """The property tests once more, on five threads, with few examples."""
    tests = Path(__file__).with_name("test_ops.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), "-k", "equals and float32"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "5", "HYPOTHESIS_PROFILE": "few"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
