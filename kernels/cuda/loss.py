"""Softmax cross-entropy (loss.cu); with the projection before it, chunk by chunk of the rows that count."""

from __future__ import annotations

import numpy as np

from ..common import IGNORE, check_linear, check_squared
from .arrays import accumulator, checked, computable, indices, log_sums, row_layout, rows, vector, wide
from .blas import product
from .device import to_device
from .linear import add_gradients, project
from .memory import empty, zeros
from .module import Kernels

CHUNK = 1 << 28  # numbers in a chunk of logits: 1 GiB in float32
ONE_BLOCK = 1024  # threads

KERNELS = Kernels("loss.cu", "losses_of_rows<T>", "sum_losses<T>", "gradient_of_rows<T>")


def weighted(z, losses, t, class_weight):
    """(2,) in float64, on the device: the weighted sum of losses (0 for None), and the sum of weights."""
    sums = empty(z, 2, "float64")
    KERNELS.launch("sum_losses<T>", z, 1, ONE_BLOCK, losses, t, class_weight, sums, len(t))
    return sums


def cross_entropy_forward(logits, targets, label_smoothing=0.0, class_weight=None):
    """loss = mean_n(lse_n - logits_n[target_n]), lse_n = log sum_V exp(logits_n).

    logits (N, V), targets (N,) ints in [0, V) or IGNORE, class_weight (V,) or None -> loss, a Python float (0.0 where
    nothing counts), lse (N,). As in the reference set.
    """
    z, t, class_weight = rows(logits), targets_of(targets, logits), weights_of(class_weight, logits)
    lse, losses = empty(z, targets.shape, "float64"), empty(z, t.shape, wide(z))
    KERNELS.launch("losses_of_rows<T>", z, *row_layout(z), z, t, float(label_smoothing), lse.reshape(-1), losses, *z.shape)
    total, weights = weighted(z, losses, t, class_weight).tolist()
    return total / (weights or 1.0), lse


def cross_entropy_backward(dloss, logits, targets, lse, label_smoothing=0.0, class_weight=None):
    """dlogits (N, V) = (p - aim) dloss / count, with p = exp(logits - lse) and aim the smoothed one-hot target."""
    z, t, class_weight = rows(logits), targets_of(targets, logits), weights_of(class_weight, logits)
    d, lse = empty(z, logits.shape), log_sums(lse, logits.shape[:-1]).reshape(-1)
    gradient(dloss, z, t, lse, label_smoothing, class_weight, weighted(z, None, t, class_weight), rows(d))
    return d


def gradient(dloss, z, t, lse, label_smoothing, class_weight, sums, d):
    parts = z, t, lse, float(label_smoothing), class_weight, sums, d
    KERNELS.launch("gradient_of_rows<T>", z, *row_layout(z), float(dloss), *parts, *z.shape)


def weights_of(class_weight, logits):
    return None if class_weight is None else vector(to_device(class_weight, logits), logits, "class_weight")


def targets_of(targets, logits):
    """Targets as int64 (N,), each a class or IGNORE."""
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets are {targets.shape}; logits {logits.shape} need {logits.shape[:-1]}")
    return indices(targets, logits.shape[-1], "targets", logits, IGNORE)


def linear_cross_entropy_forward(x, w, b, targets, label_smoothing=0.0):
    """The loss of logits = x w^T + b, computed by chunks of the rows that count, so that (N, V) is never stored whole.

    x (N, C), w (V, C), b (V,) or None, targets (N,) -> loss, lse (N,), 0 for ignored rows, last: the logits of the last
    chunk, from which the backward begins; it computes the other chunks again.
    """
    xs, t, counts = counted(x, w, b, targets)
    lse, losses = empty(xs, t.shape, "float64"), empty(xs, t.shape, wide(xs))
    logits, last = empty(xs, (chunk_rows(t.size, len(w)), len(w))), None
    for part in chunks(t.size, len(logits)):
        last = logits[: part.stop - part.start]
        project(xs[part], w, b, last)
        outputs = lse[part], losses[part]
        KERNELS.launch(
            "losses_of_rows<T>", xs, *row_layout(last), last, t[part], float(label_smoothing), *outputs, *last.shape
        )
    loss = weighted(xs, losses, t, None).tolist()[0] / max(t.size, 1)
    if counts is not None:
        whole = zeros(xs, targets.size, "float64")
        whole[counts] = lse
        lse = whole
    return loss, lse.reshape(targets.shape), last


def linear_cross_entropy_backward(dloss, x, w, b, targets, lse, logits, dw=None, db=None, label_smoothing=0.0):
    """dx (N, C); adds into dw (V, C) and db (V,).  For each chunk dlogits as in cross_entropy_backward, then as linear."""
    xs, t, counts = counted(x, w, b, targets)
    accumulator(dw, w.shape, x, "dw")
    accumulator(db, w.shape[:1], x, "db")
    parts, last = chunks(t.size, chunk_rows(t.size, len(w))), logits
    expected = (parts[-1].stop - parts[-1].start, len(w)) if parts else None
    if parts and (logits is None or logits.shape != expected or logits.dtype != x.dtype):
        raise ValueError(f"logits must be {x.dtype} {expected}: pass those that the forward returned")
    lse = log_sums(lse, targets.shape).reshape(-1)
    lse = lse if counts is None else lse[counts]
    dx, d = empty(xs, xs.shape), empty(xs, (chunk_rows(t.size, len(w)), len(w)))
    for part in reversed(parts):
        dz = d[: part.stop - part.start]
        if last is None:
            project(xs[part], w, b, dz)
        z = dz if last is None else last
        gradient(dloss / max(t.size, 1), z, t[part], lse[part], label_smoothing, None, None, dz)
        add_gradients(dz, xs[part], dw, db)
        product(dz, w, dx[part])
        last = None
    if counts is not None:
        whole = zeros(xs, (targets.size, xs.shape[1]))
        whole[counts] = dx
        dx = whole
    return dx.reshape(x.shape)


def counted(x, w, b, targets):
    """The rows of x whose targets count, and those targets; which rows they are, int64, or None for all.

    Targets on the host are counted there: the GPU, which is still busy with x, is not waited for.
    """
    check_linear(x, w, b)
    if targets.shape != x.shape[:-1]:
        raise ValueError(f"targets are {targets.shape}; x {x.shape} needs {x.shape[:-1]} of them")
    xs, t = rows(x), checked(targets, len(w), "targets", IGNORE)
    if (t != IGNORE).all():
        return xs, to_device(t, x), None
    counts = np.flatnonzero(t != IGNORE)
    places = to_device(counts, x)
    return xs[places], to_device(t[counts], x), places


def chunk_rows(n, V):
    """How many rows a chunk has: all, or as many as CHUNK allows."""
    return min(n, max(1, CHUNK // V))


def chunks(n, size):
    return [slice(i, min(i + size, n)) for i in range(0, n, max(size, 1))]


def difference_of(x, targets):
    """x - targets, in float32 where x is bfloat16. targets may be on the host."""
    check_squared(x, targets)
    return computable(x).astype(wide(x)) - to_device(targets, x).astype(wide(x))


def squared_error_forward(x, targets):
    """As in the reference set, by CuPy's own kernels."""
    difference = difference_of(x, targets)
    return float((difference * difference).sum(dtype=np.float64) / max(1, x.size))


def squared_error_backward(dloss, x, targets):
    """dx = 2 (x - targets) dloss / (N C)."""
    difference = difference_of(x, targets)
    return (difference * difference.dtype.type(2 * dloss / max(1, x.size))).astype(x.dtype)
