"""Rotary position embedding: the sines of one position serve all its heads, in all sequences.

They are computed again in each call, in float64. For the heads of one sequence that costs less than the product that made
them, and a table of all positions would be one more array to keep and to read.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ..common import check_rotary
from .arrays import NOTHING, parts_of, share
from .attention_rows import numbers, place, readable
from .jit import jit, parallel_jit
from .memory import empty


@jit(forceinline=True)
def sines(position, frequencies, scale, cosine, sine):
    for i in range(len(frequencies)):
        angle = position * frequencies[i]
        cosine[i] = scale * math.cos(angle)
        sine[i] = scale * math.sin(angle)


@jit(forceinline=True)
def turn_halves(first, second, cosine, sine):
    for i in range(len(cosine)):
        x1, x2 = first[i], second[i]
        first[i] = x1 * cosine[i] - x2 * sine[i]
        second[i] = x1 * sine[i] + x2 * cosine[i]


@jit(forceinline=True)
def turn_neighbours(y, cosine, sine):
    for i in range(len(cosine)):
        x1, x2 = y[2 * i], y[2 * i + 1]
        y[2 * i] = x1 * cosine[i] - x2 * sine[i]
        y[2 * i + 1] = x1 * sine[i] + x2 * cosine[i]


@jit(forceinline=True)
def copy(x, y):
    for i in range(len(y)):
        y[i] = x[i]


@parallel_jit
def turn(x, y, H, D, positions, frequencies, scale, neighbours, scratch):
    """y = x (B, T, H, D), the first 2n numbers of each head turned; x and y are places; positions (B, T); scratch
    (threads, 2, n).

    The heads of a position are copied, in one piece if they are neighbours in x, and then turned in the cache.
    """
    B, T = positions.shape
    for part in prange(len(scratch)):
        start, stop = share(part, len(scratch), T)
        cosine, sine = scratch[part, 0], scratch[part, 1]
        half = len(cosine)
        together = max(H, 1) if x[3] == y[3] else 1
        for t in range(start, stop):
            for b in range(B):
                if b == 0 or positions[b, t] != positions[b - 1, t]:
                    sines(positions[b, t], frequencies, scale, cosine, sine)
                for h in range(0, H, together):
                    size = D * together
                    copy(numbers(x, b, t, h, size, scratch), numbers(y, b, t, h, size, scratch))
                for h in range(H):
                    head = numbers(y, b, t, h, 2 * half, scratch)
                    if neighbours:
                        turn_neighbours(head, cosine, sine)
                    else:
                        turn_halves(head[:half], head[half:], cosine, sine)


def rotary_forward(x, positions, frequencies, scale=1.0, neighbours=False):
    check_rotary(x, positions, frequencies)
    NOTHING[x.dtype]  # raises TypeError for another dtype
    (B, T, H, D), x = x.shape, readable(x)
    positions = np.ascontiguousarray(np.broadcast_to(positions, (B, T)), np.int64)
    scratch, y = empty(x, (min(parts_of(x.size), max(T, 1)), 2, len(frequencies))), empty(x, x.shape)
    constants = np.ascontiguousarray(frequencies, np.float64), float(scale), neighbours
    turn(place(x), place(y), H, D, positions, *constants, scratch)
    return y


def rotary_backward(dy, positions, frequencies, scale=1.0, neighbours=False):
    return rotary_forward(dy, positions, -frequencies, scale, neighbours)
