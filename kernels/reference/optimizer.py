"""Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2019), Adafactor, and clipping."""

from __future__ import annotations

import math

import numpy as np


def adam_step(p, g, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """One step, in place, of parameters p with gradient g and moments m, v: flat arrays (n,); step counts from 1.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
    p = p - lr weight_decay p - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
    The gradient is taken times `factor`, which clips it as it is read; g itself stays as it is.
    """
    m *= beta1
    m += (1 - beta1) * factor * g
    v *= beta2
    v += (1 - beta2) * factor**2 * g * g
    unbiased_m, unbiased_v = m / (1 - beta1**step), v / (1 - beta2**step)
    p *= 1 - lr * weight_decay
    p -= lr * unbiased_m / (np.sqrt(unbiased_v) + eps)


def adafactor_step(p, g, v, step, lr, decay=0.8, eps=1e-30, clip=1.0, relative=1e-3, weight_decay=0.0, factor=1.0):
    """One step of Adafactor (Shazeer & Stern 2018, algorithm 4), in place, of p with gradient g; step counts from 1.

    p, g (R, C) with v = (rows (R,), columns (C,)), running means of g^2 over the other axis. The second moments of a matrix
    are the outer product of the two over their common mean: R + C numbers in place of R C.
    p, g (n,) with v = (squares (n,),). The gradient is taken times `factor`, as in adam_step.

    beta = 1 - step^-decay,  v = beta v + (1 - beta) (g^2 + eps),  u = g / sqrt(v),  u = u / max(1, RMS(u) / clip),
    p = p - lr weight_decay p - lr max(relative, RMS(p)) u. With relative=None the last term is lr u.
    """
    beta = 1 - step**-decay
    for axis, mean in enumerate(v):
        mean *= beta
        mean += (1 - beta) * (factor**2 * mean_of_squares(g, axis) + eps)
    if len(v) == 1:
        u = g * (factor / np.sqrt(v[0]))
    else:
        rows, columns = v
        u = g * (factor * np.sqrt(rows.mean() / rows))[:, None] * (1 / np.sqrt(columns))  # (R, C)
    size = lr if relative is None else lr * max(relative, root_mean_square(p))
    p *= 1 - lr * weight_decay
    p -= size / max(1.0, root_mean_square(u) / clip) * u


def mean_of_squares(g, axis):
    """The mean of g^2 over all axes but this one.  g (R, C) -> (R,) or (C,); of g (n,) its squares."""
    if g.ndim == 1:
        return g * g
    return np.einsum("rc,rc->r" if axis == 0 else "rc,rc->c", g, g) / g.shape[1 - axis]


def root_mean_square(x):
    """sqrt(mean x^2), a Python float, accumulated in float64."""
    return global_norm(x) / math.sqrt(max(1, x.size))


def global_norm(g):
    """sqrt(sum g^2), accumulated in float64.  g (n,) -> a Python float."""
    return math.sqrt(np.square(g, dtype=np.float64).sum())


def scale(g, factor):
    """g *= factor, in place."""
    g *= factor


def clear(g):
    """g = 0, in place."""
    g[...] = 0
