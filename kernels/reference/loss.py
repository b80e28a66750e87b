"""Softmax cross-entropy: the mean of -log p(target) over the targets that count.

A target of IGNORE counts nowhere. label_smoothing e (Szegedy et al. 2016) aims at (1 - e) target + e uniform.
"""

from __future__ import annotations

import numpy as np

from .bfloat16 import product
from .linear import linear_forward, rows

IGNORE = -100
CHUNK = 1 << 22  # numbers in a chunk of logits: 16 MiB in float32


def cross_entropy_forward(logits, targets, label_smoothing=0.0, class_weight=None):
    """loss = mean_n(lse_n - logits_n[target_n]), lse_n = log sum_V exp(logits_n).

    logits (N, V), targets (N,) ints in [0, V) or IGNORE, class_weight (V,) or None: the mean is then weighted by the weight
    of each row's target -> loss, a Python float (0.0 where nothing counts), lse (N,).
    """
    z, t = rows(logits), targets.reshape(-1)
    top = z.max(-1)
    lse = top + np.log(np.exp(z - top[:, None]).sum(-1))  # (N,)
    count = t != IGNORE
    weight = row_weights(t, class_weight, z.dtype)  # (N,), 0 where ignored
    nll = lse - z[np.arange(len(t)), np.where(count, t, 0)]
    if label_smoothing:
        nll = (1 - label_smoothing) * nll + label_smoothing * (lse - z.mean(-1))
    total = weight.sum(dtype=np.float64)
    return float((nll * weight).sum(dtype=np.float64) / (total or 1)), lse.reshape(targets.shape)


def cross_entropy_backward(dloss, logits, targets, lse, label_smoothing=0.0, class_weight=None):
    """dlogits (N, V) = (p - aim) dloss / count, with p = exp(logits - lse) and aim the smoothed one-hot target."""
    z, t = rows(logits), targets.reshape(-1)
    weight = row_weights(t, class_weight, z.dtype)
    share = weight * z.dtype.type(dloss / (weight.sum(dtype=np.float64) or 1))  # (N,)
    d = np.exp(z - lse.reshape(-1, 1)) - z.dtype.type(label_smoothing / z.shape[1])
    d[np.arange(len(t)), np.where(t != IGNORE, t, 0)] -= z.dtype.type(1 - label_smoothing)
    return (d * share[:, None]).reshape(logits.shape)


def row_weights(t, class_weight, dtype):
    """What each row counts: its target's class weight, 1 without such weights, 0 where ignored."""
    if class_weight is None:
        return (t != IGNORE).astype(dtype)
    return np.where(t != IGNORE, class_weight[np.where(t != IGNORE, t, 0)], 0).astype(dtype)


def linear_cross_entropy_forward(x, w, b, targets, label_smoothing=0.0):
    """The loss of logits = x w^T + b, computed by chunks of rows, so that (N, V) is never stored whole.

    x (N, C), w (V, C), b (V,) or None, targets (N,) -> loss, lse (N,), last: the logits of the last chunk, from which the
    backward begins; it computes the other chunks again.
    """
    xs, t = rows(x), targets.reshape(-1)
    lse, total, counted, last = np.empty(len(t), x.dtype), 0.0, int((t != IGNORE).sum()), None
    for part in chunks(len(t), w.shape[0]):
        last = linear_forward(xs[part], w, b)
        loss, lse[part] = cross_entropy_forward(last, t[part], label_smoothing)
        total += loss * int((t[part] != IGNORE).sum())
    return total / (counted or 1), lse.reshape(targets.shape), last


def linear_cross_entropy_backward(dloss, x, w, b, targets, lse, last, dw=None, db=None, label_smoothing=0.0):
    """dx (N, C); adds into dw (V, C) and db (V,).  For each chunk dlogits as in cross_entropy_backward, then as linear."""
    xs, t = rows(x), targets.reshape(-1)
    dx, counted = np.zeros_like(xs), int((t != IGNORE).sum()) or 1
    for part in reversed(chunks(len(t), w.shape[0])):
        if last is None:
            last = linear_forward(xs[part], w, b)
        share = dloss * int((t[part] != IGNORE).sum()) / counted
        d = cross_entropy_backward(share, last, t[part], lse.reshape(-1)[part], label_smoothing)
        dx[part] = product(d, w)
        if dw is not None:
            dw += product(d.T, xs[part])
        if db is not None:
            db += d.sum(0)
        last = None
    return dx.reshape(x.shape)


def chunks(n_rows, V):
    """Slices of rows, each of at most CHUNK logits."""
    size = max(1, CHUNK // V)
    return [slice(i, min(i + size, n_rows)) for i in range(0, n_rows, size)]
