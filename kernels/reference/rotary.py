"""Rotary position embedding (Su et al. 2021, section 3.2.2): pairs of numbers turned by angles that grow with the position.

The scalar product of two vectors so turned depends on how far their positions lie apart, and not on where they stand.
"""

from __future__ import annotations

import numpy as np


def pairs(x, neighbours):
    """The first and the second numbers of all pairs, views (..., D/2): numbers i and D/2 + i, or 2i and 2i + 1."""
    half = x.shape[-1] // 2
    return (x[..., ::2], x[..., 1::2]) if neighbours else (x[..., :half], x[..., half:])


def rotary_forward(x, positions, frequencies, scale=1.0, neighbours=False):
    """Turns pair i of the vector at position t by the angle a = positions_t frequencies_i, and multiplies it by `scale`:

    y1 = scale (x1 cos a - x2 sin a),  y2 = scale (x1 sin a + x2 cos a).

    x (B, T, H, D), positions (T,) or (B, T) ints, frequencies (D/2,); neighbours: which numbers make a pair (see `pairs`)
    -> y (B, T, H, D). The angles are computed in float64: at position
    100,000 float32 has two digits left for what lies behind the point.
    """
    angles = (positions[..., None] * frequencies.astype(np.float64))[..., None, :]  # (T, 1, D/2) or (B, T, 1, D/2)
    c, s = (scale * np.cos(angles)).astype(x.dtype), (scale * np.sin(angles)).astype(x.dtype)
    x1, x2 = pairs(x, neighbours)
    y = np.empty(x.shape, x.dtype)
    y1, y2 = pairs(y, neighbours)
    y1[...], y2[...] = x1 * c - x2 * s, x1 * s + x2 * c
    return y


def rotary_backward(dy, positions, frequencies, scale=1.0, neighbours=False):
    """dx (B, T, H, D): a rotation's transpose is the rotation back."""
    return rotary_forward(dy, positions, -frequencies, scale, neighbours)
