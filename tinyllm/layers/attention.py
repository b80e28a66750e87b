"""Multi-head self-attention, and what a call of it must know beside the activations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import kernels
from .cache import KVCache
from .dropout import Dropout
from .layer import Layer
from .linear import Linear
from .rotary import Rotary


@dataclass
class Context:
    """What all blocks of a model need in one forward pass beside x: who may be seen, where each token stands, the cache."""

    mask: np.ndarray | None = None  # bool (B, S) or (B, T, S): which keys are real
    positions: np.ndarray | None = None  # (T,) or (B, T) ints
    cache: KVCache | None = None  # keys and values of the tokens before


class Attention(Layer):
    """y = proj(attention(q, k, v)) with [q | k | v] = qkv(x).  x (B, T, C) -> y (B, T, C).

    H query heads of D = C / H numbers, G key/value heads (H by default). proj_bias: where proj differs from qkv in having a
    bias; window: each query sees that many keys, up to its own; rotary: turns q and k by their positions.
    """

    def __init__(self, C, H, G=None, D=None, bias=True, causal=True, scale=None, dropout=0.0, residual_dropout=0.0,
                 std=0.02, residual_std=0.02, proj_bias=None, window=None, rotary=None):  # fmt: skip
        super().__init__()
        self.H, self.G, self.D = H, G or H, D or C // H
        self.causal, self.window = causal, window
        self.scale = 1 / math.sqrt(self.D) if scale is None else scale
        self.qkv = Linear(C, (self.H + 2 * self.G) * self.D, bias, std)
        self.rotary: Rotary | None = rotary
        self.weights_dropout = Dropout(dropout)
        self.proj = Linear(self.H * self.D, C, bias if proj_bias is None else proj_bias, residual_std)
        self.dropout = Dropout(residual_dropout)

    def split(self, qkv):
        """[q | k | v] (B, T, (H + 2G) D) -> views q (B, T, H, D), k and v (B, T, G, D)."""
        heads = self.heads(qkv)
        return heads[:, :, : self.H], heads[:, :, self.H : self.H + self.G], heads[:, :, self.H + self.G :]

    def heads(self, qkv):
        """[q | k | v] (B, T, (H + 2G) D) -> a view (B, T, H + 2G, D)."""
        B, T, _ = qkv.shape
        return qkv.reshape(B, T, self.H + 2 * self.G, self.D)

    def options(self, context, seed):
        on = {} if seed is None else {"dropout": self.weights_dropout.p, "seed": seed}
        return {"mask": context.mask, "causal": self.causal, "window": self.window, "scale": self.scale, **on}

    def forward(self, x, context):
        B, T, _ = x.shape
        qkv = self.qkv(x)
        if self.rotary is not None:
            self.rotary(self.heads(qkv)[:, :, : self.H + self.G], context.positions)
        q, k, v = self.split(qkv)
        if context.cache is not None:
            k, v = context.cache.extend(self, k, v)  # (B, S, G, D)
        options = self.options(context, self.weights_dropout.seed())
        y, lse = kernels.attention_forward(q, k, v, **options)
        self.keep(qkv, y, lse, options)
        return self.dropout(self.proj(y.reshape(B, T, self.H * self.D)))

    def backward(self, dy):
        qkv, y, lse, options = self.kept()
        dy = self.proj.backward(self.dropout.backward(dy)).reshape(y.shape)
        dqkv = kernels.empty(qkv, qkv.shape)
        kernels.attention_backward(dy, *self.split(qkv), y, lse, **options, out=self.split(dqkv))
        if self.rotary is not None:
            self.rotary.backward(self.heads(dqkv)[:, :, : self.H + self.G])
        return self.qkv.backward(dqkv)
