"""Softmax cross-entropy: the mean of -log p(target) over the targets that count. A target of IGNORE does not count."""

import numpy as np

from ..common import IGNORE, Array
from .linear import linear_backward, linear_forward
from .softmax import log_sum_exp


def wanted(logits: Array, targets: Array, label_smoothing: float, class_weight: Array | None) -> tuple[Array, Array]:
    """The probabilities y that the loss asks for, and how much each row counts: t5.md (12), bert.md (14).
    logits (N, V), targets (N,), class_weight (V,) or None -> y (N, V), weight (N,).
    y is 1 at the target, or with label smoothing (Szegedy et al. 2016) a share of it is spread over V."""
    V = logits.shape[-1]
    at_target = (np.arange(V) == targets[..., None]).astype(logits.dtype)
    counts = (targets != IGNORE).astype(logits.dtype)
    weight = counts if class_weight is None else counts * class_weight[np.where(targets == IGNORE, 0, targets)]
    return (1 - label_smoothing) * at_target + label_smoothing / V, weight


def cross_entropy_forward(logits: Array, targets: Array, label_smoothing: float = 0.0,
                          class_weight: Array | None = None) -> tuple[float, Array]:  # fmt: skip
    """loss = mean_N sum_V y (lse - logits) with lse = log sum_V exp(logits) and y as `wanted`: gpt.md (4).
    logits (N, V), targets (N,) ints in [0, V) or IGNORE, class_weight (V,) or None -> loss (), lse (N,) in float64.
    The mean is weighted by `weight`. loss is a Python float, 0.0 if no row counts."""
    lse = log_sum_exp(logits)  # (N,)
    y, weight = wanted(logits, targets, label_smoothing, class_weight)  # (N, V), (N,)
    losses = (y * (lse[..., None] - logits)).sum(-1)  # (N,)
    total = weight.sum(dtype=np.float64)
    return float((weight * losses).sum(dtype=np.float64) / (total or 1)), lse


def cross_entropy_backward(dloss: float, logits: Array, targets: Array, lse: Array, label_smoothing: float = 0.0,
                           class_weight: Array | None = None) -> Array:  # fmt: skip
    """dlogits = (p - y) dloss weight / sum_N weight: gpt.md (5), t5.md (12), bert.md (15).
    logits (N, V), targets (N,), lse (N,), class_weight (V,) or None -> dlogits (N, V)."""
    p = np.exp(logits - lse[..., None]).astype(logits.dtype)  # (N, V)
    y, weight = wanted(logits, targets, label_smoothing, class_weight)  # (N, V), (N,)
    share = weight * float(dloss / (weight.sum(dtype=np.float64) or 1))  # (N,)
    return (p - y) * share[..., None]


def linear_cross_entropy_forward(x: Array, w: Array, b: Array | None, targets: Array,
                                 label_smoothing: float = 0.0) -> tuple[float, Array, Array]:  # fmt: skip
    """logits = x w^T + b, then their cross-entropy: gpt.md (6), (4).
    x (N, C), w (V, C), b (V,) or None, targets (N,) -> loss (), lse (N,), logits (N, V)."""
    logits = linear_forward(x, w, b)
    loss, lse = cross_entropy_forward(logits, targets, label_smoothing)
    return loss, lse, logits


def linear_cross_entropy_backward(
    dloss: float, x: Array, w: Array, b: Array | None, targets: Array, lse: Array, logits: Array,
    dw: Array | None = None, db: Array | None = None, label_smoothing: float = 0.0) -> Array:  # fmt: skip
    """dlogits = (p - y) dloss / count, then as in linear_backward: gpt.md (5), (7).
    x (N, C), w (V, C), b (V,) or None, targets (N,), lse (N,), logits (N, V), dw (V, C) or None, db (V,) or None
    -> dx (N, C)."""
    dlogits = cross_entropy_backward(dloss, logits, targets, lse, label_smoothing)
    return linear_backward(dlogits, x, w, dw, db)


def squared_error_forward(x: Array, targets: Array) -> float:
    """loss = mean (x - targets)^2 over all numbers: bert.md (19).  x (N, C), targets (N, C) -> loss (), a Python float."""
    return float(np.square(x - targets.astype(x.dtype)).sum(dtype=np.float64) / max(1, x.size))


def squared_error_backward(dloss: float, x: Array, targets: Array) -> Array:
    """dx = 2 (x - targets) dloss / (N C): bert.md (19).  x (N, C), targets (N, C) -> dx (N, C)."""
    return (x - targets.astype(x.dtype)) * float(2 * dloss / max(1, x.size))
