"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), over heads, with every mask that the five models use."""

import math

import numpy as np

from ..common import Array, used_positions
from .dropout import dropout_backward, dropout_forward
from .softmax import allowed, log_sum_exp, softmax_forward


def repeat_heads(k: Array, H: int) -> Array:
    """Give each of the G key/value heads to H/G query heads: llama.md (15).  (B, S, G, D) -> (B, S, H, D)."""
    return np.repeat(k, H // k.shape[2], axis=2)


def sum_heads(dk: Array, G: int) -> Array:
    """The backward of repeat_heads, a sum over H/G heads: llama.md (16).  (B, S, H, D) -> (B, S, G, D)."""
    B, S, H, D = dk.shape
    return dk.reshape(B, S, G, H // G, D).sum(3)


def attention_forward(
    q: Array, k: Array, v: Array, mask: Array | None = None, causal: bool = False, window: int | None = None,
    scale: float | None = None, bias: Array | None = None, dropout: float = 0.0, seed: int = 0,
) -> tuple[Array, Array]:  # fmt: skip
    """s = scale q k^T + bias, p = softmax(s), y = p v, for each head: gpt.md (14), t5.md (5).
    q (B, T, H, D), k, v (B, S, G, D), mask (B, S), (1, T, S), (B, T, S) or None, bias (H, T, S) or None
    -> y (B, T, H, D), lse (B, H, T) in float64.

    H is a multiple of G. scale is 1 / sqrt(D) by default. mask, causal, window: see `allowed`. A query that may attend to
    nothing gives zeros, and its lse is -inf. lse, the logarithm of each softmax's denominator, is all that the backward
    needs to compute p again.
    """
    (T, H, D), S = q.shape[1:], k.shape[1]
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    q, k, v = (a.swapaxes(1, 2) for a in (q, repeat_heads(k, H), repeat_heads(v, H)))  # (B, H, T or S, D)
    s = scale * q @ k.swapaxes(2, 3) + (0 if bias is None else bias)  # (B, H, T, S)
    s = np.where(allowed(T, S, mask, causal, window), s, -np.inf)
    p = softmax_forward(s)
    p = dropout_forward(p, dropout, seed) if dropout else p
    y = p @ v  # (B, H, T, D)
    return y.swapaxes(1, 2), log_sum_exp(s)


def attention_backward(
    dy: Array, q: Array, k: Array, v: Array, y: Array, lse: Array, mask: Array | None = None, causal: bool = False,
    window: int | None = None, scale: float | None = None, bias: Array | None = None, dropout: float = 0.0, seed: int = 0,
    dbias: Array | None = None) -> tuple[Array, Array, Array]:  # fmt: skip
    """dv = p^T dy,  dp = dy v^T,  ds = p (dp - delta),  dq = scale ds k,  dk = scale ds^T q: gpt.md (15), (16), (17).
    dy (B, T, H, D), q (B, T, H, D), k, v (B, S, G, D), y (B, T, H, D), lse (B, H, T), mask (B, S), (1, T, S), (B, T, S) or
    None, bias (H, T, S) or None, dbias (H, T, S) or None -> dq (B, T, H, D), dk (B, S, G, D), dv (B, S, G, D).

    delta = sum_S(dp p), which is sum_D(dy y): gpt.md (18), so the output gives it without dp (Dao et al. 2022).
    dbias += sum_B ds: t5.md (6). With dropout y = drop(p) v, so dv takes drop(p), and dp goes through the same mask.
    """
    (T, H, D), (S, G) = q.shape[1:], k.shape[1:3]
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    dy, q, k, v, y = (a.swapaxes(1, 2) for a in (dy, q, repeat_heads(k, H), repeat_heads(v, H), y))  # (B, H, T or S, D)
    s = scale * q @ k.swapaxes(2, 3) + (0 if bias is None else bias)  # (B, H, T, S)
    s = np.where(allowed(T, S, mask, causal, window), s, -np.inf)
    p = np.exp(s - np.where(lse == -np.inf, 0, lse)[..., None]).astype(q.dtype)  # softmax_forward(s)
    dv = (dropout_forward(p, dropout, seed) if dropout else p).swapaxes(2, 3) @ dy  # (B, H, S, D)
    dp = dy @ v.swapaxes(2, 3)  # (B, H, T, S)
    dp = dropout_backward(dp, dropout, seed) if dropout else dp
    delta = (dy * y).sum(-1, keepdims=True)  # (B, H, T, 1)
    ds = p * (dp - delta)
    dq = scale * ds @ k  # (B, H, T, D)
    dk = scale * ds.swapaxes(2, 3) @ q  # (B, H, S, D)
    if dbias is not None:
        dbias += ds.sum(0)
    return dq.swapaxes(1, 2), sum_heads(dk.swapaxes(1, 2), G), sum_heads(dv.swapaxes(1, 2), G)


def attention_step(
    q: Array, keys: Array, values: Array, end: Array, mask: Array | None = None, causal: bool = False,
    window: int | None = None, scale: float | None = None, bias: Array | None = None) -> Array:  # fmt: skip
    """attention_forward's y for the first `end` of the keys and values, which have room for S (step.py): gpt.md (27).
    q (B, T, H, D), keys, values (B, S, G, D), end (1,), mask (B, S), (1, T, S), (B, T, S) or None, bias (H, T, S) or None
    -> y (B, T, H, D)."""
    n = used_positions(end, q.shape[1], keys.shape[1])
    mask, bias = (None if a is None else a[..., :n] for a in (mask, bias))
    y, _ = attention_forward(q, keys[:, :n], values[:, :n], mask, causal, window, scale, bias)
    return y
