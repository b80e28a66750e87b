"""Low-rank adaptation (Hu et al. 2021): a linear map stays as it is, and learns a second one of low rank beside it."""

from __future__ import annotations

from typing import Any

from .. import kernels
from .elementary import Dropout, Linear
from .layer import Layer
from .parameter import Parameter, constant, normal
from .quantized import QuantizedLinear


class Adapter(Layer):
    """y = scale b a dropout(x), a product of rank r.  x (..., C) -> y (..., F).  a (r, C), b (F, r), zero at first.

    With u = scale a dropout(x) and y = b u:  db = dy u^T,  du = b^T dy,  and scale du goes back through a.
    """

    def __init__(self, C: int, F: int, r: int, scale: float, dropout: float = 0.0):
        super().__init__()
        self.a = Parameter((r, C), normal((3 * C) ** -0.5))
        self.b = Parameter((F, r), constant(0))
        self.scale = scale
        self.dropout = Dropout(dropout)

    def forward(self, x):
        x = self.dropout(x)
        u = kernels.linear_forward(x, self.a.data)  # (..., r)
        u *= u.dtype.type(self.scale)
        self.keep(x, u)
        return kernels.linear_forward(u, self.b.data)

    def backward(self, dy):
        x, u = self.kept()
        du = kernels.linear_backward(dy, u, self.b.data, self.b.grad)
        du *= du.dtype.type(self.scale)
        return self.dropout.backward(kernels.linear_backward(du, x, self.a.data, self.a.grad))

    def product(self):
        """scale b a, (F, C): what the adapter adds to the weight of the map beside it."""
        return self.b.data @ self.a.data * self.b.data.dtype.type(self.scale)


class LoRA(Layer):
    """y = f(linear(x) + adapters(x)), each adapter on some rows of the weight: q, k and v packed in one map have one each.

    rows: the (first, last) row of each adapter; f: the activation that the linear map has behind it, if any.
    """

    def __init__(self, linear: Linear | QuantizedLinear, rows: list[tuple[int, int]], adapters: list[Adapter]):
        super().__init__()
        self.linear, self.rows, self.adapters = linear, rows, adapters
        self.map: Any = Linear if isinstance(linear, Linear) else QuantizedLinear  # what it is without an activation
        self.activation = getattr(linear, "activation", None)

    def named_parameters(self, prefix=""):
        yield from self.linear.named_parameters(prefix)  # under the same names as without adapters
        for i, adapter in enumerate(self.adapters):
            yield from adapter.named_parameters(f"{prefix}adapters.{i}.")

    def forward(self, x):
        y = self.map.forward(self.linear, x)
        for (first, last), adapter in zip(self.rows, self.adapters):
            y[..., first:last] += adapter(x)
        if self.activation is None:
            return y
        self.keep(y)
        return kernels.activation_forward(y, self.activation)

    def backward(self, dy):
        if self.activation is not None:
            (y,) = self.kept()
            dy = kernels.activation_backward(dy, y, self.activation)
        dx = self.map.backward(self.linear, dy)
        for (first, last), adapter in zip(self.rows, self.adapters):
            dx += adapter.backward(dy[..., first:last])
        return dx

    def merge(self) -> None:
        """Adds the adapters to the linear map's own weight, which is not quantized."""
        assert isinstance(self.linear, Linear)
        for (first, last), adapter in zip(self.rows, self.adapters):
            self.linear.w.data[first:last] += adapter.product()
