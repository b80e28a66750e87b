"""Linear maps, alone and with an activation behind them."""

from __future__ import annotations

from .. import kernels
from .layer import Layer
from .parameter import Parameter, constant, normal


class Linear(Layer):
    """y = x w^T + b.  x (..., C) -> y (..., F).  w (F, C), b (F,) where bias is set."""

    def __init__(self, C: int, F: int, bias: bool = True, std: float = 0.02):
        super().__init__()
        self.w = Parameter((F, C), normal(std))
        self.b = Parameter((F,), constant(0)) if bias else None

    def forward(self, x):
        self.keep(x)
        return kernels.linear_forward(x, self.w.data, self.b and self.b.data)

    def backward(self, dy):
        (x,) = self.kept()
        return kernels.linear_backward(dy, x, self.w.data, self.w.grad, self.b and self.b.grad)


class LinearActivation(Linear):
    """y = f(x w^T + b), with an activation f of the kernels by its name."""

    def __init__(self, C: int, F: int, activation: str, bias: bool = True, std: float = 0.02):
        super().__init__(C, F, bias, std)
        self.activation = activation

    def forward(self, x):
        y, z = kernels.linear_activation_forward(x, self.w.data, self.b and self.b.data, self.activation)
        self.keep(x, z)
        return y

    def backward(self, dy):
        x, z = self.kept()
        b_grad = self.b and self.b.grad
        return kernels.linear_activation_backward(dy, x, self.w.data, z, self.w.grad, b_grad, self.activation)
