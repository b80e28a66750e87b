"""Activations and gated products: one pass, vectorised by vmath.py, the numbers divided among the threads.

The activation is a number here, and the choice is made outside of the loops: one kernel to compile instead of five. For a
number without a branch the result is NaN, so a forgotten branch cannot pass for another activation.
"""

from __future__ import annotations

import math

from ..activations import PerActivation
from . import vmath
from .arrays import divided, flat, like, parts_of, rows
from .jit import jit
from .memory import empty

GELU, GELU_TANH, RELU, SILU, TANH = range(5)
CODES = PerActivation(gelu=GELU, gelu_tanh=GELU_TANH, relu=RELU, silu=SILU, tanh=TANH)  # by which kernels know them


@jit
def apply(code, x, y):
    """y = f(x), for one-dimensional arrays."""
    if code == GELU:
        for i in range(y.size):
            y[i] = vmath.gelu(x[i])
    elif code == GELU_TANH:
        for i in range(y.size):
            y[i] = vmath.gelu_tanh(x[i])
    elif code == RELU:
        for i in range(y.size):
            y[i] = vmath.relu(x[i])
    elif code == SILU:
        for i in range(y.size):
            y[i] = vmath.silu(x[i])
    elif code == TANH:
        for i in range(y.size):
            y[i] = vmath.tanh(x[i])
    else:
        for i in range(y.size):
            y[i] = math.nan


@jit
def apply_derivative(code, dy, x, dx):
    """dx = dy f'(x), for one-dimensional arrays."""
    if code == GELU:
        for i in range(dx.size):
            dx[i] = dy[i] * vmath.gelu_derivative(x[i])
    elif code == GELU_TANH:
        for i in range(dx.size):
            dx[i] = dy[i] * vmath.gelu_tanh_derivative(x[i])
    elif code == RELU:
        for i in range(dx.size):
            dx[i] = dy[i] * vmath.relu_derivative(x[i])
    elif code == SILU:
        for i in range(dx.size):
            dx[i] = dy[i] * vmath.silu_derivative(x[i])
    elif code == TANH:
        for i in range(dx.size):
            dx[i] = dy[i] * vmath.tanh_derivative(x[i])
    else:
        for i in range(dx.size):
            dx[i] = math.nan


@divided
def apply_part(start, stop, code, x, y):
    apply(code, x[start:stop], y[start:stop])


@divided
def apply_derivative_part(start, stop, code, dy, x, dx):
    apply_derivative(code, dy[start:stop], x[start:stop], dx[start:stop])


def activation_forward(x, activation):
    y = empty(x, x.shape)
    apply_part(x.size, parts_of(x.size), CODES[activation], flat(x), flat(y))
    return y


def activation_backward(dy, x, activation):
    dx = empty(x, x.shape)
    apply_derivative_part(x.size, parts_of(x.size), CODES[activation], flat(like(dy, x, "dy")), flat(x), flat(dx))
    return dx


@jit
def multiply(y, x):
    for j in range(y.size):
        y[j] *= x[j]


@divided
def gated_rows(start, stop, code, x, y):
    F = y.shape[1]
    for i in range(start, stop):
        apply(code, x[i, :F], y[i])
        multiply(y[i], x[i, F:])


@divided
def gated_backward_rows(start, stop, code, dy, x, dx):
    F = dy.shape[1]
    for i in range(start, stop):
        gate, up, dgate, dup = x[i, :F], x[i, F:], dx[i, :F], dx[i, F:]
        apply(code, gate, dup)
        multiply(dup, dy[i])
        apply_derivative(code, up, gate, dgate)
        multiply(dgate, dy[i])


def gated_forward(x, activation):
    y, x = empty(x, halved(x)), rows(x)
    gated_rows(len(x), parts_of(x.size), CODES[activation], x, rows(y))
    return y


def gated_backward(dy, x, activation):
    if dy.shape != halved(x) or dy.dtype != x.dtype:
        raise ValueError(f"dy is {dy.dtype} {dy.shape}; for x {x.dtype} {x.shape} it must be {x.dtype} {halved(x)}")
    dx, x = empty(x, x.shape), rows(x)
    gated_backward_rows(len(x), parts_of(x.size), CODES[activation], rows(dy), x, rows(dx))
    return dx


def halved(x):
    """The shape of a gated product: x = [gate | up] gives half as many channels."""
    if x.shape[-1] % 2:
        raise ValueError(f"x is {x.shape}: gate and up, side by side, need an even number of channels")
    return *x.shape[:-1], x.shape[-1] // 2
