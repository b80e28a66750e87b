"""Transformer blocks. A block's backward is its forward, read from the bottom up."""

from __future__ import annotations

from .attention import Attention, CrossAttention
from .elementary import LayerNorm, RMSNorm
from .layer import Layer
from .mlp import MLP, GatedMLP

Norm = LayerNorm | RMSNorm


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
