"""Multi-head attention, to the sequence itself or to another, and what a call of it must know beside the activations."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels
from .cache import KVCache, SourceCache
from .dropout import Dropout
from .layer import Layer
from .linear import Linear
from .rotary import Rotary


class Shared:
    """An array that all layers of a stack use in one forward pass, and the sum of the gradients that they give for it:
    `grad`, of the array's dtype or another; None where nobody wants it."""

    def __init__(self, data: np.ndarray, wanted: bool = True, dtype: Any = None):
        self.data, self.wanted, self.dtype = data, wanted, dtype

    @functools.cached_property
    def grad(self) -> Any:
        return kernels.zeros(self.data, self.data.shape, self.dtype) if self.wanted else None


@dataclass
class Context:
    """What all blocks of a model need in one forward pass beside x: who may be seen, where each token stands, the cache."""

    mask: np.ndarray | None = None  # bool (B, S) or (B, T, S): which keys are real
    positions: np.ndarray | None = None  # (T,) or (B, T) ints
    cache: KVCache | None = None  # keys and values of the tokens before
    bias: Shared | None = None  # (H, T, S): added to the scores of self-attention
    source: Shared | None = None  # (B, S, C): what cross attention sees,
    source_mask: np.ndarray | None = None  # bool (B, S): and which of it is real


class Attention(Layer):
    """y = proj(attention(q, k, v)) with [q | k | v] = qkv(x).  x (B, T, C) -> y (B, T, C).

    H query heads of D = C / H numbers, G key/value heads (H by default). proj_bias: where proj differs from qkv in having a
    bias; window: each query sees that many keys, up to its own; rotary: turns q and k by their positions; dropout: of the
    attention weights (of y: the norm's that adds it).
    """

    def __init__(self, C, H, G=None, D=None, bias=True, causal=True, scale=None, dropout=0.0, std=0.02,
                 residual_std=0.02, proj_bias=None, window=None, rotary=None):  # fmt: skip
        super().__init__()
        self.H, self.G, self.D = H, G or H, D or C // H
        self.causal, self.window = causal, window
        self.scale = 1 / math.sqrt(self.D) if scale is None else scale
        self.qkv = Linear(C, (self.H + 2 * self.G) * self.D, bias, std)
        self.rotary: Rotary | None = rotary
        self.dropout = Dropout(dropout)
        self.proj = Linear(self.H * self.D, C, bias if proj_bias is None else proj_bias, residual_std)

    def split(self, qkv):
        """[q | k | v] (B, T, (H + 2G) D) -> views q (B, T, H, D), k and v (B, T, G, D)."""
        heads = self.heads(qkv)
        return heads[:, :, : self.H], heads[:, :, self.H : self.H + self.G], heads[:, :, self.H + self.G :]

    def heads(self, qkv):
        """[q | k | v] (B, T, (H + 2G) D) -> a view (B, T, H + 2G, D)."""
        B, T, _ = qkv.shape
        return qkv.reshape(B, T, self.H + 2 * self.G, self.D)

    def options(self, context):
        seen = {"mask": context.mask, "causal": self.causal, "window": self.window}
        bias = context.bias and context.bias.data
        return {**seen, "scale": self.scale, "bias": bias, **self.dropout.options()}

    def forward(self, x, context):
        B, T, _ = x.shape
        qkv = self.qkv(x)
        q, k, v = self.split(qkv)
        if self.rotary is not None:
            q, k = self.rotary(q, context.positions), self.rotary(k, context.positions)
        given = q, k, v
        if context.cache is not None:
            k, v = context.cache.extend(self, k, v)  # (B, S, G, D)
        options = self.options(context)
        if context.cache is not None and context.cache.end is not None:
            y, lse = kernels.attention_step(q, k, v, context.cache.end, **options), None
        else:
            y, lse = kernels.attention_forward(q, k, v, **options)
        self.keep(given, y, lse, options, context.bias)
        return self.proj(y.reshape(B, T, self.H * self.D))

    def backward(self, dy):
        (q, k, v), y, lse, options, bias = self.kept()
        dy = self.proj.backward(dy).reshape(y.shape)
        dq, dk, dv = kernels.attention_backward(dy, q, k, v, y, lse, **options, dbias=bias and bias.grad)
        if self.rotary is not None:
            dk = self.rotary.backward(dk)
            dq = self.rotary.backward(dq)
        dqkv = kernels.join_heads(dq, dk, dv)
        return self.qkv.backward(dqkv.reshape(*dqkv.shape[:2], -1))


class CrossAttention(Layer):
    """y = proj(attention(q, k, v)) with q = q(x), [k | v] = kv(source).  x (B, T, C), source (B, S, C) -> y (B, T, C).

    The source is the context's; its gradient is added into context.source.grad: each layer of a decoder has a part in it.
    """

    def __init__(self, C, H, D=None, bias=True, scale=None, dropout=0.0, std=0.02, residual_std=0.02):
        super().__init__()
        self.H, self.D = H, D or C // H
        self.scale = 1 / math.sqrt(self.D) if scale is None else scale
        self.q = Linear(C, self.H * self.D, bias, std)
        self.kv = Linear(C, 2 * self.H * self.D, bias, std)
        self.dropout = Dropout(dropout)
        self.proj = Linear(self.H * self.D, C, bias, residual_std)

    def split(self, kv):
        """[k | v] (B, S, 2 H D) -> views k and v (B, S, H, D)."""
        B, S, _ = kv.shape
        heads = kv.reshape(B, S, 2 * self.H, self.D)
        return heads[:, :, : self.H], heads[:, :, self.H :]

    def forward(self, x, context):
        B, T, _ = x.shape
        q = self.q(x).reshape(B, T, self.H, self.D)
        if isinstance(context.cache, SourceCache):
            kv, (k, v) = None, context.cache.of_source(self)
        else:
            kv = self.kv(context.source.data)
            k, v = self.split(kv)
        options = {"mask": context.source_mask, "scale": self.scale, **self.dropout.options()}
        y, lse = kernels.attention_forward(q, k, v, **options)
        self.keep(q, kv, y, lse, options, context.source)
        return self.proj(y.reshape(B, T, self.H * self.D))

    def backward(self, dy):
        q, kv, y, lse, options, source = self.kept()
        dy = self.proj.backward(dy).reshape(y.shape)
        dq, dk, dv = kernels.attention_backward(dy, q, *self.split(kv), y, lse, **options)
        source.grad += self.kv.backward(kernels.join_heads(dk, dv).reshape(kv.shape))
        return self.q.backward(dq.reshape(*dq.shape[:2], self.H * self.D))
