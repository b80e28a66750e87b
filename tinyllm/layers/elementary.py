"""The elementary layers: each is one op of the kernels, forward and backward, with the parameters of that op."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import kernels
from .layer import Layer, dropout_is_allowed
from .parameter import Parameter, constant, normal


class Linear(Layer):
    """y = x w^T + b.  x (..., C) -> y (..., F).  w (F, C), b (F,) if bias is set."""

    def __init__(self, C: int, F: int, bias: bool = True, std: float = 0.02):
        super().__init__()
        self.w = Parameter((F, C), normal(std))
        self.b = Parameter((F,), constant(0)) if bias else None

    def forward(self, x):
        self.keep(x)
        return kernels.linear_forward(x, self.w.data, self.b and self.b.data)

    def backward(self, dy):
        (x,) = self.kept()
        return kernels.linear_backward(dy, x, self.w.data, self.w.grad, self.b and self.b.grad)


class LinearActivation(Linear):
    """y = act(u) with u = x w^T + b and an activation, given by its name in the kernels.  x (..., C) -> y (..., F)."""

    def __init__(self, C: int, F: int, activation: str, bias: bool = True, std: float = 0.02):
        super().__init__(C, F, bias, std)
        self.activation = activation

    def forward(self, x):
        y, u = kernels.linear_activation_forward(x, self.w.data, self.b and self.b.data, self.activation)
        self.keep(x, u)
        return y

    def backward(self, dy):
        x, u = self.kept()
        db = self.b and self.b.grad
        return kernels.linear_activation_backward(dy, x, self.w.data, u, self.w.grad, db, self.activation)


class Output(Layer):
    """logits = x w^T + b, the projection onto the vocabulary, and the loss that it is fused with.

    x (B, T, C) -> logits (B, T, V).  tied: the embedding's weight, used as w (Press & Wolf 2017).
    """

    def __init__(self, C: int, V: int, tied: Parameter | None = None, bias: bool = False, std: float = 0.02):
        super().__init__()
        self.w = tied or Parameter((V, C), normal(std))
        self.b = Parameter((V,), constant(0)) if bias else None

    def forward(self, x):
        return kernels.linear_forward(x, self.w.data, self.b and self.b.data)

    def loss(self, x, targets, label_smoothing=0.0):
        """Mean cross-entropy of the logits with targets (B, T), a Python float. Targets of -100 are ignored."""
        if not isinstance(label_smoothing, (int, float, np.floating)) or not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing!r}, and must be a number in [0, 1)")
        loss, lse, logits = kernels.linear_cross_entropy_forward(
            x, self.w.data, self.b and self.b.data, targets, label_smoothing
        )
        self.keep(x, targets, lse, logits, label_smoothing)
        return loss

    def backward(self, dloss=1.0):
        """The gradient dx (B, T, C) of dloss * loss."""
        x, targets, lse, logits, label_smoothing = self.kept()
        b, db = self.b and self.b.data, self.b and self.b.grad
        return kernels.linear_cross_entropy_backward(
            dloss, x, self.w.data, b, targets, lse, logits, self.w.grad, db, label_smoothing
        )


class Embedding(Layer):
    """y = w[tokens].  tokens (B, T) ints -> y (B, T, C).  w (V, C).

    padding: a token whose vector gets no gradient from here, as PyTorch's padding_idx.
    """

    def __init__(self, V: int, C: int, std: float = 0.02, padding: int | None = None):
        super().__init__()
        self.w = Parameter((V, C), normal(std))
        self.padding = padding

    def forward(self, tokens):
        self.keep(tokens)
        return kernels.embedding_forward(tokens, self.w.data)

    def backward(self, dy) -> None:
        (tokens,) = self.kept()
        if self.w.trained:
            with untouched(self.w.grad, self.padding):
                kernels.embedding_backward(dy, tokens, self.w.grad)


class PositionEmbedding(Layer):
    """y = x + w[positions].  x (B, T, C), positions (T,) or (B, T) ints -> y (B, T, C).  w (T_max, C).

    padding: a position whose vector gets no gradient, as for Embedding.
    """

    def __init__(self, T_max: int, C: int, std: float = 0.02, padding: int | None = None):
        super().__init__()
        self.w = Parameter((T_max, C), normal(std))
        self.padding = padding

    def forward(self, x, positions):
        self.keep(positions)
        return kernels.position_forward(x, self.w.data, positions)

    def backward(self, dy):
        (positions,) = self.kept()
        if self.w.trained:
            with untouched(self.w.grad, self.padding):
                kernels.position_backward(dy, positions, self.w.grad)
        return dy


@contextmanager
def untouched(grad: np.ndarray, row: int | None) -> Iterator[None]:
    """Restores this row of a gradient after the block. Pass None to protect no row."""
    before = None if row is None else grad[row].copy()
    yield
    if before is not None:
        grad[row] = before


class LayerNorm(Layer):
    """y = (x - mean) / std * w + b over the last axis.  x (..., C) -> y (..., C).  affine=False: without w and b."""

    def __init__(self, C: int, bias: bool = True, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.w = Parameter((C,), constant(1)) if affine else None
        self.b = Parameter((C,), constant(0)) if bias and affine else None
        self.eps = eps

    def forward(self, x):
        w = ones(x) if self.w is None else self.w.data
        y, mean, rstd = kernels.layernorm_forward(x, w, self.b and self.b.data, self.eps)
        self.keep(x, w, mean, rstd)
        return y

    def backward(self, dy):
        x, w, mean, rstd = self.kept()
        return kernels.layernorm_backward(dy, x, w, mean, rstd, self.w and self.w.grad, self.b and self.b.grad)


def ones(x: Any) -> Any:
    """The weight (C,) of a norm without one, for x (..., C)."""
    return kernels.zeros(x, x.shape[-1:]) + x.dtype.type(1)


class RMSNorm(Layer):
    """y = x / rms(x) * w over the last axis.  x (..., C) -> y (..., C)."""

    def __init__(self, C: int, eps: float = 1e-6):
        super().__init__()
        self.w = Parameter((C,), constant(1))
        self.eps = eps

    def forward(self, x):
        y, rstd = kernels.rmsnorm_forward(x, self.w.data, self.eps)
        self.keep(x, rstd)
        return y

    def backward(self, dy):
        x, rstd = self.kept()
        return kernels.rmsnorm_backward(dy, x, self.w.data, rstd, self.w.grad)


class Dropout(Layer):
    """y = x / (1 - p), or 0 with probability p, in training; otherwise y = x. Only the seed of the mask is kept."""

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability of dropout is {p}, and must lie in [0, 1)")
        self.p = p

    def forward(self, x):
        p, seed = self.draw()
        self.keep(p, seed)
        return kernels.dropout_forward(x, p, seed) if p else x

    def backward(self, dy):
        p, seed = self.kept()
        return kernels.dropout_backward(dy, p, seed) if p else dy

    def draw(self) -> tuple[float, int]:
        """p and a new seed, for this layer or an op that applies dropout itself, such as attention. 0, 0 if it is off."""
        if not self.mode.training or not dropout_is_allowed() or self.p == 0:
            return 0.0, 0
        return self.p, int(self.mode.random.integers(1 << 63))
