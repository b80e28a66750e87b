"""Dropout (Srivastava et al. 2014) whose mask is a function of a seed, computed again in the backward and never stored."""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: multiples of it are spread evenly


def mix(h):
    """A bijection of 32-bit words in which each input bit changes each output bit with probability about one half."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x21F0AAAD)
    h = h ^ (h >> np.uint32(15))
    h = h * np.uint32(0x735A2D97)
    return h ^ (h >> np.uint32(15))


def keep_mask(n_rows, n_columns, p, seed):
    """Which entries stay: bool (n_rows, n_columns), each True with probability 1 - p.

    One word for each row from the seed's two halves, then one for each column of it: entry (i, j) stays where
    mix(key_i + j GOLDEN) >= p 2^32, with key_i = mix(mix(i + low) ^ high). All arithmetic is modulo 2^32.
    """
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
    key = mix(mix(np.arange(n_rows, dtype=np.uint32) + low) ^ high)
    columns = np.arange(n_columns, dtype=np.uint32) * np.uint32(GOLDEN)
    return mix(key[:, None] + columns) >= np.uint32(min(p * 2**32, 2**32 - 1))


def dropout_forward(x, p, seed):
    """y = x / (1 - p) where the mask of (seed, p) keeps, else 0.  x (N, C), 0 <= p < 1, seed a 64-bit int -> y (N, C)."""
    keep = keep_mask(x.size // x.shape[-1], x.shape[-1], p, seed).reshape(x.shape)
    return np.where(keep, x * x.dtype.type(1 / (1 - p)), x.dtype.type(0))


def dropout_backward(dy, p, seed):
    """dx = dy / (1 - p) where the mask keeps, else 0: the map is linear and diagonal, so it is its own transpose."""
    return dropout_forward(dy, p, seed)
