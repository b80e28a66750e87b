"""Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2019), Adafactor, and clipping."""

from __future__ import annotations

import math

import numpy as np


def adam_step(w, dw, m1, m2, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, factor=1.0):
    """Make one step, in place, of parameters w with gradient dw and moments m1, m2, all of one shape; step counts from 1.

    m1 = beta1 m1 + (1 - beta1) dw,  m2 = beta2 m2 + (1 - beta2) dw^2,
    w = w - lr weight_decay w - lr (m1 / (1 - beta1^step)) / (sqrt(m2 / (1 - beta2^step)) + eps).
    The gradient is multiplied by `factor` as it is read, which clips it. dw itself does not change.
    """
    m1 *= beta1
    m1 += (1 - beta1) * factor * dw
    m2 *= beta2
    m2 += (1 - beta2) * factor**2 * dw * dw
    unbiased1, unbiased2 = m1 / (1 - beta1**step), m2 / (1 - beta2**step)
    w *= 1 - lr * weight_decay
    w -= lr * unbiased1 / (np.sqrt(unbiased2) + eps)


def adafactor_step(w, dw, m2, step, lr, decay=0.8, eps=1e-30, clip=1.0, relative=1e-3, weight_decay=0.0, factor=1.0):
    """Make one step of Adafactor (Shazeer & Stern 2018, algorithm 4), in place; step counts from 1.

    w, dw (F, C) with m2 = (row (F,), col (C,)), the running means of dw^2 over the other axis. The second moments of a
    matrix are the product of row and col over their common mean: F + C numbers in place of F C.
    w, dw (C,) with m2 = (squares (C,),). The gradient is multiplied by `factor`, as in adam_step.

    beta = 1 - step^-decay,  m2 = beta m2 + (1 - beta) (dw^2 + eps),  update = dw / sqrt(m2),
    update = update / max(1, RMS(update) / clip),  w = w - lr weight_decay w - lr max(relative, RMS(w)) update.
    With relative=None the last term is lr update.
    """
    beta = 1 - step**-decay
    for axis, mean in enumerate(m2):
        mean *= beta
        mean += (1 - beta) * (factor**2 * mean_of_squares(dw, axis) + eps)
    if len(m2) == 1:
        update = dw * (factor / np.sqrt(m2[0]))
    else:
        row, col = m2
        update = dw * (factor * np.sqrt(row.mean() / row))[:, None] * (1 / np.sqrt(col))  # (F, C)
    size = lr if relative is None else lr * max(relative, root_mean_square(w))
    w *= 1 - lr * weight_decay
    w -= size / max(1.0, root_mean_square(update) / clip) * update


def mean_of_squares(dw, axis):
    """The mean of dw^2 over all axes but this one.  dw (F, C) -> (F,) or (C,); of dw (C,) its squares."""
    if dw.ndim == 1:
        return dw * dw
    return np.einsum("fc,fc->f" if axis == 0 else "fc,fc->c", dw, dw) / dw.shape[1 - axis]


def root_mean_square(x):
    """sqrt(mean x^2), a Python float, accumulated in float64."""
    return global_norm(x) / math.sqrt(max(1, x.size))


def global_norm(dw):
    """sqrt(sum dw^2), a Python float, accumulated in float64.  dw of any shape."""
    return math.sqrt(np.square(dw, dtype=np.float64).sum())


def scale(dw, factor):
    """dw *= factor, in place."""
    dw *= factor


def clear(dw):
    """dw = 0, in place."""
    dw[...] = 0
