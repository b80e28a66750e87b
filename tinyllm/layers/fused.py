"""The blocks of block.py for speed: a residual sum and the norm before or after it are one pass over memory.

They compute the same as the plain blocks (tests/layers/test_fused.py). `assembled` chooses between the two.
"""

from __future__ import annotations

from typing import Any

from .. import kernels
from .block import CrossBlock, Norm, PostNormBlock, PreNormBlock
from .elementary import LayerNorm, ones
from .layer import Layer
from .recompute import Recompute


def add_norm(norm: Norm, x: Any, f: Any) -> tuple[Any, Any]:
    """x + f and norm(x + f).  x, f (..., C)."""
    if isinstance(norm, LayerNorm):
        w = ones(x) if norm.w is None else norm.w.data
        x, y, mean, rstd = kernels.add_layernorm_forward(x, f, w, norm.b and norm.b.data, norm.eps)
        norm.keep(x, w, mean, rstd)
    else:
        x, y, rstd = kernels.add_rmsnorm_forward(x, f, norm.w.data, norm.eps)
        norm.keep(x, rstd)
    return x, y


def add_norm_backward(norm: Norm, dy: Any, dx: Any) -> Any:
    """dx + norm.backward(dy), for the input x of the norm, which also went on past it and has the gradient dx there."""
    if isinstance(norm, LayerNorm):
        x, w, mean, rstd = norm.kept()
        return kernels.add_layernorm_backward(dy, dx, x, w, mean, rstd, norm.w and norm.w.grad, norm.b and norm.b.grad)
    x, rstd = norm.kept()
    return kernels.add_rmsnorm_backward(dy, dx, x, norm.w.data, rstd, norm.w.grad)


class FusedPreNormBlock(PreNormBlock):
    """PreNormBlock for speed."""

    def forward(self, x, context):
        x, h = add_norm(self.norm2, x, self.attention(self.norm1(x), context))
        return kernels.add(x, self.mlp(h))

    def backward(self, dy):
        dx = add_norm_backward(self.norm2, self.mlp.backward(dy), dy)
        return add_norm_backward(self.norm1, self.attention.backward(dx), dx)


class FusedCrossBlock(CrossBlock):
    """CrossBlock for speed."""

    def forward(self, x, context):
        x, h = add_norm(self.norm2, x, self.attention(self.norm1(x), context))
        x, h = add_norm(self.norm3, x, self.cross(h, context))
        return kernels.add(x, self.mlp(h))

    def backward(self, dy):
        dx = add_norm_backward(self.norm3, self.mlp.backward(dy), dy)
        dx = add_norm_backward(self.norm2, self.cross.backward(dx), dx)
        return add_norm_backward(self.norm1, self.attention.backward(dx), dx)


class FusedPostNormBlock(PostNormBlock):
    """PostNormBlock for speed."""

    def forward(self, x, context):
        _, x = add_norm(self.norm1, x, self.attention(x, context))
        _, x = add_norm(self.norm2, x, self.mlp(x))
        return x

    def backward(self, dy):
        dx = self.norm2.backward(dy)
        dx = self.norm1.backward(kernels.add(dx, self.mlp.backward(dx)))
        return kernels.add(dx, self.attention.backward(dx))


FUSED: dict[type[Layer], type[Layer]] = {
    PreNormBlock: FusedPreNormBlock,
    CrossBlock: FusedCrossBlock,
    PostNormBlock: FusedPostNormBlock,
}


def assembled(block: Layer, recompute: bool = False) -> Layer:
    """The block as a model runs it: fused, and with activation recomputation if that is asked for.

    A model that is made while the reference set is in force keeps the plain block, to be read and stepped through.
    """
    if kernels.numpy_set() != "reference":
        block = FUSED[type(block)](*(child for _, child in block.children()))
    return Recompute(block) if recompute else block
