"""Normalisation layers. `add` normalises the sum of the residual stream and a branch, and gives the sum as well.

dropout: of that branch, in training. Whoever adds a branch drops it, since the op has both at hand: one pass over memory.
"""

from __future__ import annotations

from .. import kernels
from .dropout import Dropout
from .layer import Layer
from .parameter import Parameter, constant


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
        dropout = {} if r is None else self.dropout.options()
        s, y, mean, rstd = kernels.add_layernorm_forward(x, r, self._w(x), self.b and self.b.data, self.eps, **dropout)
        self.keep(s, mean, rstd, dropout)
        return s, y

    def add_backward(self, dy, ds=None):
        """dx, dr: the gradients of x and of r; ds is the gradient of s (None: s was not used)."""
        s, mean, rstd, dropout = self.kept()
        return kernels.add_layernorm_backward(
            dy, ds, s, self._w(s), mean, rstd, self.w and self.w.grad, self.b and self.b.grad, **dropout
        )


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
        dropout = {} if r is None else self.dropout.options()
        s, y, rstd = kernels.add_rmsnorm_forward(x, r, self.w.data, self.eps, **dropout)
        self.keep(s, rstd, dropout)
        return s, y

    def add_backward(self, dy, ds=None):
        """dx, dr: the gradients of x and of r; ds is the gradient of s (None: s was not used)."""
        s, rstd, dropout = self.kept()
        return kernels.add_rmsnorm_backward(dy, ds, s, self.w.data, rstd, self.w.grad, **dropout)
