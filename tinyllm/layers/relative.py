"""Relative position biases as a layer: one for all blocks of a stack."""

from __future__ import annotations

from typing import Any

from .. import kernels
from .attention import Shared
from .layer import Layer
from .parameter import Parameter, normal


class RelativeBias(Layer):
    """What is added to the attention scores of T queries, the last of S positions: a Shared (H, T, S).  w (n_buckets, H).

    All attention layers of a stack add its gradient into the Shared; the backward sends the sum to the buckets, once.
    """

    def __init__(self, n_buckets: int, H: int, bidirectional: bool, max_distance: int = 128, std: float = 0.02):
        super().__init__()
        self.w = Parameter((n_buckets, H), normal(std))
        self.bidirectional, self.max_distance = bidirectional, max_distance

    def forward(self, T, S):
        bias = kernels.relative_bias_forward(self.w.data, T, S, self.bidirectional, self.max_distance)
        shared = Shared(bias, self.w.trained, self.w.grad.dtype if self.w.trained else None)  # summed as w's gradient is
        self.keep(shared)
        return shared

    def of_last(self, end: Any, S: int):
        """As forward for one query, the last of the first `end` keys of room for S: an int64 (1,) on the device."""
        return Shared(kernels.relative_bias_last(self.w.data, end, S, self.bidirectional, self.max_distance), wanted=False)

    def backward(self) -> None:
        (shared,) = self.kept()
        if shared.wanted:
            kernels.relative_bias_backward(shared.grad, self.w.grad, self.bidirectional, self.max_distance)
