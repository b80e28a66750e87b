"""Weights of a few bits: widened on the way (quantized.cu), or before an ordinary product where there are many rows.

Quantizing itself is done once, on the host.
"""

from __future__ import annotations

import numpy as np

from ..common import by_blocks, check_packed
from ..reference import quantized as reference
from .arrays import WARP, checked, lies_whole, plain, row_layout, rows, vector
from .blas import gemm
from .device import to_device, to_host
from .linear import add_bias, add_gradients
from .memory import empty
from .module import Kernels

FEW = 8  # rows: up to so many are multiplied by the packed weight
ROWS, FEATURES = (1, 2, 4, FEW), 2  # that there are kernels for; of a warp, as in quantized.cu
KERNELS = {
    bits: Kernels("quantized.cu", f"widen<T, {bits}>", *(f"quantized_product<T, {bits}, {rows}>" for rows in ROWS))
    for bits in (16, 8, 4)
}


def packs(q):
    """q, or a copy, as kernels read it: by packs."""
    q = plain(q)
    return q if lies_whole(q) else q.copy()


def bits_of(q):
    return {np.uint16: 16, np.int8: 8, np.uint8: 4}[q.dtype.type]


def packed_product(x, q, scales, b, y):
    """y = x w^T + b of up to FEW rows, by the packed weight, into y (N, F)."""
    (n, F), bits, groups = y.shape, bits_of(q), scales.shape[1]
    name = f"quantized_product<T, {bits}, {next(rows for rows in ROWS if n <= rows)}>"
    arrays = filled_up(x, groups * reference.GROUP), packs(q), plain(scales), b, y
    KERNELS[bits].launch(name, x, -(-F // (4 * FEATURES)), (WARP, 4), *arrays, n, F, groups)


def filled_up(x, columns):
    """x (N, C), or a copy (N, columns), zeros behind C, as kernels read it: by packs."""
    if x.shape[1] == columns and lies_whole(x):
        return x
    filled, C = empty(x, (len(x), columns)), x.shape[1]
    filled[:, :C], filled[:, C:] = x, 0
    return filled


def quantize(w, bits=8):
    """The nearest numbers of 16, 8 or 4 bits, as the reference packs them."""
    codes, scales = by_blocks(reference.quantize, to_host(w), bits)
    return to_device(codes, w), to_device(scales, w)


def dequantize(codes, scales, C, dtype=np.float32):
    """w (F, C) = scale codes."""
    w = empty(codes, (*codes.shape[:-1], C), dtype)
    w_rows = rows(w)
    parts = packs(codes), plain(scales), w_rows, *w_rows.shape, scales.shape[-1]
    KERNELS[bits_of(codes)].launch(f"widen<T, {bits_of(codes)}>", w, *row_layout(w_rows), *parts)
    return w


def dequantize_rows(index, codes, scales, C, dtype=np.float32):
    """Rows of dequantize(...): w[index], an embedding.  index (B, T) ints -> (B, T, C)."""
    check_packed(codes, scales, C)
    index = checked(index, len(codes), "tokens").reshape(index.shape)
    return dequantize(codes[index], scales[index], C, dtype)


def quantized_linear_forward(x, codes, scales, b=None):
    """y = x w^T + b, w being quantized.  x (N, C), codes and scales as `quantize` gives them, b (F,) or None -> y (N, F)."""
    check_packed(codes, scales, x.shape[-1])
    x_rows, y = rows(x), empty(x, (*x.shape[:-1], len(codes)))
    vector(b, y, "b")
    if len(x_rows) <= FEW:
        packed_product(x_rows, codes, scales, vector(b, y, "b"), rows(y))
    else:
        gemm(x_rows, dequantize(codes, scales, x.shape[-1], x.dtype).T, rows(y))
        add_bias(rows(y), b)
    return y


def quantized_linear_backward(dy, x, codes, scales, db=None):
    """dx (N, C) = dy w; adds into db (F,). The weight itself is not trained."""
    check_packed(codes, scales, x.shape[-1])
    if dy.shape != (*x.shape[:-1], len(codes)) or dy.dtype != x.dtype:
        raise ValueError(f"dy is {dy.dtype} {dy.shape}; it must be {x.dtype} {(*x.shape[:-1], len(codes))}")
    dx = empty(x, x.shape)
    gemm(rows(dy), dequantize(codes, scales, x.shape[-1], dy.dtype), rows(dx))
    add_gradients(rows(dy), rows(x), None, db)
    return dx
