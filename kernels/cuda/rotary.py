"""Rotary position embedding, of arrays in any layout (rotary.cu)."""

from __future__ import annotations

import numpy as np

from ..common import check_rotary
from .arrays import BLOCK, PACK, WARP, lies_whole, plain
from .device import uploaded
from .memory import empty
from .module import Kernels

KERNELS = Kernels("rotary.cu", "rotary<T, false>", "rotary<T, true>")


def turned(x, positions, frequencies, scale, neighbours, sign):
    check_rotary(x, positions, frequencies)
    (B, T, H, D), pairs = x.shape, frequencies.size
    y = empty(x, x.shape)
    everywhere = uploaded(positions.astype("int64", copy=False).reshape(-1, T) if T else positions, x)
    strides = (np.int64(stride // x.itemsize) for a in (x, y) for stride in a.strides)
    angles = plain(everywhere), uploaded(plain(frequencies.astype("float64")), x), sign, float(scale)
    of_next = np.int64(0 if len(everywhere) == 1 else T)
    whole = all(a.strides[3] == a.itemsize and lies_whole(a, pairs * a.itemsize, *a.strides[:3]) for a in (x, y))
    items = H * pairs // (PACK // x.itemsize if whole else 1)
    block = max(WARP, min(BLOCK, -(-items // WARP) * WARP))
    shared = 2 * pairs * (8 if x.dtype == np.float64 else 4)  # bytes of a cosine and a sine for each pair
    name = f"rotary<T, {'true' if neighbours else 'false'}>"
    KERNELS.launch(name, x, B * T, block, x, *angles, y, *strides, of_next, T, H, pairs, whole, shared=shared)
    if 2 * pairs < D:
        y[..., 2 * pairs :] = x[..., 2 * pairs :]
    return y


def rotary_forward(x, positions, frequencies, scale=1.0, neighbours=False):
    """Turns pair i of the vector at position t by the angle a = positions_t frequencies_i, and multiplies it by `scale`.

    x (B, T, H, D), positions (T,) or (B, T) ints, frequencies (n,); neighbours: pairs of numbers 2i and 2i + 1, else of i
    and n + i -> y (B, T, H, D). The first 2n numbers of a head turn, the others are copied. Angles are in float64.
    """
    return turned(x, positions, frequencies, scale, neighbours, 1.0)


def rotary_backward(dy, positions, frequencies, scale=1.0, neighbours=False):
    """dx (B, T, H, D): a rotation's transpose is the rotation back."""
    return turned(dy, positions, frequencies, scale, neighbours, -1.0)
