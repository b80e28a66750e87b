"""Dropout (Srivastava et al. 2014). Its mask is a function of a seed, so that the backward can compute it again."""

import math

import numpy as np

from ..common import Array

GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: its multiples are spread evenly


def mix(h: Array) -> Array:
    """A bijection of 32-bit words in which each input bit changes each output bit with probability about one half."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x21F0AAAD)
    h = h ^ (h >> np.uint32(15))
    h = h * np.uint32(0x735A2D97)
    return h ^ (h >> np.uint32(15))


def keep_mask(n_rows: int, n_columns: int, rate: float, seed: int) -> Array:
    """Which entries stay, each with probability 1 - rate.  -> bool (n_rows, n_columns).
    The two halves of the seed give row i a key_i = mix(mix(i + low) ^ high). Entry (i, j) stays if
    mix(key_i + j GOLDEN) >= rate 2^32. All arithmetic is modulo 2^32."""
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
    key = mix(mix(np.arange(n_rows, dtype=np.uint32) + low) ^ high)
    columns = np.arange(n_columns, dtype=np.uint32) * np.uint32(GOLDEN)
    return mix(key[:, None] + columns) >= np.uint32(min(rate * 2**32, 2**32 - 1))


def dropout_forward(x: Array, rate: float, seed: int) -> Array:
    """y = mask x, where the mask is 1 / (1 - rate) if an entry stays, else 0: gpt.md (22).  x (N, C) -> y (N, C).
    0 <= rate < 1; seed is a 64-bit integer."""
    keep = keep_mask(math.prod(x.shape[:-1]), x.shape[-1], rate, seed).reshape(x.shape)
    return np.where(keep, x * (1 / (1 - rate)), 0)


def dropout_backward(dy: Array, rate: float, seed: int) -> Array:
    """dx = mask dy: gpt.md (22).  dy (N, C) -> dx (N, C).  The map is linear and diagonal, so it is its own transpose."""
    return dropout_forward(dy, rate, seed)
