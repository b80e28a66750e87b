"""The functions that kernels' loops call: errors in float32 against float64, infinities, NaN, and vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyllm.kernels.cpu import vmath
from tinyllm.kernels.cpu.jit import jit
from tinyllm.kernels.reference import activation as reference

NORMAL = np.float32(2.0**-126)  # below it, floats lose digits
X = np.unique(np.concatenate([np.linspace(-12, 12, 40_001), np.linspace(-90, 90, 20_001), np.geomspace(1e-9, 1, 5_000)]))
X = np.concatenate([X, -X]).astype(np.float32)
erfc = np.vectorize(math.erfc)


def normal_cdf(x):
    return erfc(-x * math.sqrt(0.5)) / 2


def bell(x):
    return np.exp(-x * x / 2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu_tanh_gate(x):
    return sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def applied(name, x):
    f = getattr(vmath, name)

    @jit
    def loop(x, y):
        for i in range(x.size):
            y[i] = f(x[i])

    y = np.empty_like(x)
    loop(x, y)
    return y, loop


ULP = {
    "exp": (np.exp, 1),
    "tanh": (np.tanh, 1.5),
    "bell": (bell, 2.5),
    "sigmoid": (sigmoid, 2.5),
    "normal_cdf": (normal_cdf, 6.5),
}


@pytest.mark.parametrize("name", ULP)
def test_relative_errors(name):
    """In units of the last digit, as long as the value and what it is made of have all their digits."""
    true, ulp = ULP[name]
    with np.errstate(over="ignore"):
        expected = true(X.astype(float))
    full = (np.abs(expected) > 4 * NORMAL) & (expected < np.finfo("f4").max)
    y, _ = applied(name, X)
    assert y.dtype == np.float32
    errors = np.abs(y[full] - expected[full]) / np.spacing(np.abs(expected[full]).astype("f4"))
    assert errors.max() <= ulp
    assert full.sum() > X.size / 2
    assert (np.abs(y[np.abs(expected) <= NORMAL]) <= 4 * NORMAL).all()


# how far a sum of terms of this size may be off
TERMS = {
    "silu": lambda x: np.abs(x) * sigmoid(x),
    "gelu": lambda x: np.abs(x) * normal_cdf(x),
    "gelu_tanh": lambda x: np.abs(x) * gelu_tanh_gate(x) * (1 + np.abs(x) ** 3 / 8),  # 2u's own rounding
    "relu": np.abs,
    "silu_derivative": lambda x: sigmoid(x) * (1 + np.abs(x)),
    "gelu_derivative": lambda x: normal_cdf(x) + np.abs(x) * bell(x),
    "gelu_tanh_derivative": lambda x: gelu_tanh_gate(x) * (1 + np.abs(x) ** 3) * (1 + np.abs(x) ** 3 / 8),
    "tanh_derivative": lambda x: np.ones_like(x),
    "relu_derivative": np.abs,
}


def gelu_tanh_derivative(x):
    s = gelu_tanh_gate(x)
    return s + x * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


# where the reference's 1 + erf or 1 + tanh loses its digits to the left
WITHOUT_CANCELLATION = {
    "gelu": lambda x: x * normal_cdf(x),
    "gelu_derivative": lambda x: normal_cdf(x) + x * bell(x) / math.sqrt(2 * math.pi),
    "gelu_tanh": lambda x: x * gelu_tanh_gate(x),
    "gelu_tanh_derivative": gelu_tanh_derivative,
    "silu": lambda x: x * sigmoid(x),
}


@pytest.mark.parametrize("name", TERMS)
def test_activations(name):
    x = X[np.abs(X) <= 12]
    expected = (WITHOUT_CANCELLATION.get(name) or getattr(reference, name))(x.astype(float))
    y, _ = applied(name, x)
    assert y.dtype == np.float32
    bound = 6 * np.finfo("f4").eps * TERMS[name](x.astype(float)) + 4 * NORMAL * (1 + np.abs(x) ** 3)
    assert (np.abs(y - expected) <= bound).all()


@pytest.mark.parametrize("name", ["exp", "tanh", "bell", "sigmoid", "normal_cdf", *TERMS])
def test_float64_is_float64(name):
    x = np.linspace(-9, 9, 1001)
    y, _ = applied(name, x)
    known = {"exp": np.exp, "tanh": np.tanh, "bell": bell, "normal_cdf": normal_cdf}
    expected = known[name](x) if name in known else getattr(reference, name, None)(x)
    assert y.dtype == np.float64 and np.allclose(y, expected, rtol=1e-12, atol=1e-14)


LIMITS = {  # at -inf, 0 and inf
    "exp": (0, 1, np.inf),
    "tanh": (-1, 0, 1),
    "sigmoid": (0, 0.5, 1),
    "bell": (0, 1, 0),
    "normal_cdf": (0, 0.5, 1),
    "relu": (0, 0, np.inf),
}


@pytest.mark.parametrize("name", LIMITS)
def test_infinity_and_nan(name):
    y, _ = applied(name, np.array([-np.inf, 0, np.inf, np.nan] * 20, np.float32))
    assert np.array_equal(y, np.array([*LIMITS[name], np.nan] * 20, np.float32), equal_nan=True)


@pytest.mark.parametrize("name", ["exp", "tanh", "gelu", "gelu_tanh_derivative", "silu"])
def test_loops_have_vectors(name):
    """No call of the C library's, nor of anything else, remains inside."""
    _, loop = applied(name, X)
    (code,) = loop.inspect_llvm().values()
    assert "x float>" in code and not any(f"@{f}f" in code or f"@{f}(" in code for f in ("exp", "tanh", "erf", "erfc"))


def test_maximum_finds_the_largest():
    @jit
    def largest(x):
        top = x[0]
        for i in range(x.size):
            top = vmath.maximum(top, x[i])
        return top

    x = np.random.default_rng(0).standard_normal(1001)
    assert largest(x) == x.max() and largest(x.astype("f4")) == x.astype("f4").max()
