"""Rotary position embedding, in place: the sines of one position serve all its heads, and all sequences that stand there.

They are computed again in each call, in float64: for the heads of one sequence that costs less than the product that made
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


@parallel_jit
def turn(y, H, positions, frequencies, scale, neighbours, scratch):
    """y (B, T, H, D), a place: turned there; positions (B, T); scratch (threads, 2, D/2)."""
    B, T = positions.shape
    for part in prange(len(scratch)):
        start, stop = share(part, len(scratch), T)
        cosine, sine = scratch[part, 0], scratch[part, 1]
        half = len(cosine)
        for t in range(start, stop):
            for b in range(B):
                if b == 0 or positions[b, t] != positions[b - 1, t]:
                    sines(positions[b, t], frequencies, scale, cosine, sine)
                for h in range(H):
                    head = numbers(y, b, t, h, 2 * half, scratch)
                    if neighbours:
                        turn_neighbours(head, cosine, sine)
                    else:
                        turn_halves(head[:half], head[half:], cosine, sine)


def rotary_forward(x, positions, frequencies, scale=1.0, neighbours=False, out=None):
    B, T, H, D = x.shape
    if 2 * len(frequencies) != D or (out is not None and (out.shape, out.dtype) != (x.shape, x.dtype)):
        raise ValueError(f"x is {x.dtype} {x.shape}: it needs {D / 2} frequencies, and an `out` of its own kind")
    y = empty(x, x.shape) if out is None else out
    if y is not x:
        y[...] = x
    turned = y if y.strides[3] == y.itemsize else np.ascontiguousarray(y)  # its pairs side by side
    positions = np.ascontiguousarray(np.broadcast_to(positions, (B, T)), np.int64)
    scratch = empty(x, (min(parts_of(x.size), max(T, 1)), 2, D // 2))
    turn(place(turned), H, positions, np.ascontiguousarray(frequencies, np.float64), float(scale), neighbours, scratch)
    if turned is not y:
        y[...] = turned
    return y


def rotary_backward(dy, positions, frequencies, scale=1.0, neighbours=False, out=None):
    return rotary_forward(dy, positions, -frequencies, scale, neighbours, out)
