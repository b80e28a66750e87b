"""Rotary position embedding (Su et al. 2021, section 3.2.2): pairs of numbers, turned by angles that grow with the position.
The scalar product of two turned vectors depends on the distance between their positions, not on the positions themselves."""

import numpy as np

from ..common import Array


def pairs(x: Array, neighbours: bool) -> tuple[Array, Array]:
    """The first and the second numbers of all pairs, views (..., R/2): numbers i and R/2 + i, or 2i and 2i + 1."""
    half = x.shape[-1] // 2
    return (x[..., ::2], x[..., 1::2]) if neighbours else (x[..., :half], x[..., half:])


def rotary_forward(x: Array, positions: Array, frequencies: Array, scale: float = 1.0, neighbours: bool = False) -> Array:
    """y1 = scale (x1 cos a - x2 sin a),  y2 = scale (x1 sin a + x2 cos a): llama.md (5).
    x (B, T, H, D), positions (T,) or (B, T) ints, frequencies (R/2,) -> y (B, T, H, D).
    x1 and x2 are a pair of the first R numbers (see `pairs`), and a is the position times the frequency of the pair. The
    other numbers of a head, if R < D, are copied. Angles are float64: at position 100,000 float32 has two digits left after
    the decimal point."""
    R = 2 * len(frequencies)
    a = (positions[..., None] * frequencies.astype(np.float64))[..., None, :]  # (T, 1, R/2) or (B, T, 1, R/2)
    cos, sin = (scale * np.cos(a)).astype(x.dtype), (scale * np.sin(a)).astype(x.dtype)
    x1, x2 = pairs(x[..., :R], neighbours)
    y = np.copy(x)
    y1, y2 = pairs(y[..., :R], neighbours)
    y1[...] = x1 * cos - x2 * sin
    y2[...] = x1 * sin + x2 * cos
    return y


def rotary_backward(dy: Array, positions: Array, frequencies: Array, scale: float = 1.0, neighbours: bool = False) -> Array:
    """dx is dy turned by -a, because the transpose of a rotation is the rotation back: llama.md (7).
    dy (B, T, H, D), positions (T,) or (B, T) ints, frequencies (R/2,) -> dx (B, T, H, D)."""
    return rotary_forward(dy, positions, -frequencies, scale, neighbours)
