"""Activations, each a function above its derivative, and the gated products (Shazeer 2020). x has any shape.

GELU (Hendrycks & Gimpel 2016) is x Phi(x), where Phi is the normal distribution function. "gelu" computes it by erf;
"gelu_tanh" is its approximation, which GPT-2 uses. SiLU (Elfwing et al. 2017) is x sigmoid(x).
"""

import math
from collections.abc import Callable

import numpy as np

from ..activations import PerActivation
from ..common import Array

SQRT_HALF = math.sqrt(1 / 2)
SQRT_2_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715


def erf(x: Array) -> Array:
    """Python's erf, number by number, because NumPy does not have it."""
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


def gelu(x: Array) -> Array:
    """x Phi(x): gpt.md (11)."""
    return x * (1 + erf(x * SQRT_HALF)) / 2


def gelu_derivative(x: Array) -> Array:
    """Phi(x) + x phi(x), where phi is the normal density: gpt.md (11)."""
    return (1 + erf(x * SQRT_HALF)) / 2 + x * np.exp(-x * x / 2) * (SQRT_2_PI / 2)


def gelu_tanh(x: Array) -> Array:
    """x (1 + tanh(a)) / 2 with a = sqrt(2/pi) (x + 0.044715 x^3): gpt.md (12)."""
    return x * (1 + np.tanh(SQRT_2_PI * (x + CUBIC * x**3))) / 2


def gelu_tanh_derivative(x: Array) -> Array:
    """(1 + t)/2 + x (1 - t^2)/2 a' with t = tanh(a): gpt.md (13)."""
    t = np.tanh(SQRT_2_PI * (x + CUBIC * x**3))
    return (1 + t) / 2 + x * (1 - t * t) / 2 * SQRT_2_PI * (1 + 3 * CUBIC * x * x)


def relu(x: Array) -> Array:
    """max(x, 0): opt.md (3)."""
    return np.maximum(x, 0)


def relu_derivative(x: Array) -> Array:
    """1 where x > 0, else 0: opt.md (3)."""
    return (x > 0).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), in a form that cannot overflow: llama.md (12)."""
    return (1 + np.tanh(x / 2)) / 2


def silu(x: Array) -> Array:
    """x sigmoid(x): llama.md (12)."""
    return x * sigmoid(x)


def silu_derivative(x: Array) -> Array:
    """sigmoid(x) + x sigmoid(x) (1 - sigmoid(x)): llama.md (13)."""
    return sigmoid(x) + x * sigmoid(x) * (1 - sigmoid(x))


def tanh_derivative(x: Array) -> Array:
    """1 - tanh(x)^2: bert.md (7)."""
    return 1 - np.tanh(x) ** 2


FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = PerActivation(
    gelu=(gelu, gelu_derivative),
    gelu_tanh=(gelu_tanh, gelu_tanh_derivative),
    relu=(relu, relu_derivative),
    silu=(silu, silu_derivative),
    tanh=(np.tanh, tanh_derivative),
)


def activation_forward(x: Array, activation: str) -> Array:
    """y = act(x), an activation by its name (kernels/activations.py): gpt.md (11).  x (N, C) -> y (N, C)."""
    act, _ = FUNCTIONS[activation]
    return act(x)


def activation_backward(dy: Array, x: Array, activation: str) -> Array:
    """dx = dy act'(x): gpt.md (11).  dy, x (N, C) -> dx (N, C)."""
    _, derivative = FUNCTIONS[activation]
    return dy * derivative(x)


def gated_forward(x: Array, activation: str) -> Array:
    """y = act(gate) up with x = [gate | up]: llama.md (12), t5.md (8).  x (N, 2F) -> y (N, F).  SwiGLU has act = silu."""
    gate, up = np.split(x, 2, axis=-1)
    return activation_forward(gate, activation) * up


def gated_backward(dy: Array, x: Array, activation: str) -> Array:
    """dx = [dy up act'(gate) | dy act(gate)]: llama.md (13), t5.md (9).  dy (N, F), x (N, 2F) -> dx (N, 2F)."""
    gate, up = np.split(x, 2, axis=-1)
    dgate = activation_backward(dy * up, gate, activation)
    dup = dy * activation_forward(gate, activation)
    return np.concatenate([dgate, dup], axis=-1)
