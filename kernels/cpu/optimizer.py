"""Adam in one pass over p, g, m and v, in place; the global norm as sums over fixed blocks, whoever computes them."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from .arrays import accumulator, flat, like, parts_of, settle, share
from .jit import jit, parallel_jit
from .memory import empty

BLOCK = 1 << 14  # numbers whose squares are summed together: the norm does not depend on how many threads there are


@jit
def adam_part(p, g, m, v, beta1, beta2, rest1, rest2, decay, rate, root, eps):
    for i in range(p.size):
        mean = beta1 * m[i] + rest1 * g[i]
        square = beta2 * v[i] + rest2 * g[i] * g[i]
        p[i] = p[i] * decay - rate * mean / (np.sqrt(square) * root + eps)
        m[i] = mean
        v[i] = square


@parallel_jit
def adam_kernel(p, g, m, v, beta1, beta2, rest1, rest2, decay, rate, root, eps, parts):
    number = p.dtype.type
    beta1, beta2, rest1, rest2 = number(beta1), number(beta2), number(rest1), number(rest2)
    decay, rate, root, eps = number(decay), number(rate), number(root), number(eps)
    for part in prange(parts):
        start, stop = share(part, parts, p.size)
        adam_part(
            p[start:stop], g[start:stop], m[start:stop], v[start:stop],
            beta1, beta2, rest1, rest2, decay, rate, root, eps,
        )  # fmt: skip


@jit
def sum_of_squares(g):
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@parallel_jit
def squares_kernel(g, sums, parts):
    for part in prange(parts):
        start, stop = share(part, parts, sums.size)
        for block in range(start, stop):
            sums[block] = sum_of_squares(g[block * BLOCK : (block + 1) * BLOCK])
    total = 0.0
    for block in range(sums.size):
        total += sums[block]
    return total


@parallel_jit
def scale_kernel(g, factor, parts):
    factor = g.dtype.type(factor)
    for part in prange(parts):
        start, stop = share(part, parts, g.size)
        for i in range(start, stop):
            g[i] *= factor


def adam_step(p, g, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """The two corrections of the bias are factors here: lr / (1 - beta1^step) and 1 / sqrt(1 - beta2^step)."""
    own_p, own_m, own_v = (accumulator(a, p.shape, p, name) for a, name in ((p, "p"), (m, "m"), (v, "v")))
    rate, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    adam_kernel(
        flat(own_p), flat(like(g, p, "g")), flat(own_m), flat(own_v),
        beta1, beta2, 1 - beta1, 1 - beta2, 1 - lr * weight_decay, rate, root, eps, parts_of(p.size),
    )  # fmt: skip
    settle(p, own_p)
    settle(m, own_m)
    settle(v, own_v)


def global_norm(g):
    g = flat(g)
    sums = empty(g, (-(-g.size // BLOCK),), np.float64)
    return math.sqrt(squares_kernel(g, sums, parts_of(g.size)))


def scale(g, factor):
    own = accumulator(g, g.shape, g, "g")
    scale_kernel(flat(own), factor, parts_of(g.size))
    settle(g, own)
