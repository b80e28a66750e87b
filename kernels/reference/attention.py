"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), over heads, with every mask that the five models use."""

from __future__ import annotations

import math

import numpy as np

from .bfloat16 import product
from .dropout import dropout_backward, dropout_forward
from .softmax import allowed


def repeat_heads(k, H):
    """Each of the G key/value heads serves H/G query heads in a row.  (B, S, G, D) -> (B, S, H, D)."""
    return np.repeat(k, H // k.shape[2], axis=2)


def sum_heads(dk, G):
    """The backward of repeat_heads: what went to H/G heads comes back as a sum.  (B, S, H, D) -> (B, S, G, D)."""
    B, S, H, D = dk.shape
    return dk.reshape(B, S, G, H // G, D).sum(3)


def heads(x):
    """(B, T, H, D) -> (B, H, T, D), and back: the matrices of products stand last."""
    return x.swapaxes(1, 2)


def scores(q, k, ok, bias):
    """q k^T + bias, -inf where not allowed.  q, k (B, H, T or S, D) -> (B, H, T, S)."""
    x = product(q, k.swapaxes(2, 3))
    if bias is not None:
        x = x + bias
    return x if ok is None else np.where(ok, x, x.dtype.type(-np.inf))


def attention_forward(q, k, v, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0):
    """y = dropout(softmax(scale q k^T + bias)) v, for each head.

    q (B, T, H, D), k and v (B, S, G, D), H a multiple of G; mask, causal, window as `softmax.allowed` says; scale
    1 / sqrt(D) by default; bias (H, T, S) or None -> y (B, T, H, D), lse (B, H, T): the logarithm of each softmax's
    denominator, all that the backward needs to compute the weights again. A query that may see nothing gives zeros, and
    its lse is -inf. The denominator divides at the end, as in the fused sets: what is rounded in bfloat16 is exp(x - max).
    """
    (T, H, D), S = q.shape[1:], k.shape[1]
    q = q * q.dtype.type(1 / math.sqrt(D) if scale is None else scale)
    x = scores(heads(q), heads(repeat_heads(k, H)), allowed(T, S, mask, causal, window), bias)  # (B, H, T, S)
    top = np.maximum(x.max(-1, initial=-np.inf), np.finfo(x.dtype).min)  # finite, for rows that see nothing
    e = np.exp(x - top[..., None])
    total = e.sum(-1)  # (B, H, T): at least 1, or 0
    y = product(dropout_forward(e, dropout, seed) if dropout else e, heads(repeat_heads(v, H)))
    with np.errstate(divide="ignore"):
        return heads(y / np.maximum(total, 1)[..., None]), top + np.log(total)


def weights(x, lse):
    """softmax from scores and their log-sum-exp; zeros where a query sees nothing."""
    return np.exp(x - np.where(np.isfinite(lse), lse, 0)[..., None])


def attention_backward(
    dy, q, k, v, y, lse,
    mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0, dbias=None,
):  # fmt: skip
    """dq (B, T, H, D), dk and dv (B, S, G, D); adds into dbias (H, T, S).

    With x = scale q k^T + bias, p = softmax(x), y = p v:
    dv = p^T dy,  dp = dy v^T,  dx = p (dp - sum_S(dp p)),  dq = scale dx k,  dk = scale dx^T q,  dbias = sum_B dx.
    sum_S(dp p) is sum_D(dy y), which the output gives (Dao et al. 2022, appendix B).
    With dropout, y = drop(p) v, so dv takes drop(p), and dp goes back through the same mask.
    """
    (T, H, D), (S, G) = q.shape[1:], k.shape[1:3]
    scale = q.dtype.type(1 / math.sqrt(D) if scale is None else scale)
    dy, q, k, v, y = (heads(a) for a in (dy, q * scale, repeat_heads(k, H), repeat_heads(v, H), y))
    p = weights(scores(q, k, allowed(T, S, mask, causal, window), bias), lse)  # (B, H, T, S)
    dv = product((dropout_forward(p, dropout, seed) if dropout else p).swapaxes(2, 3), dy)
    dp = product(dy, v.swapaxes(2, 3))
    dp = dropout_backward(dp, dropout, seed) if dropout else dp
    dx = p * (dp - (dy * y).sum(-1, keepdims=True))
    if dbias is not None:
        dbias += dx.sum(0)
    dq = scale * product(dx, k)
    dk = product(dx.swapaxes(2, 3), q)
    return heads(dq), sum_heads(heads(dk), G), sum_heads(heads(dv), G)


def attention_step(q, keys, values, end, mask=None, causal=False, window=None, scale=None, bias=None):
    """attention_forward's y for the first `end` of the keys and values (B, S, G, D); end: an int64 (1,), at most S.

    mask (B, S) or (B, T, S) and bias (H, T, S) have room for all S. For the few queries of a step of decoding (step.py).
    """
    there, mask = slice(0, int(end[0])), None if mask is None else mask[..., : end[0]]
    bias = None if bias is None else bias[..., : end[0]]
    return attention_forward(q, keys[:, there], values[:, there], mask, causal, window, scale, bias)[0]
