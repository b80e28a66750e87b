"""Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2019), Adafactor, and clipping."""

import math

import numpy as np

from ..common import Array


def adam_step(
    w: Array, dw: Array, m1: Array, m2: Array, step: int, lr: float, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, factor: float = 1.0) -> None:  # fmt: skip
    """m1 = beta1 m1 + (1 - beta1) dw,  m2 = beta2 m2 + (1 - beta2) dw^2: gpt.md (24).
    w = w - lr weight_decay w - lr (m1 / (1 - beta1^step)) / (sqrt(m2 / (1 - beta2^step)) + eps), all in place.
    w, dw, m1, m2 (N,) -> None.  step counts from 1. dw is multiplied by `factor` as it is read, and does not change."""
    m1 *= beta1
    m1 += (1 - beta1) * factor * dw
    m2 *= beta2
    m2 += (1 - beta2) * factor**2 * dw * dw
    unbiased1, unbiased2 = m1 / (1 - beta1**step), m2 / (1 - beta2**step)
    w *= 1 - lr * weight_decay
    w -= lr * unbiased1 / (np.sqrt(unbiased2) + eps)


def adafactor_step(
    w: Array, dw: Array, m2: tuple[Array, ...], step: int, lr: float, decay: float = 0.8, eps: float = 1e-30,
    clip: float = 1.0, relative: float | None = 1e-3, weight_decay: float = 0.0, factor: float = 1.0) -> None:  # fmt: skip
    """beta = 1 - step^-decay,  m2 = beta m2 + (1 - beta) (dw^2 + eps),  update = dw / sqrt(m2): t5.md (15), (16).
    update = update / max(1, RMS(update) / clip),  w = w - lr weight_decay w - lr max(relative, RMS(w)) update, all in place.
    w, dw (F, C) or (C,) -> None.

    Adafactor (Shazeer & Stern 2018, algorithm 4). Of a matrix, m2 is the pair of means of dw^2 over the other axis, (F,) and
    (C,): their product over their common mean replaces F C second moments by F + C. Of a vector it is one array (C,). With
    relative=None the last term is lr update. step and factor are as in adam_step.
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


def mean_of_squares(dw: Array, axis: int) -> Array:
    """The mean of dw^2 over all axes but this one: t5.md (15).  (F, C) -> (F,) or (C,); (C,) -> (C,), its squares."""
    if dw.ndim == 1:
        return dw * dw
    return np.einsum("fc,fc->f" if axis == 0 else "fc,fc->c", dw, dw) / dw.shape[1 - axis]


def root_mean_square(x: Array) -> float:
    """sqrt(mean x^2), accumulated in float64.  (N,) -> ()."""
    return global_norm(x) / math.sqrt(max(1, x.size))


def global_norm(dw: Array) -> float:
    """norm = sqrt(sum dw^2), accumulated in float64: gpt.md (25).  dw (N,) -> norm ()."""
    return math.sqrt(np.square(dw, dtype=np.float64).sum())


def scale(dw: Array, factor: float) -> None:
    """dw = dw factor, in place: gpt.md (25).  dw (N,) -> None."""
    dw *= factor


def clear(dw: Array) -> None:
    """dw = 0, in place: gpt.md (7), before the first backward adds to it.  dw (N,) -> None."""
    dw[...] = 0
