"""Normalisation layers. `add` normalises the sum of the residual stream and a branch, and gives the sum as well.

dropout: of that branch, in training. Whoever adds a branch drops it, in a pass before it.
"""

from __future__ import annotations

from .. import kernels
from ..parameter import Parameter, constant
from .dropout import Dropout
from .layer import Layer


class LayerNorm(Layer):
    """y = (x - mean) / std * w + b over the last axis.  x (..., C) -> y (..., C).  Not affine: without w and b."""

    def __init__(self, C: int, bias: bool = True, eps: float = 1e-5, affine: bool = True, dropout: float = 0.0):
        super().__init__()
        self.w = Parameter((C,), constant(1)) if affine else None
        self.b = Parameter((C,), constant(0)) if bias and affine else None
        self.eps, self.dropout = eps, Dropout(dropout)

    def _w(self, x):
        """The weight; where there is none, ones."""
        return kernels.zeros(x, x.shape[-1:]) + x.dtype.type(1) if self.w is None else self.w.data

    def forward(self, x):
        y, mean, rstd = kernels.layernorm_forward(x, self._w(x), self.b and self.b.data, self.eps)
        self.keep(x, mean, rstd)
        return y

    def backward(self, dy):
        x, mean, rstd = self.kept()
        return kernels.layernorm_backward(dy, x, self._w(x), mean, rstd, self.w and self.w.grad, self.b and self.b.grad)

    def add(self, x, r):
        """s = x + drop(r) (r None: x), y = norm(s) -> s, y."""
        w, b = self._w(x), self.b and self.b.data
        if r is None:
            s, (y, mean, rstd) = x, kernels.layernorm_forward(x, w, b, self.eps)
        else:
            s, y, mean, rstd = kernels.add_layernorm_forward(x, self.dropout(r), w, b, self.eps)
        self.keep(s, mean, rstd, r is not None)
        return s, y

    def add_backward(self, dy, ds=None):
        """dx, dr: the gradients of x and of r; ds is the gradient of s (None: s was not used)."""
        s, mean, rstd, branch = self.kept()
        w_grad, b_grad = (self.w and self.w.grad), (self.b and self.b.grad)
        dx = kernels.add_layernorm_backward(dy, ds, s, self._w(s), mean, rstd, w_grad, b_grad)
        return dx, self.dropout.backward(dx) if branch else dx


class RMSNorm(Layer):
    """y = x / rms(x) * w over the last axis.  x (..., C) -> y (..., C)."""

    def __init__(self, C: int, eps: float = 1e-6, dropout: float = 0.0):
        super().__init__()
        self.w = Parameter((C,), constant(1))
        self.eps, self.dropout = eps, Dropout(dropout)

    def forward(self, x):
        y, rstd = kernels.rmsnorm_forward(x, self.w.data, self.eps)
        self.keep(x, rstd)
        return y

    def backward(self, dy):
        x, rstd = self.kept()
        return kernels.rmsnorm_backward(dy, x, self.w.data, rstd, self.w.grad)

    def add(self, x, r):
        """s = x + drop(r) (r None: x), y = norm(s) -> s, y."""
        if r is None:
            s, (y, rstd) = x, kernels.rmsnorm_forward(x, self.w.data, self.eps)
        else:
            s, y, rstd = kernels.add_rmsnorm_forward(x, self.dropout(r), self.w.data, self.eps)
        self.keep(s, rstd, r is not None)
        return s, y

    def add_backward(self, dy, ds=None):
        """dx, dr: the gradients of x and of r; ds is the gradient of s (None: s was not used)."""
        s, rstd, branch = self.kept()
        dx = kernels.add_rmsnorm_backward(dy, ds, s, self.w.data, rstd, self.w.grad)
        return dx, self.dropout.backward(dx) if branch else dx
