"""Softmax over the last axis, where some entries may be forbidden."""

import numpy as np

from ..common import Array


def allowed(T: int, S: int, mask: Array | None = None, causal: bool = False, window: int | None = None) -> Array:
    """Which keys each query may attend to: kernels.md (8), opt.md (11).  -> bool, broadcastable to (B, H, T, S).
    The queries are the last T of the S positions, so query i is at position S - T + i. causal: no key after its own
    position. window: only the last `window` keys up to its own. mask (B, S): False hides a key from all queries of that
    sequence (padding). mask (B, T, S), where B may be 1: one mask for each query."""
    distance = np.arange(S - T, S)[:, None] - np.arange(S)  # (T, S): how many positions the key is before the query
    ok = np.ones((1, 1, T, S), bool)
    if causal:
        ok = ok & (distance >= 0)
    if window is not None:
        ok = ok & (distance < window)
    if mask is not None:
        ok = ok & (mask[:, None, None] if mask.ndim == 2 else mask[:, None])
    return ok


def log_sum_exp(x: Array) -> Array:
    """log sum_S exp(x), and -inf for a row that is all -inf.  (..., S) -> (...), in float64 for any dtype of x.
    The maximum keeps exp from overflowing. float32 would round lse to 7 digits, which is too few if x is far from zero:
    a backward computes exp(x - lse), and an error of 0.001 in lse is one of 0.1 % in every probability."""
    top = x.max(-1, keepdims=True, initial=-np.inf)  # (..., 1)
    top = np.where(top == -np.inf, 0, top)
    with np.errstate(divide="ignore"):
        return np.add(top[..., 0], np.log(np.exp(x - top).sum(-1)), dtype=np.float64)


def softmax_forward(x: Array, mask: Array | None = None, causal: bool = False) -> Array:
    """p = exp(x) / sum_S exp(x): gpt.md (14).  x (..., T, S), mask (..., T, S) broadcast or None -> p (..., T, S).
    mask: True where allowed. A row in which nothing is allowed gives zeros."""
    ok = np.bool_(True) if mask is None else mask
    ok = ok & allowed(x.shape[-2], x.shape[-1], causal=True)[0, 0] if causal else ok
    x = np.where(ok, x, -np.inf)
    top = x.max(-1, keepdims=True, initial=-np.inf)  # (..., 1)
    e = np.exp(x - np.where(top == -np.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def softmax_backward(dp: Array, p: Array) -> Array:
    """dx = p (dp - sum_S(dp p)): gpt.md (16).  dp, p (..., T, S) -> dx (..., T, S).
    Subtract the row's weighted mean of dp, then multiply by p."""
    return p * (dp - (dp * p).sum(-1, keepdims=True))
