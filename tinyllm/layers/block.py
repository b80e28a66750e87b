"""Transformer blocks with their norms before or behind the branches, and activation recomputation around any block."""

from __future__ import annotations

from .attention import Attention, CrossAttention
from .layer import Layer
from .mlp import MLP, GatedMLP
from .norm import LayerNorm, RMSNorm


class PreNormBlock(Layer):
    """x + attention(norm1(x)), then x + mlp(norm2(x)) (Radford et al. 2019, section 2.3).

    A block takes and gives the residual stream as a pair: x, and the branch r that is still to be added to it, since its
    dropout, the addition and the norm behind it are one pass over memory. Their gradients dx and dr differ by the dropout.
    """

    def __init__(self, norm1: LayerNorm | RMSNorm, attention: Attention, norm2: LayerNorm | RMSNorm, mlp: MLP | GatedMLP):
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(self, x, r, context):
        x, h = self.norm1.add(x, r)
        x, h = self.norm2.add(x, self.attention(h, context))
        return x, self.mlp(h)

    def backward(self, dx, dr):
        dx, dr = self.norm2.add_backward(self.mlp.backward(dr), dx)
        return self.norm1.add_backward(self.attention.backward(dr), dx)


class CrossBlock(Layer):
    """A pre-norm block of a decoder that attends to a source between the two: x + attention(norm1(x)), x + cross(norm2(x)),
    x + mlp(norm3(x)) (Raffel et al. 2020, section 2.1). It takes and gives the residual stream as PreNormBlock does."""

    def __init__(
        self,
        norm1: LayerNorm | RMSNorm,
        attention: Attention,
        norm2: LayerNorm | RMSNorm,
        cross: CrossAttention,
        norm3: LayerNorm | RMSNorm,
        mlp: MLP | GatedMLP,
    ):
        super().__init__()
        self.norm1, self.attention, self.norm2, self.cross, self.norm3, self.mlp = norm1, attention, norm2, cross, norm3, mlp

    def forward(self, x, r, context):
        x, h = self.norm1.add(x, r)
        x, h = self.norm2.add(x, self.attention(h, context))
        x, h = self.norm3.add(x, self.cross(h, context))
        return x, self.mlp(h)

    def backward(self, dx, dr):
        dx, dr = self.norm3.add_backward(self.mlp.backward(dr), dx)
        dx, dr = self.norm2.add_backward(self.cross.backward(dr), dx)
        return self.norm1.add_backward(self.attention.backward(dr), dx)


class PostNormBlock(Layer):
    """norm1(x + attention(x)), then norm2(x + mlp(x)) (Vaswani et al. 2017, section 3.1)."""

    def __init__(self, attention: Attention, norm1: LayerNorm | RMSNorm, mlp: MLP | GatedMLP, norm2: LayerNorm | RMSNorm):
        super().__init__()
        self.attention, self.norm1, self.mlp, self.norm2 = attention, norm1, mlp, norm2

    def forward(self, x, context):
        _, x = self.norm1.add(x, self.attention(x, context))
        _, x = self.norm2.add(x, self.mlp(x))
        return x

    def backward(self, dx):
        dx, dr = self.norm2.add_backward(dx)
        dx, dr = self.norm1.add_backward(dx + self.mlp.backward(dr))
        return dx + self.attention.backward(dr)


class Recompute(Layer):
    """A block that keeps only its inputs and runs its forward again in the backward (Chen et al. 2016).

    Memory for activations falls from all layers' to the inputs of all blocks and the inside of one, for a third more time.
    The random state is put back as well, so that dropout draws the same masks.
    """

    def __init__(self, block: Layer):
        super().__init__()
        self.block = block

    def named_parameters(self, prefix=""):
        return self.block.named_parameters(prefix)  # under the same names as without recomputation

    def forward(self, *inputs):
        self.keep(inputs, self.mode.random.bit_generator.state)
        with self.without_keeping():
            return self.block(*inputs)

    def backward(self, *gradients):
        inputs, random_state = self.kept()
        now = self.mode.random.bit_generator.state
        self.mode.random.bit_generator.state = random_state
        self.block(*inputs)
        self.mode.random.bit_generator.state = now
        return self.block.backward(*gradients)
