"""Softmax over the last axis, where some entries may be forbidden."""

from __future__ import annotations

import numpy as np


def allowed(T, S, mask=None, causal=False, window=None):
    """Which keys each query may see: bool, broadcastable to (B, H, T, S); None where all may be seen.

    The queries are the last T of the S positions, so query t stands at S - T + t. Causal: it sees no key behind its own
    position. window: it sees only the last `window` keys up to its own. mask (B, S): False hides a key from all queries of
    that row of the batch (padding); mask (B, T, S), B may be 1: for each query on its own.
    """
    ok = None
    distance = np.arange(S - T, S)[:, None] - np.arange(S)  # (T, S): how far key s lies before query t
    if causal:
        ok = (distance >= 0)[None, None]
    if window is not None:
        near = (distance < window)[None, None]
        ok = near if ok is None else ok & near
    if mask is not None:
        mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        ok = mask if ok is None else ok & mask
    return ok


def softmax_forward(x, mask=None, causal=False):
    """y_s = exp(x_s) / sum_S exp(x).  x (..., T, S); mask bool (True: allowed), of x's shape or broadcast to it -> y.

    The maximum is subtracted first, so that nothing overflows. A row in which nothing is allowed gives zeros.
    """
    ok = np.ones((1, 1), bool) if mask is None else mask
    if causal:
        T, S = x.shape[-2:]
        ok = ok & allowed(T, S, causal=True)[0, 0]
    top = np.max(x, -1, keepdims=True, where=ok, initial=-np.inf)
    e = np.where(ok, np.exp(np.where(ok, x, top) - np.where(np.isfinite(top), top, 0)), 0).astype(x.dtype)
    total = e.sum(-1, keepdims=True)
    return e / np.where(total > 0, total, 1)


def softmax_backward(dy, y):
    """dx = y (dy - sum_S(dy y)): an entry gains what its gradient lies above the row's mean of it, weighted by y."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))
