"""Embeddings of tokens and of positions."""

from __future__ import annotations

from .. import kernels
from ..parameter import Parameter, normal
from .layer import Layer


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

    def backward(self, dy):
        (tokens,) = self.kept()
        if not self.w.trained:
            return
        before = None if self.padding is None else self.w.grad[self.padding].copy()
        kernels.embedding_backward(dy, tokens, self.w.grad)
        if before is not None:
            self.w.grad[self.padding] = before


class PositionEmbedding(Layer):
    """y = x + w[positions].  x (B, T, C), positions (T,) or (B, T) ints -> y (B, T, C).  w (T_max, C)."""

    def __init__(self, T_max: int, C: int, std: float = 0.02):
        super().__init__()
        self.w = Parameter((T_max, C), normal(std))

    def forward(self, x, positions):
        self.keep(positions)
        return kernels.position_forward(x, self.w.data, positions)

    def backward(self, dy):
        (positions,) = self.kept()
        if self.w.trained:
            kernels.position_backward(dy, positions, self.w.grad)
        return dy
