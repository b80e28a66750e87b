"""Relative position biases as a layer: one for all blocks of a stack."""

from __future__ import annotations

from .. import kernels
from .attention import Shared
from .layer import Layer
from .parameter import Parameter, normal


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
