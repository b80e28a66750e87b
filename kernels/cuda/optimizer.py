"""Adam, clipping and the gradient's norm, each one pass over flat buffers (optimizer.cu). Adafactor in array formulas."""

from __future__ import annotations

import math

import numpy as np

from .arrays import BLOCK, flat, flat_layout, like, settle
from .device import array_module
from .memory import empty
from .module import Kernels

KERNELS = Kernels("optimizer.cu", "adam_step<T>", "sum_squares<T>", "sum_parts<T>", "scale<T>")
PARTS = 1056  # blocks that take the norm: eight for each multiprocessor of a large GPU. The same on any: so is the sum


def adam_step(p, g, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """One step, in place, of parameters p with gradient g and moments m, v: flat arrays (n,); step counts from 1.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
    p = p - lr weight_decay p - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
    The gradient is taken times `factor`, which clips it as it is read; g itself stays as it is.
    """
    whole = p, like(m, p, "m"), like(v, p, "v")
    p_sums, m_sums, v_sums = (flat(a) for a in whole)
    constants = beta1, beta2, eps, 1 - lr * weight_decay, lr / (1 - beta1**step), 1 - beta2**step, factor
    buffers = p_sums, flat(like(g, p, "g")), m_sums, v_sums
    KERNELS.launch("adam_step<T>", p, *flat_layout(p_sums), *buffers, *map(float, constants), np.int64(p.size))
    for array, sums in zip(whole, (p_sums, m_sums, v_sums)):
        put_back(array, sums)


def put_back(array, numbers):
    """What was computed in a contiguous copy goes where it belongs."""
    if not array.flags.c_contiguous:
        settle(array, numbers.reshape(array.shape))


def adafactor_step(p, g, v, step, lr, decay=0.8, eps=1e-30, clip=1.0, relative=1e-3, weight_decay=0.0, factor=1.0):
    """The formulas of the reference set, by CuPy. No number is fetched from the GPU, so nothing waits for it."""
    xp, beta = array_module(p), 1 - step**-decay
    squares = like(g, p, "g") * g
    for mean, n, new in zip(v, p.shape, (squares,) if p.ndim == 1 else (squares.mean(1), squares.mean(0)), strict=True):
        if mean.shape != (n,) or mean.dtype != p.dtype:
            raise ValueError(f"v holds {mean.dtype} {mean.shape}; for p {p.dtype} {p.shape} it must be {p.dtype} ({n},)")
        mean *= beta
        mean += (1 - beta) * (factor**2 * new + eps)
    u = g * (factor / xp.sqrt(v[0]) if p.ndim == 1 else (factor * xp.sqrt(v[0].mean() / v[0]))[:, None])
    if p.ndim == 2:
        u *= 1 / xp.sqrt(v[1])
    u *= lr / xp.maximum(root_mean_square(u) / clip, 1)
    if relative is not None:
        u *= xp.maximum(root_mean_square(p), relative)
    p *= 1 - lr * weight_decay
    p -= u


def root_mean_square(x):
    """sqrt(mean x^2), accumulated in float64 -> (1,) in the dtype of x, on the GPU."""
    return array_module(x).sqrt(sum_of_squares(x) / max(1, x.size)).astype(x.dtype)


def global_norm(g):
    """sqrt(sum g^2), accumulated in float64.  g (n,) -> a Python float."""
    return math.sqrt(float(sum_of_squares(g)[0]))


def sum_of_squares(g):
    """The sum of g^2 in float64 -> (1,), on the GPU."""
    numbers = flat(g)
    parts = min(PARTS, -(-g.size // BLOCK))
    part, total = empty(g, parts, "float64"), empty(g, 1, "float64")
    KERNELS.launch("sum_squares<T>", g, parts, BLOCK, numbers, part, np.int64(g.size))
    KERNELS.launch("sum_parts<T>", g, 1, BLOCK, part, total, parts)
    return total


def scale(g, factor):
    """g *= factor, in place."""
    numbers = flat(g)
    KERNELS.launch("scale<T>", g, *flat_layout(numbers), numbers, float(factor), np.int64(g.size))
    put_back(g, numbers)


def clear(g):
    """g = 0, in place."""
    g[...] = 0
