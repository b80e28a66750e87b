"""Weights of a few bits: widened on the way (quantized.cu), or before an ordinary product where there are many rows.

Quantizing itself is done once, on the host.
"""

from __future__ import annotations

import numpy as np

from ..reference import quantized as reference
from .arrays import WARP, lies_whole, plain, row_layout, rows, vector
from .blas import gemm
from .device import to_device, to_host
from .linear import KERNELS as LINEAR
from .linear import add_gradients
from .memory import empty
from .module import Kernels

FEW = 8  # rows: up to so many are multiplied by the packed weight
ROWS, FEATURES = (1, 2, 4, FEW), 2  # that there are kernels for; of a warp, as in quantized.cu
KERNELS = {
    bits: Kernels("quantized.cu", f"widen<T, {bits}>", *(f"quantized_product<T, {bits}, {rows}>" for rows in ROWS))
    for bits in (16, 8, 4)
}


def quantize(w, bits=8):
    """The nearest numbers of 16, 8 or 4 bits, as the reference packs them."""
    q, scales = reference.quantize(to_host(w), bits)
    return to_device(q, w), to_device(scales, w)


def dequantize(q, scales, C, dtype=np.float32):
    """w (F, C) = scale q."""
    w = empty(q, (*q.shape[:-1], C), dtype)
    w_rows = rows(w)
    parts = packs(q), plain(scales), w_rows, *w_rows.shape, scales.shape[-1]
    KERNELS[bits_of(q)].launch(f"widen<T, {bits_of(q)}>", w, *row_layout(w_rows), *parts)
    return w


def packs(q):
    """q, or a copy, as kernels read it: by packs."""
    q = plain(q)
    return q if lies_whole(q) else q.copy()


def bits_of(q):
    return {np.uint16: 16, np.int8: 8, np.uint8: 4}[q.dtype.type]


def quantized_linear_forward(x, q, scales, b=None):
    """y = x w^T + b, w being quantized.  x (N, C), q and scales as `quantize` gives them, b (F,) or None -> y (N, F)."""
    x_rows, y = rows(x), empty(x, (*x.shape[:-1], len(q)))
    y_rows = rows(y)
    (n, C), F = x_rows.shape, len(q)
    if n <= FEW:
        bits, grid = bits_of(q), -(-F // (4 * FEATURES))
        name = f"quantized_product<T, {bits}, {next(rows for rows in ROWS if n <= rows)}>"
        arrays = x_rows, packs(q), plain(scales), y_rows
        KERNELS[bits].launch(name, x, grid, (WARP, 4), *arrays, n, F, C, scales.shape[1])
    else:
        gemm(x_rows, dequantize(q, scales, C, x.dtype).T, y_rows)
    if b is not None:
        LINEAR.launch("add_bias<T>", y, *row_layout(y_rows), y_rows, vector(b, y, "b"), *y_rows.shape)
    return y


def quantized_linear_backward(dy, x, q, scales, db=None):
    """dx (N, C) = dy w; adds into db (F,). The weight itself is not trained."""
    dx = empty(x, x.shape)
    gemm(rows(dy), dequantize(q, scales, x.shape[-1], dy.dtype), rows(dx))
    add_gradients(rows(dy), rows(x), None, db)
    return dx
