"""Adam in one pass over p, g, m and v, in place; the global norm as sums over fixed blocks, whoever computes them."""

from __future__ import annotations

import math

import numpy as np

from .arrays import accumulator, divided, flat, like, parts_of, settle
from .jit import jit
from .memory import empty

BLOCK = 1 << 14  # numbers whose squares are summed together: the norm does not depend on how many threads there are


@divided
def adam_part(start, stop, p, g, m, v, beta1, beta2, rest1, rest2, decay, rate, root, eps, factor):
    p, g, m, v, number = p[start:stop], g[start:stop], m[start:stop], v[start:stop], p.dtype.type
    beta1, beta2, rest1, rest2 = number(beta1), number(beta2), number(rest1), number(rest2)
    decay, rate, root, eps, factor = number(decay), number(rate), number(root), number(eps), number(factor)
    for i in range(p.size):
        gradient = factor * g[i]
        mean = beta1 * m[i] + rest1 * gradient
        square = beta2 * v[i] + rest2 * gradient * gradient
        p[i] = p[i] * decay - rate * mean / (np.sqrt(square) * root + eps)
        m[i] = mean
        v[i] = square


@jit
def sum_of_squares(g):
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@divided
def squares_of_blocks(start, stop, g, sums):
    for block in range(start, stop):
        sums[block] = sum_of_squares(g[block * BLOCK : (block + 1) * BLOCK])


@divided
def scale_part(start, stop, g, factor):
    g, factor = g[start:stop], g.dtype.type(factor)
    for i in range(g.size):
        g[i] *= factor


@divided
def clear_part(start, stop, g):
    g = g[start:stop]
    for i in range(g.size):
        g[i] = 0


def adam_step(p, g, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """The two corrections of the bias are factors here: lr / (1 - beta1^step) and 1 / sqrt(1 - beta2^step)."""
    own_p, own_m, own_v = (accumulator(a, p.shape, p, name) for a, name in ((p, "p"), (m, "m"), (v, "v")))
    rate, root, decay = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), 1 - lr * weight_decay
    numbers = beta1, beta2, 1 - beta1, 1 - beta2, decay, rate, root, eps, factor
    adam_part(p.size, parts_of(p.size), flat(own_p), flat(like(g, p, "g")), flat(own_m), flat(own_v), *numbers)
    settle(p, own_p)
    settle(m, own_m)
    settle(v, own_v)


def global_norm(g):
    """Sums of squares over blocks, then the sum of those: the same for any number of threads."""
    sums = empty(g, (-(-g.size // BLOCK),), np.float64)
    squares_of_blocks(sums.size, parts_of(g.size), flat(g), sums)
    return math.sqrt(sums.sum())


def scale(g, factor):
    own = accumulator(g, g.shape, g, "g")
    scale_part(g.size, parts_of(g.size), flat(own), factor)
    settle(g, own)


def clear(g):
    own = accumulator(g, g.shape, g, "g")
    clear_part(g.size, parts_of(g.size), flat(own))
    settle(g, own)
