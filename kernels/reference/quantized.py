"""Weights of a few bits, for inference: each group of 32 numbers in a row shares one scale, w = scale q.

16 bits: q is the number rounded to bfloat16, held as uint16, and its scale is 1. int8: q in [-127, 127], a byte each. int4:
q in [-8, 7], two to a byte: number i of a group in the lower half of byte i, with 8 added, number i + 16 in the upper half.
Scales are bfloat16, the upper 16 bits of a float32, held as uint16, as NumPy lacks that type. Rows are filled up with zeros
to whole groups. So a weight takes 16.5, 8.5 or 4.5 bits.
"""

from __future__ import annotations

import numpy as np

from .bfloat16 import from_bfloat16, product, to_bfloat16

GROUP = 32
AT_ONCE = 1 << 20  # numbers quantized at a time: trying scales takes memory
TRIED = np.linspace(0.7, 1.15, 19)  # of the scale that would just cover a group: the best may cut its extremes


def quantize(w, bits=8):
    """The nearest numbers of so many bits.

    w (F, C) float -> q uint16 (F, 32 n), int8 (F, 32 n) or uint8 (F, 16 n) for 16, 8 or 4 bits, scales uint16 (F, n).
    """
    if bits not in (16, 8, 4):
        raise ValueError(f"weights are quantized to 16, 8 or 4 bits, not to {bits}")
    rows = max(1, AT_ONCE // max(w.shape[1], 1))
    parts = [quantize_rows(w[i : i + rows], bits) for i in range(0, max(len(w), 1), rows)]
    q, scales = (np.concatenate(arrays) for arrays in zip(*parts))
    return q, scales


def quantize_rows(w, bits):
    F, C = w.shape
    groups = np.zeros((F, -(-C // GROUP) * GROUP), np.float32)
    groups[:, :C] = w
    groups = groups.reshape(F, -1, GROUP)  # (F, n, 32)
    if bits == 16:
        return to_bfloat16(groups).reshape(F, -1), to_bfloat16(np.ones(groups.shape[:2], np.float32))
    if bits == 8:
        scales = to_bfloat16(np.abs(groups).max(-1) / 127)
        return np.rint(groups / divisor(scales)).clip(-127, 127).astype(np.int8).reshape(F, -1), scales
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)[..., 0]
    scales, least = np.zeros(extreme.shape, np.uint16), np.full(extreme.shape, np.inf, np.float32)
    for part in TRIED:
        tried = to_bfloat16(extreme * np.float32(part / -8))  # signed so that the extreme is at -8: 7 is a step less
        error = np.square(groups - from_bfloat16(tried)[..., None] * nearest4(groups, tried)).sum(-1)
        scales, least = np.where(error < least, tried, scales), np.minimum(error, least)
    q = (nearest4(groups, scales) + 8).astype(np.uint8)
    return (q[..., :16] | q[..., 16:] << 4).reshape(F, -1), scales


def nearest4(groups, scales):
    return np.rint(groups / divisor(scales)).clip(-8, 7)


def divisor(scales):
    """Scales (F, n) to divide by, (F, n, 1): 1 for groups of zeros."""
    scales = from_bfloat16(scales)[..., None]
    return np.where(scales == 0, np.float32(1), scales)


def dequantize(q, scales, C, dtype=np.float32):
    """w (F, C) = scale q."""
    n = scales.shape[-1]
    if q.dtype == np.uint16:
        numbers = from_bfloat16(q).reshape(*q.shape[:-1], n, GROUP).astype(dtype)
    elif q.dtype == np.int8:
        numbers = q.reshape(*q.shape[:-1], n, GROUP).astype(dtype)
    else:
        halves = q.reshape(*q.shape[:-1], n, GROUP // 2)
        numbers = np.concatenate([halves & 15, halves >> 4], -1).astype(dtype) - 8
    w = numbers * from_bfloat16(scales)[..., None].astype(dtype)
    return w.reshape(*q.shape[:-1], n * GROUP)[..., :C]


def dequantize_rows(index, q, scales, C, dtype=np.float32):
    """Rows of dequantize(...): w[index], an embedding.  index (B, T) ints -> (B, T, C)."""
    return dequantize(q[index], scales[index], C, dtype)


def quantized_linear_forward(x, q, scales, b=None):
    """y = x w^T + b, w being quantized.  x (N, C), q and scales as `quantize` gives them, b (F,) or None -> y (N, F)."""
    y = product(x, dequantize(q, scales, x.shape[-1], x.dtype).T)
    return y if b is None else y + b


def quantized_linear_backward(dy, x, q, scales, db=None):
    """dx (N, C) = dy w; adds into db (F,). The weight itself is not trained."""
    if db is not None:
        db += dy.reshape(-1, dy.shape[-1]).sum(0)
    return product(dy, dequantize(q, scales, x.shape[-1], dy.dtype))
