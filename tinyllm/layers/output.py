"""The output projection onto the vocabulary, and the loss that it is fused with."""

from __future__ import annotations

from .. import kernels
from .layer import Layer
from .parameter import Parameter, constant, normal


class Output(Layer):
    """logits = x w^T + b.  x (B, T, C) -> (B, T, V).  `tied`: the embedding's weight, used as w (Press & Wolf 2017)."""

    def __init__(self, C: int, V: int, tied: Parameter | None = None, bias: bool = False, std: float = 0.02):
        super().__init__()
        self.w = tied or Parameter((V, C), normal(std))
        self.b = Parameter((V,), constant(0)) if bias else None

    def forward(self, x):
        return kernels.linear_forward(x, self.w.data, self.b and self.b.data)

    def loss(self, x, targets, label_smoothing=0.0):
        """Mean cross-entropy of the logits against targets (B, T), -100 ignored; (N, V) is never stored whole."""
        bias = self.b and self.b.data
        loss, lse, last = kernels.linear_cross_entropy_forward(x, self.w.data, bias, targets, label_smoothing)
        self.keep(x, targets, lse, last, label_smoothing)
        return loss

    def backward(self, dloss=1.0):
        """The gradient dx (B, T, C) of dloss * loss."""
        x, targets, lse, last, label_smoothing = self.kept()
        bias, bias_grad = (self.b and self.b.data), (self.b and self.b.grad)
        return kernels.linear_cross_entropy_backward(
            dloss, x, self.w.data, bias, targets, lse, last, self.w.grad, bias_grad, label_smoothing
        )
