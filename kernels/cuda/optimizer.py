"""Adam, clipping and the gradient's norm, each one pass over flat buffers (optimizer.cu)."""

from __future__ import annotations

import math

import numpy as np

from .arrays import BLOCK, flat, flat_layout, like, settle
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


def global_norm(g):
    """sqrt(sum g^2), accumulated in float64.  g (n,) -> a Python float."""
    numbers = flat(g)
    parts = min(PARTS, -(-g.size // BLOCK))
    part, total = empty(g, parts, "float64"), empty(g, 1, "float64")
    KERNELS.launch("sum_squares<T>", g, parts, BLOCK, numbers, part, np.int64(g.size))
    KERNELS.launch("sum_parts<T>", g, 1, BLOCK, part, total, parts)
    return math.sqrt(float(total[0]))


def scale(g, factor):
    """g *= factor, in place."""
    numbers = flat(g)
    KERNELS.launch("scale<T>", g, *flat_layout(numbers), numbers, float(factor), np.int64(g.size))
    put_back(g, numbers)


def clear(g):
    """g = 0, in place."""
    g[...] = 0
