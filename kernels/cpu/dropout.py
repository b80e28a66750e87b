"""Dropout: the reference's mask, bit for bit, computed on the way, eight or sixteen words at a time."""

from __future__ import annotations

import numpy as np

from ..reference.dropout import GOLDEN
from .arrays import divided, parts_of, rows
from .jit import jit
from .memory import empty

GOLDEN_WORD = np.uint32(GOLDEN)
HALF, ODD = np.uint32(16), np.uint32(15)
FACTORS = np.uint32(0x21F0AAAD), np.uint32(0x735A2D97)


@jit(forceinline=True)
def mix(h):
    """The reference's mix. Each step is cut back to 32 bits: Numba computes with 64."""
    h = np.uint32(h ^ (h >> HALF))
    h = np.uint32(h * FACTORS[0])
    h = np.uint32(h ^ (h >> ODD))
    h = np.uint32(h * FACTORS[1])
    return np.uint32(h ^ (h >> ODD))


@jit(forceinline=True)
def row_key(i, low, high):
    return mix(np.uint32(mix(np.uint32(np.uint32(i) + low)) ^ high))


@jit
def dropout_row(i, x, low, high, threshold, factor, y):
    """Row i of an array; the mask's numbers are mask_of's."""
    key, threshold = row_key(i, np.uint32(low), np.uint32(high)), np.uint32(threshold)
    factor, zero = x.dtype.type(factor), x.dtype.type(0)
    for j in range(y.size):
        h = mix(np.uint32(key + np.uint32(np.uint32(j) * GOLDEN_WORD)))
        y[j] = x[j] * factor if h >= threshold else zero


@divided
def dropout_rows(start, stop, x, low, high, threshold, factor, y):
    for i in range(start, stop):
        dropout_row(i, x[i], low, high, threshold, factor, y[i])


def mask_of(rate, seed):
    """low, high, threshold of the reference's mask, and the factor of what stays: 1 where nothing is dropped."""
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of dropout is {rate}; it must be in [0, 1)")
    return seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, int(min(rate * 2**32, 2**32 - 1)), 1 / (1 - rate)


def dropout_forward(x, rate, seed):
    y, x = empty(x, x.shape), rows(x)
    dropout_rows(len(x), parts_of(x.size), x, *mask_of(rate, seed), rows(y))
    return y


def dropout_backward(dy, rate, seed):
    return dropout_forward(dy, rate, seed)
