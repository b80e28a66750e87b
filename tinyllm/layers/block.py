"""Transformer blocks and their feed-forward half. A block's backward is its forward, read from the bottom up."""

from __future__ import annotations

from .. import kernels
from ..kernels.activations import activation_named
from .attention import Attention, CrossAttention
from .elementary import Dropout, LayerNorm, Linear, LinearActivation, RMSNorm
from .layer import Layer

Norm = LayerNorm | RMSNorm


class MLP(Layer):
    """y = w2 act(w1 x + b1) + b2 with an activation.  x (..., C) -> F features -> y (..., C).

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
    """y = w2 (act(gate x) * (up x)), gate and up in one matrix (Shazeer 2020; act = silu: SwiGLU).  Dropouts as in MLP."""

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


class PreNormBlock(Layer):
    """Two residual branches, each with a norm before it (Radford et al. 2019, section 2.3).  x (B, T, C) -> (B, T, C)."""

    def __init__(self, norm1: Norm, attention: Attention, norm2: Norm, mlp: MLP | GatedMLP):
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(self, x, context):
        x = x + self.attention(self.norm1(x), context)
        return x + self.mlp(self.norm2(x))

    def backward(self, dy):
        dx = dy + self.norm2.backward(self.mlp.backward(dy))
        return dx + self.norm1.backward(self.attention.backward(dx))


class CrossBlock(Layer):
    """A pre-norm block that also attends to a source (Raffel et al. 2020, section 2.1).  x (B, T, C) -> (B, T, C)."""

    def __init__(
        self, norm1: Norm, attention: Attention, norm2: Norm, cross: CrossAttention, norm3: Norm, mlp: MLP | GatedMLP
    ):
        super().__init__()
        self.norm1, self.attention, self.norm2, self.cross, self.norm3, self.mlp = norm1, attention, norm2, cross, norm3, mlp

    def forward(self, x, context):
        x = x + self.attention(self.norm1(x), context)
        x = x + self.cross(self.norm2(x), context)
        return x + self.mlp(self.norm3(x))

    def backward(self, dy):
        dx = dy + self.norm3.backward(self.mlp.backward(dy))
        dx = dx + self.norm2.backward(self.cross.backward(dx))
        return dx + self.norm1.backward(self.attention.backward(dx))


class PostNormBlock(Layer):
    """Two residual branches, each sum with a norm after it (Vaswani et al. 2017, section 3.1).  x (B, T, C) -> (B, T, C)."""

    def __init__(self, attention: Attention, norm1: Norm, mlp: MLP | GatedMLP, norm2: Norm):
        super().__init__()
        self.attention, self.norm1, self.mlp, self.norm2 = attention, norm1, mlp, norm2

    def forward(self, x, context):
        x = self.norm1(x + self.attention(x, context))
        return self.norm2(x + self.mlp(x))

    def backward(self, dy):
        dx = self.norm2.backward(dy)
        dx = self.norm1.backward(dx + self.mlp.backward(dx))
        return dx + self.attention.backward(dx)
