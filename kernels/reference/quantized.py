"""Weights of a few bits, for inference. Each group of 32 numbers in a row shares one scale: w = scale codes.

16 bits: a code is the upper half of the number's float32, as uint16, and its scale is 1. 8 bits: codes in [-127, 127], one
int8 each. 4 bits: codes in [-8, 7], with 8 added, two to a byte: code i of a group in the lower half of byte i, code i + 16
in the upper half. A scale is the upper half of a float32, too. Rows are filled up with zeros to whole groups.
"""

from typing import Any

import numpy as np

from ..common import Array
from ..float_bits import from_upper_half, upper_half
from .linear import rows

GROUP = 32
TRIED = np.linspace(0.7, 1.15, 19)  # times the scale that just covers a group: the best may cut its extremes


def divisor(scales: Array) -> Array:
    """The scales to divide by, 1 in place of 0.  (F, n) -> (F, n, 1)."""
    scale = from_upper_half(scales)[..., None]
    return np.where(scale == 0, 1, scale)


def codes8(groups: Array) -> tuple[Array, Array]:
    """The largest number of a group gets the code 127 or -127.  groups (F, n, 32) -> codes (F, n, 32), scales (F, n)."""
    scales = upper_half(np.abs(groups).max(-1) / 127)
    return np.rint(groups / divisor(scales)).clip(-127, 127).astype(np.int8), scales


def codes4(groups: Array) -> tuple[Array, Array]:
    """The scale with the least squared error of those tried.  groups (F, n, 32) -> codes (F, n, 16), scales (F, n)."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)[..., 0]  # (F, n)
    codes, scales, least = np.zeros_like(groups), np.zeros(extreme.shape, np.uint16), np.full(extreme.shape, np.inf)
    for factor in TRIED:
        tried = upper_half(extreme * np.float32(factor / -8))  # the extreme is near -8, because 7 is one step less
        nearest = np.rint(groups / divisor(tried)).clip(-8, 7)
        error = np.square(groups - from_upper_half(tried)[..., None] * nearest).sum(-1)
        better = error < least
        codes[better], scales[better], least[better] = nearest[better], tried[better], error[better]
    codes = (codes + 8).astype(np.uint8)
    return codes[..., :16] | codes[..., 16:] << 4, scales


def quantize(w: Array, bits: int = 8) -> tuple[Array, Array]:
    """codes = round(w / scale), of 16, 8 or 4 bits: llama.md (20).  w (F, C) -> codes (F, n_codes), scales (F, n_groups)."""
    if bits not in (16, 8, 4):
        raise ValueError(f"weights are quantized to 16, 8 or 4 bits, not to {bits}")
    (F, C), n = w.shape, -(-w.shape[1] // GROUP)
    filled = np.zeros((F, n * GROUP), np.float32)
    filled[:, :C] = w
    if bits == 16:
        return upper_half(filled), upper_half(np.ones((F, n), np.float32))
    codes, scales = (codes8 if bits == 8 else codes4)(filled.reshape(F, n, GROUP))
    return codes.reshape(F, n * codes.shape[-1]), scales


def dequantize(codes: Array, scales: Array, C: int, dtype: Any = np.float32) -> Array:
    """w = scale codes: llama.md (20).  codes (N, n_codes), scales (N, n_groups) -> w (N, C)."""
    groups = codes.reshape(*scales.shape, 16 if codes.dtype == np.uint8 else GROUP)  # 16 bytes hold two codes each
    if codes.dtype == np.uint16:
        groups = from_upper_half(groups)
    elif codes.dtype == np.uint8:
        groups = np.concatenate([groups & 15, groups >> 4], -1).astype(np.int8) - 8
    w = from_upper_half(scales)[..., None].astype(dtype) * groups.astype(dtype)
    return w.reshape(*scales.shape[:-1], scales.shape[-1] * GROUP)[..., :C]


def dequantize_rows(index: Array, codes: Array, scales: Array, C: int, dtype: Any = np.float32) -> Array:
    """y = w[index], an embedding: llama.md (20).  index (N,) ints, codes (V, n_codes), scales (V, n_groups) -> y (N, C)."""
    return dequantize(codes[index], scales[index], C, dtype)


def quantized_linear_forward(x: Array, codes: Array, scales: Array, b: Array | None = None) -> Array:
    """y = x w^T + b: llama.md (21).  x (N, C), codes (F, n_codes), scales (F, n_groups), b (F,) or None -> y (N, F)."""
    y = x @ dequantize(codes, scales, x.shape[-1], x.dtype).T
    return y if b is None else y + b


def quantized_linear_backward(dy: Array, x: Array, codes: Array, scales: Array, db: Array | None = None) -> Array:
    """dx = dy w,  db += sum_N dy: llama.md (21).  w itself is not trained.
    dy (N, F), x (N, C), codes (F, n_codes), scales (F, n_groups), db (F,) or None -> dx (N, C)."""
    if db is not None:
        db += rows(dy).sum(0)
    return dy @ dequantize(codes, scales, x.shape[-1], dy.dtype)
