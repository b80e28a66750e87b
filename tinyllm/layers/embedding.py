"""Embeddings of tokens and of positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .. import kernels
from .layer import Layer
from .parameter import Parameter, normal


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
    """Whatever the block adds to this row of a gradient is taken back; None: to none."""
    before = None if row is None else grad[row].copy()
    yield
    if before is not None:
        grad[row] = before
