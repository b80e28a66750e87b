"""Multi-head attention, to the sequence itself or to another, and what a call of it must know beside the activations."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels
from .elementary import Dropout, Linear, RMSNorm
from .layer import Layer
from .parameter import Parameter, normal
from .rotary import Rotary


@dataclass
class Shared:
    """An array that all layers of a stack use in one forward pass, and the sum of the gradients that they give for it."""

    data: np.ndarray
    source: Parameter | None = None  # the parameter that it was made from, if it was: its gradient goes there

    @functools.cached_property
    def grad(self) -> Any:
        """Zeros at first, of the parameter's dtype if there is one. None if the parameter is frozen."""
        if self.source is None:
            return kernels.zeros(self.data, self.data.shape)
        return kernels.zeros(self.data, self.data.shape, self.source.grad.dtype) if self.source.trained else None


@dataclass
class Context:
    """What all blocks of a model need in one forward pass beside x."""

    mask: np.ndarray | None = None  # bool (B, S) or (B, T, S): which keys are real
    positions: np.ndarray | None = None  # (T,) or (B, T) ints: the position of each token
    cache: Any = None  # in decoding, the keys and values of the tokens before (generation/cache.py)
    bias: Shared | None = None  # (H, T, S): added to the scores of self-attention
    source: Shared | None = None  # (B, S, C): what cross attention attends to,
    source_mask: np.ndarray | None = None  # bool (B, S): and which of it is real


class Attention(Layer):
    """y = proj(attention(q, k, v)) with [q | k | v] = qkv(x).  x (B, T, C) -> y (B, T, C).

    H query heads of D numbers (C / H by default), G key/value heads (H by default). window: each query sees only that many
    keys, up to its own. rotary: rotates q and k by their positions. proj_bias: whether proj has a bias, if not as qkv.
    dropout: of the attention weights. residual_dropout: of y, the residual branch (Vaswani et al. 2017, section 5.4).
    norm_eps: normalise each head of q and of k with this epsilon, before the rotation (Dehghani et al. 2023, section 2).
    """

    def __init__(self, C, H, G=None, D=None, bias=True, causal=True, scale=None, dropout=0.0, residual_dropout=0.0,
                 std=0.02, residual_std=0.02, proj_bias=None, window=None, rotary=None, norm_eps=None):  # fmt: skip
        super().__init__()
        self.H, self.G, self.D = H, G or H, D or C // H
        scale = 1 / math.sqrt(self.D) if scale is None else scale
        self.constants = {"causal": causal, "window": window, "scale": scale}
        self.qkv = Linear(C, (self.H + 2 * self.G) * self.D, bias, std)
        self.q_norm = None if norm_eps is None else RMSNorm(self.D, norm_eps)
        self.k_norm = None if norm_eps is None else RMSNorm(self.D, norm_eps)
        self.rotary: Rotary | None = rotary
        self.dropout = Dropout(dropout)
        self.proj = Linear(self.H * self.D, C, bias if proj_bias is None else proj_bias, residual_std)
        self.residual_dropout = Dropout(residual_dropout)

    def forward(self, x, context):
        if context.cache is not None:
            return self.decode(x, context)
        q, k, v = self.project(x, context)  # (B, T, H, D), (B, T, G, D), (B, T, G, D)
        dropout, seed = self.dropout.draw()
        bias = None if context.bias is None else context.bias.data
        options = {"mask": context.mask, "bias": bias, "dropout": dropout, "seed": seed, **self.constants}
        y, lse = kernels.attention_forward(q, k, v, **options)  # (B, T, H, D), (B, H, T)
        self.keep(q, k, v, y, lse, options, context.bias)
        return self.residual_dropout(self.proj(y.reshape(*x.shape[:2], self.H * self.D)))

    def backward(self, dy):
        q, k, v, y, lse, options, bias = self.kept()
        dy = self.proj.backward(self.residual_dropout.backward(dy)).reshape(y.shape)
        dq, dk, dv = kernels.attention_backward(dy, q, k, v, y, lse, **options, dbias=None if bias is None else bias.grad)
        return self.project_backward(dq, dk, dv)

    def project(self, x, context):
        """q (B, T, H, D), k and v (B, T, G, D). q and k are normalised and rotated if the model does that."""
        B, T, _ = x.shape
        heads = self.qkv(x).reshape(B, T, self.H + 2 * self.G, self.D)
        q, k, v = heads[:, :, : self.H], heads[:, :, self.H : self.H + self.G], heads[:, :, self.H + self.G :]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q, context.positions), self.rotary(k, context.positions)
        return q, k, v

    def project_backward(self, dq, dk, dv):
        if self.rotary is not None:
            dk, dq = self.rotary.backward(dk), self.rotary.backward(dq)
        if self.q_norm is not None and self.k_norm is not None:
            dk, dq = self.k_norm.backward(dk), self.q_norm.backward(dq)
        return self.qkv.backward(merged(kernels.join_heads(dq, dk, dv)))

    def decode(self, x, context):
        """As forward, for the next T tokens of sequences whose keys and values so far are in context.cache."""
        q, k, v = self.project(x, context)
        bias = None if context.bias is None else context.bias.data
        y = context.cache.attend(self, q, k, v, {"mask": context.mask, "bias": bias, **self.constants})
        return self.residual_dropout(self.proj(merged(y)))


class CrossAttention(Layer):
    """y = proj(attention(q, k, v)) with q = q(x), [k | v] = kv(source).  x (B, T, C), source (B, S, C) -> y (B, T, C).

    The source is the context's. Its gradient is added into context.source.grad, because each block has a part in it.
    """

    def __init__(self, C, H, D=None, bias=True, scale=None, dropout=0.0, residual_dropout=0.0, std=0.02, residual_std=0.02):
        super().__init__()
        self.H, self.D = H, D or C // H
        self.scale = 1 / math.sqrt(self.D) if scale is None else scale
        self.q = Linear(C, self.H * self.D, bias, std)
        self.kv = Linear(C, 2 * self.H * self.D, bias, std)
        self.dropout = Dropout(dropout)
        self.proj = Linear(self.H * self.D, C, bias, residual_std)
        self.residual_dropout = Dropout(residual_dropout)

    def forward(self, x, context):
        if context.cache is not None:
            return self.decode(x, context)
        q = self.q(x).reshape(*x.shape[:2], self.H, self.D)  # (B, T, H, D)
        k, v = self.keys_values(context.source.data)  # (B, S, H, D)
        dropout, seed = self.dropout.draw()
        options = {"mask": context.source_mask, "scale": self.scale, "dropout": dropout, "seed": seed}
        y, lse = kernels.attention_forward(q, k, v, **options)  # (B, T, H, D), (B, H, T)
        self.keep(q, k, v, y, lse, options, context.source)
        return self.residual_dropout(self.proj(y.reshape(*x.shape[:2], self.H * self.D)))

    def backward(self, dy):
        q, k, v, y, lse, options, source = self.kept()
        dy = self.proj.backward(self.residual_dropout.backward(dy)).reshape(y.shape)
        dq, dk, dv = kernels.attention_backward(dy, q, k, v, y, lse, **options)
        source.grad += self.kv.backward(merged(kernels.join_heads(dk, dv)))
        return self.q.backward(merged(dq))

    def keys_values(self, source):
        """source (B, S, C) -> k and v (B, S, H, D)."""
        heads = self.kv(source).reshape(*source.shape[:2], 2 * self.H, self.D)
        return heads[:, :, : self.H], heads[:, :, self.H :]

    def decode(self, x, context):
        """As forward, with the keys and values of the source that context.cache holds."""
        q = self.q(x).reshape(*x.shape[:2], self.H, self.D)
        y, _ = kernels.attention_forward(q, *context.cache.of_source(self), mask=context.source_mask, scale=self.scale)
        return self.residual_dropout(self.proj(merged(y)))


class RelativeBias(Layer):
    """What is added to the attention scores of T queries, the last of S positions: a Shared (H, T, S).  w (n_buckets, H).

    All attention layers of a stack add its gradient into the Shared. The backward sends the sum to the buckets, once.
    """

    def __init__(self, n_buckets: int, H: int, bidirectional: bool, max_distance: int = 128, std: float = 0.02):
        super().__init__()
        self.w = Parameter((n_buckets, H), normal(std))
        self.bidirectional, self.max_distance = bidirectional, max_distance

    def forward(self, T, cache=None):
        """The bias of T queries that follow on those in the cache: a Shared (H, T, S)."""
        if cache is not None:
            return self.decode(T, cache)
        bias = kernels.relative_bias_forward(self.w.data, T, T, self.bidirectional, self.max_distance)
        shared = Shared(bias, self.w)
        self.keep(shared)
        return shared

    def decode(self, T, cache):
        """As forward, for queries whose keys are in the cache. During a recorded step S is all the room that there is."""
        w, options = self.w.data, (self.bidirectional, self.max_distance)
        if cache.end is None:
            return Shared(kernels.relative_bias_forward(w, T, cache.length + T, *options), self.w)
        return Shared(kernels.relative_bias_last(w, cache.end, cache.room, *options), self.w)

    def backward(self) -> None:
        (shared,) = self.kept()
        if self.w.trained:
            kernels.relative_bias_backward(shared.grad, self.w.grad, self.bidirectional, self.max_distance)


def merged(heads):
    """Heads side by side as channels: (B, T, n, D) -> (B, T, n D)."""
    B, T, n, D = heads.shape
    return heads.reshape(B, T, n * D)
