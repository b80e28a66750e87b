"""The feed-forward half of a transformer block."""

from __future__ import annotations

from .. import kernels
from ..kernels.activations import activation_named
from .dropout import Dropout
from .layer import Layer
from .linear import Linear, LinearActivation


class MLP(Layer):
    """y = w2 f(w1 x + b1) + b2.  x (..., C) -> F features -> y (..., C).  inner_dropout: of the F features."""

    def __init__(self, C, F, activation, bias=True, std=0.02, residual_std=0.02, inner_dropout=0.0):
        super().__init__()
        self.up = LinearActivation(C, F, activation_named(activation), bias, std)
        self.inner_dropout = Dropout(inner_dropout)
        self.down = Linear(F, C, bias, residual_std)

    def forward(self, x):
        return self.down(self.inner_dropout(self.up(x)))

    def backward(self, dy):
        return self.up.backward(self.inner_dropout.backward(self.down.backward(dy)))


class GatedMLP(Layer):
    """y = w2 (f(gate x) * (up x)), gate and up one matrix (Shazeer 2020; f = silu is SwiGLU)."""

    def __init__(self, C, F, activation, bias=False, std=0.02, residual_std=0.02, inner_dropout=0.0):
        super().__init__()
        self.activation = activation_named(activation)
        self.gate_up = Linear(C, 2 * F, bias, std)
        self.inner_dropout = Dropout(inner_dropout)
        self.down = Linear(F, C, bias, residual_std)

    def forward(self, x):
        gate_up = self.gate_up(x)
        self.keep(gate_up)
        return self.down(self.inner_dropout(kernels.gated_forward(gate_up, self.activation)))

    def backward(self, dy):
        (gate_up,) = self.kept()
        dy = self.inner_dropout.backward(self.down.backward(dy))
        return self.gate_up.backward(kernels.gated_backward(dy, gate_up, self.activation))
