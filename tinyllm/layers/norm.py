"""Normalisation layers. `add` normalises the sum of the residual stream and a branch, and gives the sum as well."""

from __future__ import annotations

from .. import kernels
from ..parameter import Parameter, constant
from .layer import Layer


class LayerNorm(Layer):
    """y = (x - mean) / std * w + b over the last axis.  x (..., C) -> y (..., C).  Not affine: without w and b."""

    def __init__(self, C: int, bias: bool = True, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.w = Parameter((C,), constant(1)) if affine else None
        self.b = Parameter((C,), constant(0)) if bias and affine else None
        self.eps = eps

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
        """s = x + r (r None: x), y = norm(s) -> s, y."""
        s, y, mean, rstd = kernels.add_layernorm_forward(x, r, self._w(x), self.b and self.b.data, self.eps)
        self.keep(s, mean, rstd)
        return s, y

    def add_backward(self, dy, ds=None):
        """The gradient of x and of r, which are the same; ds is the gradient of s (None: s was not used)."""
        s, mean, rstd = self.kept()
        return kernels.add_layernorm_backward(
            dy, ds, s, self._w(s), mean, rstd, self.w and self.w.grad, self.b and self.b.grad
        )


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

    def add(self, x, r):
        """s = x + r (r None: x), y = norm(s) -> s, y."""
        s, y, rstd = kernels.add_rmsnorm_forward(x, r, self.w.data, self.eps)
        self.keep(s, rstd)
        return s, y

    def add_backward(self, dy, ds=None):
        """The gradient of x and of r, which are the same; ds is the gradient of s (None: s was not used)."""
        s, rstd = self.kept()
        return kernels.add_rmsnorm_backward(dy, ds, s, self.w.data, rstd, self.w.grad)
