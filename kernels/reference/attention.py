"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), over heads, with every mask that the five models use."""

from __future__ import annotations

import math

import numpy as np

from .dropout import dropout_backward, dropout_forward
from .softmax import allowed, softmax_backward


def repeat_heads(k, H):
    """Each of the G key/value heads serves H/G query heads in a row.  (B, S, G, D) -> (B, S, H, D)."""
    return np.repeat(k, H // k.shape[2], axis=2)


def sum_heads(dk, G):
    """The backward of repeat_heads: what went to H/G heads comes back as a sum.  (B, S, H, D) -> (B, S, G, D)."""
    B, S, H, D = dk.shape
    return dk.reshape(B, S, G, H // G, D).sum(3)


def scores(q, k, ok, scale, bias):
    """scale q k^T + bias, -inf where not allowed.  -> (B, H, T, S)."""
    x = np.einsum("bthd,bshd->bhts", q, k) * q.dtype.type(scale)
    if bias is not None:
        x = x + bias
    return x if ok is None else np.where(ok, x, x.dtype.type(-np.inf))


def attention_forward(q, k, v, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0):
    """y = dropout(softmax(scale q k^T + bias)) v, for each head.

    q (B, T, H, D), k and v (B, S, G, D), H a multiple of G; mask, causal, window as `softmax.allowed` says; scale
    1 / sqrt(D) by default; bias (H, T, S) or None -> y (B, T, H, D), lse (B, H, T): the logarithm of each softmax's
    denominator, all that the backward needs to compute the weights again. A query that may see nothing gives zeros, and
    its lse is -inf.
    """
    (T, H, D), S = q.shape[1:], k.shape[1]
    scale = 1 / math.sqrt(D) if scale is None else scale
    x = scores(q, repeat_heads(k, H), allowed(T, S, mask, causal, window), scale, bias)  # (B, H, T, S)
    top = np.maximum(x.max(-1, initial=-np.inf), np.finfo(x.dtype).min)  # finite, for rows that see nothing
    with np.errstate(divide="ignore"):
        lse = top + np.log(np.exp(x - top[..., None]).sum(-1))  # (B, H, T)
    p = weights(x, lse)
    y = np.einsum("bhts,bshd->bthd", dropout_forward(p, dropout, seed) if dropout else p, repeat_heads(v, H))
    return y, lse


def weights(x, lse):
    """softmax from scores and their log-sum-exp; zeros where a query sees nothing."""
    return np.exp(x - np.where(np.isfinite(lse), lse, 0)[..., None])


def attention_backward(
    dy, q, k, v, y, lse,
    mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0, dbias=None, out=None,
):  # fmt: skip
    """dq (B, T, H, D), dk and dv (B, S, G, D); adds into dbias (H, T, S).  out: (dq, dk, dv), arrays to write them into.

    With x = scale q k^T + bias, p = softmax(x), y = p v:
    dv = p^T dy,  dp = dy v^T,  dx = p (dp - sum_S(dp p)),  dq = scale dx k,  dk = scale dx^T q,  dbias = sum_B dx.
    With dropout, y = drop(p) v, so dv takes drop(p), and dp goes back through the same mask.
    (sum_S(dp p) = sum_D(dy y): the fused sets take it from the output, Dao et al. 2022, appendix B.)
    """
    (T, H, D), (S, G) = q.shape[1:], k.shape[1:3]
    scale = 1 / math.sqrt(D) if scale is None else scale
    k, v = repeat_heads(k, H), repeat_heads(v, H)
    p = weights(scores(q, k, allowed(T, S, mask, causal, window), scale, bias), lse)  # (B, H, T, S)
    dv = np.einsum("bhts,bthd->bshd", dropout_forward(p, dropout, seed) if dropout else p, dy)
    dp = np.einsum("bthd,bshd->bhts", dy, v)
    dx = softmax_backward(dropout_backward(dp, dropout, seed) if dropout else dp, p)
    if dbias is not None:
        dbias += dx.sum(0)
    dx = dx * q.dtype.type(scale)
    dq = np.einsum("bhts,bshd->bthd", dx, k)
    dk = np.einsum("bhts,bthd->bshd", dx, q)
    gradients = dq, sum_heads(dk, G), sum_heads(dv, G)
    if out is None:
        return gradients
    for written, gradient in zip(out, gradients):
        written[...] = gradient
    return out
