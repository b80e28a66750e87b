"""Activations and gated products: a kernel for each, with the function written into it (activation.cu)."""

from __future__ import annotations

import numpy as np

from ..activations import PerActivation
from .arrays import flat, flat_layout, like, row_layout, rows
from .memory import empty
from .module import Kernels

# the names in activation.cuh
IN_CUDA = PerActivation(gelu="Gelu", gelu_tanh="GeluTanh", relu="Relu", silu="Silu", tanh="Tanh")
NAMES = ("activation_forward", "activation_backward", "gated_forward", "gated_backward")
KERNELS = Kernels("activation.cu", *(f"{name}<T, {function}>" for name in NAMES for function in IN_CUDA.values()))


def activation_forward(x, activation):
    """y = f(x), f by its name.  x of any shape -> y."""
    name, numbers, y = f"activation_forward<T, {IN_CUDA[activation]}>", flat(x), empty(x, x.shape)
    KERNELS.launch(name, x, *flat_layout(numbers), numbers, y, np.int64(x.size))
    return y


def activation_backward(dy, x, activation):
    """dx = dy f'(x)."""
    name, numbers, dx = f"activation_backward<T, {IN_CUDA[activation]}>", flat(x), empty(x, x.shape)
    KERNELS.launch(name, x, *flat_layout(numbers), flat(like(dy, x, "dy")), numbers, dx, np.int64(x.size))
    return dx


def gated_forward(x, activation):
    """y = f(gate) * up, with x = [gate | up] side by side.  x (N, 2F) -> y (N, F)."""
    if x.shape[-1] % 2:
        raise ValueError(f"x {x.shape} must have an even number of columns: the gate's and as many behind them")
    y = empty(x, (*x.shape[:-1], x.shape[-1] // 2))
    y_rows = rows(y)
    KERNELS.launch(f"gated_forward<T, {IN_CUDA[activation]}>", x, *row_layout(y_rows), rows(x), y_rows, *y_rows.shape)
    return y


def gated_backward(dy, x, activation):
    """dx (N, 2F) = [dy up f'(gate) | dy f(gate)]."""
    if dy.shape != (*x.shape[:-1], x.shape[-1] // 2) or x.shape[-1] % 2 or dy.dtype != x.dtype:
        raise ValueError(f"dy is {dy.dtype} {dy.shape}; for x {x.dtype} {x.shape} it must have half as many columns")
    dy, dx = rows(dy), empty(x, x.shape)
    KERNELS.launch(f"gated_backward<T, {IN_CUDA[activation]}>", x, *row_layout(dy), dy, rows(x), rows(dx), *dy.shape)
    return dx
