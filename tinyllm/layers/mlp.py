"""The feed-forward half of a transformer block."""

from __future__ import annotations

from .. import kernels
from ..kernels.activations import activation_named
from .elementary import Dropout, Linear, LinearActivation
from .layer import Layer


class MLP(Layer):
    """y = w2 a(w1 x + b1) + b2 with an activation a.  x (..., C) -> F features -> y (..., C).

    inner_dropout: of the F features. residual_dropout: of y, the residual branch.
    """

    def __init__(
        self, C, F, activation, bias=True, std=0.02, residual_std=0.02, inner_dropout=0.0, residual_dropout=0.0
    ):  # fmt: skip
        super().__init__()
        self.up = LinearActivation(C, F, activation_named(activation), bias, std)
        self.inner_dropout = Dropout(inner_dropout)
        self.down = Linear(F, C, bias, residual_std)
        self.residual_dropout = Dropout(residual_dropout)

    def forward(self, x):
        return self.residual_dropout(self.down(self.inner_dropout(self.up(x))))

    def backward(self, dy):
        return self.up.backward(self.inner_dropout.backward(self.down.backward(self.residual_dropout.backward(dy))))


class GatedMLP(Layer):
    """y = w2 (a(gate x) * (up x)), gate and up in one matrix (Shazeer 2020; a = silu: SwiGLU).  Dropouts as in MLP."""

    def __init__(
        self, C, F, activation, bias=False, std=0.02, residual_std=0.02, inner_dropout=0.0, residual_dropout=0.0
    ):  # fmt: skip
        super().__init__()
        self.activation = activation_named(activation)
        self.gate_up = Linear(C, 2 * F, bias, std)
        self.inner_dropout = Dropout(inner_dropout)
        self.down = Linear(F, C, bias, residual_std)
        self.residual_dropout = Dropout(residual_dropout)

    def forward(self, x):
        gate_up = self.gate_up(x)
        self.keep(gate_up)
        features = self.inner_dropout(kernels.gated_forward(gate_up, self.activation))
        return self.residual_dropout(self.down(features))

    def backward(self, dy):
        (gate_up,) = self.kept()
        dy = self.inner_dropout.backward(self.down.backward(self.residual_dropout.backward(dy)))
        return self.gate_up.backward(kernels.gated_backward(dy, gate_up, self.activation))
