"""Layers whose matrix is held in 16, 8 or 4 bits a number. They pass gradients on; the matrix itself is not trained."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..kernels.common import IGNORE
from .layer import Layer
from .parameter import Parameter

CHUNK = 1 << 22  # numbers in a chunk of logits


class Packed:
    """A matrix of the shape (F, C) as kernels.quantize gives it, `q` and `scales`, under the name of a Parameter."""

    def __init__(self, name: str, shape: tuple[int, ...], q: np.ndarray, scales: np.ndarray):
        self.name, self.shape, self.q, self.scales = name, shape, q, scales

    def arrays(self) -> dict[str, np.ndarray]:
        """Both by name, for a file."""
        return {f"{self.name}.q": self.q, f"{self.name}.scales": self.scales}


def packed_arrays(layer: Layer) -> dict[str, np.ndarray]:
    """The arrays of a layer's quantized matrix by name; none where it has no such matrix."""
    w = getattr(layer, "w", None)
    return w.arrays() if isinstance(w, Packed) else {}


class QuantizedLinear(Layer):
    """y = x w^T + b.  x (..., C) -> y (..., F)."""

    def __init__(self, w: Packed, b: Parameter | None):
        super().__init__()
        self.w, self.b = w, b

    def forward(self, x):
        self.keep(x)
        return kernels.quantized_linear_forward(x, self.w.q, self.w.scales, self.b and self.b.data)

    def backward(self, dy):
        (x,) = self.kept()
        return kernels.quantized_linear_backward(dy, x, self.w.q, self.w.scales, self.b and self.b.grad)


class QuantizedLinearActivation(QuantizedLinear):
    """y = f(x w^T + b), with an activation f of the kernels by its name."""

    def __init__(self, w: Packed, b: Parameter | None, activation: str):
        super().__init__(w, b)
        self.activation = activation

    def forward(self, x):
        z = super().forward(x)
        self.keep(z)
        return kernels.activation_forward(z, self.activation)

    def backward(self, dy):
        (z,) = self.kept()
        return super().backward(kernels.activation_backward(dy, z, self.activation))


class QuantizedEmbedding(Layer):
    """y = w[tokens], of the given dtype, or that of the mode.  tokens (B, T) ints -> y (B, T, C)."""

    def __init__(self, w: Packed, dtype: np.dtype):
        super().__init__()
        self.w, self.dtype = w, dtype

    def forward(self, tokens):
        dtype = self.mode.dtype or self.dtype
        return kernels.dequantize_rows(tokens, self.w.q, self.w.scales, self.w.shape[1], dtype)

    def backward(self, dy) -> None:
        pass


class QuantizedOutput(Layer):
    """logits = x w^T + b, and their loss, as Output's.  x (B, T, C) -> (B, T, V)."""

    def __init__(self, w: Packed, b: Parameter | None):
        super().__init__()
        self.w, self.b = w, b

    def chunks(self, n_rows):
        size = max(1, CHUNK // len(self.w.q))
        return [slice(i, min(i + size, n_rows)) for i in range(0, n_rows, size)]

    def forward(self, x):
        return kernels.quantized_linear_forward(x, self.w.q, self.w.scales, self.b and self.b.data)

    def loss(self, x, targets, label_smoothing=0.0):
        """Mean cross-entropy of the logits against targets (B, T), -100 ignored, by chunks of rows."""
        rows, t = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
        lse, total, counted = [], 0.0, int((t != IGNORE).sum()) or 1
        for part in self.chunks(len(t)):
            loss, lse_of_part = kernels.cross_entropy_forward(self(rows[part]), t[part], label_smoothing)
            total += loss * int((t[part] != IGNORE).sum()) / counted
            lse.append(lse_of_part)
        self.keep(x, t, lse, counted, label_smoothing)
        return total

    def backward(self, dloss=1.0):
        """The gradient dx (B, T, C) of dloss * loss."""
        x, t, lse, counted, label_smoothing = self.kept()
        rows, dx = x.reshape(-1, x.shape[-1]), kernels.empty(x, (len(t), x.shape[-1]))
        for part, lse_of_part in zip(self.chunks(len(t)), lse):
            share, logits = dloss * int((t[part] != IGNORE).sum()) / counted, self(rows[part])
            dlogits = kernels.cross_entropy_backward(share, logits, t[part], lse_of_part, label_smoothing)
            b_grad = self.b and self.b.grad
            dx[part] = kernels.quantized_linear_backward(dlogits, rows[part], self.w.q, self.w.scales, b_grad)
        return dx.reshape(x.shape)
