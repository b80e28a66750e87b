"""Activations, each a function above its derivative, and the gated products (Shazeer 2020).

GELU (Hendrycks & Gimpel 2016) is x Phi(x), Phi the normal distribution function; "gelu" is that, by erf, and "gelu_tanh"
its approximation, which GPT-2 uses. SiLU (Elfwing et al. 2017) is x sigmoid(x).
"""

from __future__ import annotations

import math

import numpy as np

from ..activations import PerActivation

SQRT_HALF = math.sqrt(1 / 2)
SQRT_2_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715


def erf(x):
    """NumPy has none; Python's, number by number."""
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


def gelu(x):
    return x * (1 + erf(x * SQRT_HALF)) / 2


def gelu_derivative(x):
    """Phi(x) + x phi(x), phi the normal density."""
    return (1 + erf(x * SQRT_HALF)) / 2 + x * np.exp(-x * x / 2) * (SQRT_2_PI / 2)


def gelu_tanh(x):
    return x * (1 + np.tanh(SQRT_2_PI * (x + CUBIC * x**3))) / 2


def gelu_tanh_derivative(x):
    """With t = tanh(u), u = sqrt(2/pi) (x + 0.044715 x^3):  (1 + t)/2 + x (1 - t^2)/2 u'."""
    t = np.tanh(SQRT_2_PI * (x + CUBIC * x**3))
    return (1 + t) / 2 + x * (1 - t * t) / 2 * SQRT_2_PI * (1 + 3 * CUBIC * x * x)


def relu(x):
    return np.maximum(x, 0)


def relu_derivative(x):
    return (x > 0).astype(x.dtype)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2  # no overflow, whatever x is


def silu(x):
    return x * sigmoid(x)


def silu_derivative(x):
    """s + x s (1 - s), s = sigmoid(x)."""
    s = sigmoid(x)
    return s + x * s * (1 - s)


def tanh(x):
    return np.tanh(x)


def tanh_derivative(x):
    return 1 - np.tanh(x) ** 2


FUNCTIONS = PerActivation(
    gelu=(gelu, gelu_derivative),
    gelu_tanh=(gelu_tanh, gelu_tanh_derivative),
    relu=(relu, relu_derivative),
    silu=(silu, silu_derivative),
    tanh=(tanh, tanh_derivative),
)


def activation_forward(x, activation):
    """y = f(x), f by its name (kernels/activations.py).  x of any shape -> y."""
    f, _ = FUNCTIONS[activation]
    return f(x)


def activation_backward(dy, x, activation):
    """dx = dy f'(x)."""
    _, derivative = FUNCTIONS[activation]
    return dy * derivative(x)


def gated_forward(x, activation):
    """y = f(gate) * up, with x = [gate | up] side by side.  x (N, 2F) -> y (N, F).  SwiGLU has f = silu."""
    gate, up = np.split(x, 2, axis=-1)
    return activation_forward(gate, activation) * up


def gated_backward(dy, x, activation):
    """dx (N, 2F) = [dy up f'(gate) | dy f(gate)]."""
    gate, up = np.split(x, 2, axis=-1)
    dgate = activation_backward(dy * up, gate, activation)
    return np.concatenate([dgate, dy * activation_forward(gate, activation)], axis=-1)
