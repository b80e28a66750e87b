"""Adam, clipping and the gradient's norm, each one pass over flat buffers (optimizer.cu). Adafactor in array formulas."""

from __future__ import annotations

import math

import numpy as np

from .arrays import BLOCK, flat, flat_layout, like, per_row, settle, vector
from .device import array_module
from .memory import empty
from .module import Kernels

KERNELS = Kernels("optimizer.cu", "adam_step<T>", "sum_squares<T>", "sum_parts<T>", "scale<T>")
PARTS = 1056  # blocks that take the norm: eight for each multiprocessor of a large GPU. The same on any: so is the sum


def adam_step(w, dw, m1, m2, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """All arrays in one pass."""
    whole = w, like(m1, w, "m1"), like(m2, w, "m2")
    buffers = w_numbers, m1_numbers, m2_numbers = tuple(flat(a) for a in whole)
    constants = beta1, beta2, eps, 1 - lr * weight_decay, lr / (1 - beta1**step), 1 - beta2**step, factor
    arrays = w_numbers, flat(like(dw, w, "dw")), m1_numbers, m2_numbers
    KERNELS.launch("adam_step<T>", w, *flat_layout(w_numbers), *arrays, *map(float, constants), np.int64(w.size))
    for array, numbers in zip(whole, buffers):
        put_back(array, numbers)


def put_back(array, numbers):
    """What was computed in a contiguous copy goes where it belongs."""
    if not array.flags.c_contiguous:
        settle(array, numbers.reshape(array.shape))


def adafactor_step(w, dw, m2, step, lr, decay=0.8, eps=1e-30, clip=1.0, relative=1e-3, weight_decay=0.0, factor=1.0):
    """The formulas of the reference set, by CuPy. No number is fetched from the GPU, so the host does not wait for it."""
    if len(m2) != w.ndim:
        raise ValueError(f"m2 holds {len(m2)} arrays; w {w.shape} needs {w.ndim}, one for each axis")
    vector(m2[-1], w, "m2[-1]")
    if w.ndim == 2:
        per_row(m2[0], w, "m2[0]")
    xp, beta, squares = array_module(w), 1 - step**-decay, like(dw, w, "dw") * dw
    for mean, new in zip(m2, (squares,) if w.ndim == 1 else (squares.mean(1), squares.mean(0))):
        mean *= beta
        mean += (1 - beta) * (factor**2 * new + eps)
    if w.ndim == 1:
        update = dw * (factor / xp.sqrt(m2[0]))
    else:
        row, col = m2
        update = dw * (factor * xp.sqrt(row.mean() / row))[:, None]  # (F, C)
        update *= 1 / xp.sqrt(col)
    update *= lr / xp.maximum(root_mean_square(update) / clip, 1)
    if relative is not None:
        update *= xp.maximum(root_mean_square(w), relative)
    w *= 1 - lr * weight_decay
    w -= update


def root_mean_square(x):
    """sqrt(mean x^2), accumulated in float64 -> (1,) in the dtype of x, on the GPU."""
    return array_module(x).sqrt(sum_of_squares(x) / max(1, x.size)).astype(x.dtype)


def global_norm(dw):
    """The one op of this file that waits for the GPU."""
    return math.sqrt(float(sum_of_squares(dw)[0]))


def sum_of_squares(x):
    """The sum of x^2 in float64 -> (1,), on the GPU."""
    numbers = flat(x)
    parts = min(PARTS, -(-x.size // BLOCK))
    part, total = empty(x, parts, "float64"), empty(x, 1, "float64")
    KERNELS.launch("sum_squares<T>", x, parts, BLOCK, numbers, part, np.int64(x.size))
    KERNELS.launch("sum_parts<T>", x, 1, BLOCK, part, total, parts)
    return total


def scale(dw, factor):
    """One pass."""
    numbers = flat(dw)
    KERNELS.launch("scale<T>", dw, *flat_layout(numbers), numbers, float(factor), np.int64(dw.size))
    put_back(dw, numbers)


def clear(dw):
    """By CuPy's assignment."""
    dw[...] = 0
