"""Dropout, on only in training."""

from __future__ import annotations

from typing import Any

from .. import kernels
from .layer import Layer


class Dropout(Layer):
    """y = x / (1 - p), or 0 with probability p. Only the seed of the mask is kept."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def seed(self) -> int | None:
        """A fresh seed where dropout is on, else None."""
        on = self.mode.training and self.p > 0
        return int(self.mode.random.integers(1 << 63)) if on else None

    def options(self) -> dict[str, Any]:
        """For an op that drops on its way, forward and backward: p and a fresh seed; nothing where dropout is off."""
        seed = self.seed()
        return {} if seed is None else {"dropout": self.p, "seed": seed}

    def forward(self, x):
        seed = self.seed()
        self.keep(seed)
        return x if seed is None else kernels.dropout_forward(x, self.p, seed)

    def backward(self, dy):
        (seed,) = self.kept()
        return dy if seed is None else kernels.dropout_backward(dy, self.p, seed)
