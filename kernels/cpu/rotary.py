"""Rotary position embedding: the sines of one position serve all its heads, in all sequences.

They are computed again in each call, in float64. For the heads of one sequence that costs less than the product that made
them, and a table of all positions would be one more array to keep and to read.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from .arrays import parts_of, share
from .attention_rows import numbers, place
from .jit import jit, parallel_jit
from .memory import empty


@jit(forceinline=True)
def sines(position, frequencies, scale, cosine, sine):
    for i in range(len(frequencies)):
        angle = position * frequencies[i]
        cosine[i] = scale * math.cos(angle)
        sine[i] = scale * math.sin(angle)


@jit(forceinline=True)
def turn_halves(x1, x2, cosine, sine, y1, y2):
    for i in range(len(cosine)):
        y1[i] = x1[i] * cosine[i] - x2[i] * sine[i]
        y2[i] = x1[i] * sine[i] + x2[i] * cosine[i]


@jit(forceinline=True)
def turn_neighbours(x, cosine, sine, y):
    for i in range(len(cosine)):
        x1, x2 = x[2 * i], x[2 * i + 1]
        y[2 * i] = x1 * cosine[i] - x2 * sine[i]
        y[2 * i + 1] = x1 * sine[i] + x2 * cosine[i]


@parallel_jit
def turn(x, positions, frequencies, scale, neighbours, scratch, y):
    """y (B, T, H, D) = x, a place, with its first R numbers turned; positions (B, T); scratch (threads, 2, R/2)."""
    B, T, H, D = y.shape
    for part in prange(len(scratch)):
        start, stop = share(part, len(scratch), T)
        cosine, sine, half = scratch[part, 0], scratch[part, 1], len(frequencies)
        for t in range(start, stop):
            for b in range(B):
                if b == 0 or positions[b, t] != positions[b - 1, t]:
                    sines(positions[b, t], frequencies, scale, cosine, sine)
                for h in range(H):
                    head, turned = numbers(x, b, t, h, D, y), y[b, t, h]
                    if neighbours:
                        turn_neighbours(head, cosine, sine, turned)
                    else:
                        turn_halves(head[:half], head[half:], cosine, sine, turned[:half], turned[half:])
                    for d in range(2 * half, D):
                        turned[d] = head[d]


def rotary_forward(x, positions, frequencies, scale=1.0, neighbours=False):
    B, T, H, D = x.shape
    if 2 * len(frequencies) > D:
        raise ValueError(
            f"x is {x.shape} and has {len(frequencies)} frequencies; heads of {D} numbers have {D // 2} pairs: pass one each"
        )
    x = x if x.strides[3] == x.itemsize else np.ascontiguousarray(x)  # the numbers of a head side by side
    positions = np.ascontiguousarray(np.broadcast_to(positions, (B, T)), np.int64)
    scratch, y = empty(x, (min(parts_of(x.size), max(T, 1)), 2, len(frequencies))), empty(x, x.shape)
    turn(place(x), positions, np.ascontiguousarray(frequencies, np.float64), float(scale), neighbours, scratch, y)
    return y


def rotary_backward(dy, positions, frequencies, scale=1.0, neighbours=False):
    return rotary_forward(dy, positions, -frequencies, scale, neighbours)
