"""What the fast sets compute in bfloat16, in NumPy: the reference's formulas with the factors of products rounded.

The reference set itself is always exact. Here each product of float32 matrices is one of rounded factors inside
`with kernels.autocast("bfloat16"):`, and attention divides by its denominator at the end, as the fast sets do, so that what
is rounded is exp(s - max). calls.py runs these functions as the set "rounded".
"""

from __future__ import annotations

import math

import numpy as np

from tinyllm.kernels.context import autocast_dtype
from tinyllm.kernels.float_bits import from_upper_half, upper_half
from tinyllm.kernels.reference.activation import activation_backward, activation_forward
from tinyllm.kernels.reference.attention import repeat_heads, sum_heads
from tinyllm.kernels.reference.dropout import dropout_backward, dropout_forward
from tinyllm.kernels.reference.linear import rows
from tinyllm.kernels.reference.loss import cross_entropy_backward, cross_entropy_forward
from tinyllm.kernels.reference.softmax import allowed


def heads_first(x):
    """(B, T, H, D) -> (B, H, T, D), and back."""
    return x.swapaxes(1, 2)


def rounded(x):
    """float32 numbers that bfloat16 has, too: each the nearest to one of x."""
    return from_upper_half(upper_half(x))


def product(a, b):
    """a b. In bfloat16 factors of float32 are rounded, their sums are not."""
    if autocast_dtype() == "bfloat16" and a.dtype == np.float32:
        a, b = rounded(a), rounded(b)
    return a @ b


def linear_forward(x, w, b=None):
    y = product(x, w.T)
    return y if b is None else y + b


def linear_backward(dy, x, w, dw=None, db=None):
    if dw is not None:
        dw += product(rows(dy).T, rows(x))
    if db is not None:
        db += rows(dy).sum(0)
    return product(dy, w)


def linear_activation_forward(x, w, b=None, activation="gelu"):
    u = linear_forward(x, w, b)
    return activation_forward(u, activation), u


def linear_activation_backward(dy, x, w, u, dw=None, db=None, activation="gelu"):
    return linear_backward(activation_backward(dy, u, activation), x, w, dw, db)


def linear_cross_entropy_forward(x, w, b, targets, label_smoothing=0.0):
    logits = linear_forward(x, w, b)
    return *cross_entropy_forward(logits, targets, label_smoothing), logits


def linear_cross_entropy_backward(dloss, x, w, b, targets, lse, logits, dw=None, db=None, label_smoothing=0.0):
    return linear_backward(cross_entropy_backward(dloss, logits, targets, lse, label_smoothing), x, w, dw, db)


def scores(q, k, ok, bias):
    """q k^T + bias, -inf where not allowed; q is scaled already: scale q is what is rounded."""
    s = product(q, k.swapaxes(2, 3))
    return np.where(ok, s if bias is None else s + bias, -np.inf)


def attention_forward(q, k, v, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0):
    (T, H, D), S = q.shape[1:], k.shape[1]
    q = q * q.dtype.type(1 / math.sqrt(D) if scale is None else scale)
    s = scores(heads_first(q), heads_first(repeat_heads(k, H)), allowed(T, S, mask, causal, window), bias)
    top = np.maximum(s.max(-1, initial=-np.inf), np.finfo(s.dtype).min)  # finite, for rows that see nothing
    e = np.exp(s - top[..., None])
    total = e.sum(-1)  # (B, H, T): at least 1, or 0
    y = product(dropout_forward(e, dropout, seed), heads_first(repeat_heads(v, H)))
    with np.errstate(divide="ignore"):
        return heads_first(y / np.maximum(total, 1)[..., None]), top + np.log(total)


def attention_backward(
    dy, q, k, v, y, lse, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0, dbias=None
):
    (T, H, D), (S, G) = q.shape[1:], k.shape[1:3]
    scale = q.dtype.type(1 / math.sqrt(D) if scale is None else scale)
    dy, q, k, v, y = (heads_first(a) for a in (dy, q * scale, repeat_heads(k, H), repeat_heads(v, H), y))
    s = scores(q, k, allowed(T, S, mask, causal, window), bias)
    p = np.exp(s - np.where(np.isfinite(lse), lse, 0)[..., None])
    dv = product(dropout_forward(p, dropout, seed).swapaxes(2, 3), dy)
    dp = dropout_backward(product(dy, v.swapaxes(2, 3)), dropout, seed)
    ds = p * (dp - (dy * y).sum(-1, keepdims=True))
    if dbias is not None:
        dbias += ds.sum(0)
    dq, dk = scale * product(ds, k), product(ds.swapaxes(2, 3), q)
    return heads_first(dq), sum_heads(heads_first(dk), G), sum_heads(heads_first(dv), G)
