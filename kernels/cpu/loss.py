"""Softmax cross-entropy: each row's maximum, exponentials and loss while it is in the cache, rows divided among the threads.

With the projection before it, chunk by chunk of the rows that count: the logits are never there whole, and those of ignored
positions (most of them, in masked language modelling) never at all.
"""

from __future__ import annotations

import math

import numpy as np

from ..common import IGNORE, check_linear, check_squared
from . import vmath
from .arrays import accumulator, computable, divided, indices, log_sums, parts_of, rows, vector
from .jit import jit
from .linear import add_gradients
from .matmul import matmul
from .memory import empty, zeros

CHUNK = 1 << 24  # numbers in a chunk of logits: 64 MiB in float32. Each chunk packs all of w once more, so not too few rows


@jit
def log_sum_exp(z):
    top, total = z.dtype.type(-np.inf), z.dtype.type(0)
    for j in range(z.size):
        top = vmath.maximum(top, z[j])
    for j in range(z.size):
        total += vmath.exp(z[j] - top)
    return np.float64(top) + math.log(total)


@jit
def mean_above(z, x):
    """The mean of z - x: z itself may be so far from zero that a sum would lose the difference."""
    total = z.dtype.type(0)
    for j in range(z.size):
        total += vmath.minus(z[j], x, z.dtype.type(0))
    return total / z.dtype.type(z.size)


@jit
def weight_of(target, class_weight):
    """What a row counts, in float64: its target's class weight, 1 without such weights, 0 where ignored."""
    if target == IGNORE:
        return 0.0
    return np.float64(class_weight[target]) if class_weight.size else 1.0


@jit
def sum_of_weights(targets, class_weight):
    total = 0.0
    for i in range(targets.size):
        total += weight_of(targets[i], class_weight)
    return total


@divided
def losses_of_rows(start, stop, z, targets, label_smoothing, lse, losses):
    """lse, and what each row adds to the loss, unweighted; 0 where it is ignored."""
    smoothing = z.dtype.type(label_smoothing)
    for i in range(start, stop):
        lse[i] = log_sum_exp(z[i])
        losses[i] = z.dtype.type(0)
        if targets[i] != IGNORE:
            losses[i] = z.dtype.type(lse[i] - z[i, targets[i]])
            if label_smoothing != 0:
                losses[i] -= smoothing * mean_above(z[i], z[i, targets[i]])


@jit
def weighted_sum(losses, targets, class_weight):
    total = 0.0
    for i in range(targets.size):
        total += weight_of(targets[i], class_weight) * losses[i]
    return total


@divided
def gradient_rows(start, stop, share, z, targets, lse, label_smoothing, class_weight, d, in_place):
    """share: dloss over the sum of all weights. in_place: d holds the logits, and z does not matter."""
    number, V = d.dtype.type, d.shape[1]
    uniform, peak = number(label_smoothing / V), number(1 - label_smoothing)
    for i in range(start, stop):
        row, target = d[i], targets[i]
        high, low = vmath.two_parts(lse[i], row)
        factor = number(share * weight_of(target, class_weight))
        if factor == 0:
            row[:] = number(0)
        else:
            if not in_place:
                copy(z[i], row)
            of_target = vmath.exp(vmath.minus(row[target], high, low)) - uniform - peak
            for j in range(V):
                row[j] = (vmath.exp(vmath.minus(row[j], high, low)) - uniform) * factor
            row[target] = of_target * factor


@jit
def copy(x, y):
    for j in range(y.size):
        y[j] = x[j]


def cross_entropy_forward(logits, targets, label_smoothing=0.0, class_weight=None):
    z, t, class_weight = rows(logits), targets_of(targets, logits), vector(class_weight, logits, "class_weight")
    lse, losses = empty(z, targets.shape, np.float64), empty(z, t.shape)
    losses_of_rows(len(z), parts_of(z.size), z, t, label_smoothing, lse.reshape(-1), losses)
    total = sum_of_weights(t, class_weight)
    return weighted_sum(losses, t, class_weight) / (total or 1.0), lse


def cross_entropy_backward(dloss, logits, targets, lse, label_smoothing=0.0, class_weight=None):
    z, t, class_weight = rows(logits), targets_of(targets, logits), vector(class_weight, logits, "class_weight")
    d, share = empty(z, logits.shape), dloss / (sum_of_weights(t, class_weight) or 1.0)
    lse = log_sums(lse, logits.shape[:-1]).reshape(-1)
    gradient_rows(len(z), parts_of(z.size), share, z, t, lse, label_smoothing, class_weight, rows(d), False)
    return d


def targets_of(targets, logits):
    """Targets as int64 (N,), each a class or IGNORE."""
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets are {targets.shape}; logits {logits.shape} need {logits.shape[:-1]}")
    return indices(targets, logits.shape[-1], "targets", IGNORE)


def linear_cross_entropy_forward(x, w, b, targets, label_smoothing=0.0):
    """Chunk by chunk of the rows that count. The lse of the others is 0. logits: only those of the last chunk."""
    xs, t, counts = counted(x, w, b, targets)
    lse, losses = empty(xs, t.shape, np.float64), empty(xs, t.shape)
    logits = empty(xs, (chunk_rows(t.size, len(w)), len(w)))
    last = None
    for part in chunks(t.size, len(logits)):
        last = matmul(xs[part], w.T, logits[: part.stop - part.start], plus=b)
        losses_of_rows(len(last), parts_of(last.size), last, t[part], label_smoothing, lse[part], losses[part])
    loss = float(losses.sum(dtype=np.float64)) / max(t.size, 1)
    if counts is not None:
        whole = zeros(xs, counts.shape, np.float64)
        whole[counts] = lse
        lse = whole
    return loss, lse.reshape(targets.shape), last


def linear_cross_entropy_backward(dloss, x, w, b, targets, lse, logits, dw=None, db=None, label_smoothing=0.0):
    xs, t, counts = counted(x, w, b, targets)
    check_gradients(dw, db, w)
    last = logits
    lse = log_sums(lse, targets.shape).reshape(-1)
    lse = lse if counts is None else lse[counts]
    dx, d = empty(xs, xs.shape), empty(xs, (chunk_rows(t.size, len(w)), len(w)))
    parts = chunks(t.size, len(d))
    expected = (parts[-1].stop - parts[-1].start, len(w)) if parts else None
    if parts and (last is None or last.shape != expected or last.dtype != x.dtype):
        raise ValueError(f"logits must be {x.dtype} {expected}: pass those that the forward returned")
    share, nothing = dloss / max(t.size, 1), vector(None, xs, "class_weight")
    for part in reversed(parts):
        dz, again = d[: part.stop - part.start], last is None
        if again:
            matmul(xs[part], w.T, dz, plus=b)
        z = dz if again else last
        gradient_rows(len(dz), parts_of(dz.size), share, z, t[part], lse[part], label_smoothing, nothing, dz, again)
        add_gradients(dz, xs[part], dw, db)
        matmul(dz, w, dx[part])
        last = None
    if counts is not None:
        whole = zeros(xs, (counts.size, xs.shape[1]))
        whole[counts] = dx
        dx = whole
    return dx.reshape(x.shape)


def counted(x, w, b, targets):
    """The rows of x whose targets count, and those targets; which rows they are, or None for all."""
    check_linear(x, w, b)
    if targets.shape != x.shape[:-1]:
        raise ValueError(f"targets are {targets.shape}; x {x.shape} needs {x.shape[:-1]} of them")
    xs, t = rows(x), indices(targets, len(w), "targets", IGNORE)
    counts = t != IGNORE
    return (xs, t, None) if counts.all() else (xs[counts], t[counts], counts)


def check_gradients(dw, db, w):
    """ValueError if dw or db cannot take the gradients of w (V, C) and b (V,), even if no row counts."""
    accumulator(dw, w.shape, w, "dw")
    accumulator(db, w.shape[:1], w, "db")


def chunk_rows(n, V):
    """How many rows a chunk has: all, or as many as CHUNK allows."""
    return min(n, max(1, CHUNK // V))


def chunks(n, size):
    return [slice(i, min(i + size, n)) for i in range(0, n, max(size, 1))]


def difference_of(x, targets):
    """x - targets, in the dtype of x."""
    check_squared(x, targets)
    computable(x)
    return x - targets.astype(x.dtype)


def squared_error_forward(x, targets):
    """As in the reference set, by NumPy: the hidden states of a teacher are few numbers beside a step's."""
    return float(np.square(difference_of(x, targets)).sum(dtype=np.float64) / max(1, x.size))


def squared_error_backward(dloss, x, targets):
    return difference_of(x, targets) * x.dtype.type(2 * dloss / max(1, x.size))
