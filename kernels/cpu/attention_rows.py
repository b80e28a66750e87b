"""Attention, one query at a time: what each row of the scores goes through, and the plain way to compute whole heads.

A row's functions are shared with attention_tiles.py: they differ only in how the products around them are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, prange, types
from numba.extending import intrinsic

from .arrays import share
from .dropout import GOLDEN_WORD, mix, row_key
from .few_rows import ask_for
from .jit import hold, jit, parallel_jit
from .vmath import exp, maximum, minus, two_parts

AHEAD = 8  # positions


def _address_as_pointer(context: Any, address: Any, like: Any) -> Any:
    """_pointer(address, like): the address of numbers of the array's type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), codegen


_pointer: Any = intrinsic(_address_as_pointer)


def readable(x):
    """x (B, T, H, D), or a copy if kernels cannot read it by its strides: the D numbers of a head must be side by side."""
    if (x.strides[3] == x.itemsize or x.shape[3] == 1) and x.flags.aligned:
        return x
    return np.array(x, order="C")


def address_of(x):
    """Where the array's first number is. (x.ctypes.data takes twice as long.)"""
    return x.__array_interface__["data"][0]


def place(x):
    """x (B, T, H, D) for a kernel: address of the first number, and the strides of the first three axes, in bytes."""
    return _place(hold(x))


@jit
def _place(x):
    b, s, h, _ = x.strides
    return x.ctypes.data, b, s, h


@jit(forceinline=True)
def numbers(place, b, s, h, D, like):
    """The D numbers of head h at position s of sequence b, as an array."""
    return carray(_pointer(place[0] + b * place[1] + s * place[2] + h * place[3], like), D)


@jit
def visible(t, T, S, causal, window):
    """The keys [first, last) that query t may see by its position, S - T + t."""
    position = S - T + t
    last = min(S, position + 1) if causal else S
    return max(0, position - window + 1), max(0, last)


@jit
def hide(x, allowed):
    """-inf where the mask forbids."""
    for s in range(len(x)):
        x[s] = x[s] if allowed[s] else -np.inf


@jit
def add(x, y):
    for s in range(len(x)):
        x[s] += y[s]


@jit
def set_zero(x):
    for s in range(len(x)):
        x[s] = 0


@jit
def multiply(x, factor):
    for s in range(len(x)):
        x[s] *= factor


@jit(forceinline=True)
def dot(a, b):
    total = type(a[0])(0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@jit(forceinline=True)
def add_scaled(y, a, x):
    """y += a x."""
    for d in range(len(y)):
        y[d] += a * x[d]


@jit(forceinline=True)
def softmax_row(x):
    """x becomes exp(x - max) -> 1 / sum, lse; zeros, 0 and -inf where every score is -inf."""
    zero = x.dtype.type(0)
    top = x.dtype.type(-np.inf)
    for s in range(len(x)):
        top = maximum(top, x[s])
    top = zero if top == -np.inf else top  # which may be a row of NaN
    total = zero
    for s in range(len(x)):
        e = exp(x[s] - top)
        x[s] = e
        total += e
    if total == 0:
        return zero, -np.inf
    return x.dtype.type(1) / total, np.float64(top) + np.log(np.float64(total))


@jit
def drop(x, key, first, threshold, factor):
    """Dropout of the row's numbers, which stand in columns first, first + 1, ..."""
    for s in range(len(x)):
        kept = mix(np.uint32(key + np.uint32(np.uint32(first + s) * GOLDEN_WORD))) >= threshold
        x[s] = x[s] * factor if kept else x[s] * 0


@jit(forceinline=True)
def weights_row(x, lse):
    """x becomes exp(x - lse): the softmax again."""
    if lse == -np.inf:
        set_zero(x)
        return
    high, low = two_parts(lse, x)
    for s in range(len(x)):
        x[s] = exp(minus(x[s], high, low))


@jit(forceinline=True)
def scores_gradient(p, dp, delta):
    """dp becomes p (dp - delta), the gradient of the scores; delta = sum_S(dp p) = sum_D(dy y)."""
    for s in range(len(p)):
        dp[s] = p[s] * (dp[s] - delta)


@jit
def masked(x, b, h, t, first, last, mask, bias):
    """Adds the bias to the scores of keys [first, last) and hides what the mask forbids."""
    if bias.size:
        add(x[first:last], bias[h, t, first:last])
    if mask.size:
        hide(x[first:last], mask[b % mask.shape[0], t % mask.shape[1], first:last])


@jit
def ask_for_position(place, b, s, first, last, size):
    """Position s of sequence b, heads first ... last - 1 of so many bytes, for the second-level cache."""
    for g in range(first, last):
        ask_for(place[0] + b * place[1] + s * place[2] + g * place[3], size)


@jit
def _scores(x, query, k, scale, b, h, g, t, first, last, mask, bias):
    for s in range(first, last):
        x[s] = dot(query, numbers(k, b, s, g, len(query), x)) * scale
    masked(x, b, h, t, first, last, mask, bias)


@parallel_jit
def forward_rows(q, k, v, y, lse, sizes, options, mask, bias, end, threads):
    """y and lse of all heads; q, k, v: places, the rest as attention.py prepares them; end: how many keys, if not all S.

    A thread takes its heads together, as they lie in memory, through all keys and then through all values, and asks for what
    it needs AHEAD positions before: each is somewhere else.
    """
    B, T, S, H, G, D = sizes
    causal, window, scale, threshold, factor, low, high = options
    S = end[0] if end.size else S
    for thread in prange(threads):
        x, group = np.empty((H, S), y.dtype), np.arange(H) * G // H
        start, stop = share(thread, threads, B * H)
        for b in range(start // H, (stop + H - 1) // H):
            h0, h1 = max(start - b * H, 0), min(stop - b * H, H)
            g0, g1, size = group[h0], group[h1 - 1] + 1, D * x.itemsize
            for t in range(T):
                first, last = visible(t, T, S, causal, window)
                for s in range(first, last):
                    if s + AHEAD < last:
                        ask_for_position(k, b, s + AHEAD, g0, g1, size)
                    else:
                        ask_for_position(v, b, s + AHEAD - last + first, g0, g1, size)
                    for h in range(h0, h1):
                        x[h, s] = dot(numbers(q, b, t, h, D, x), numbers(k, b, s, group[h], D, x)) * scale
                for h in range(h0, h1):
                    row = x[h, first:last]
                    masked(x[h], b, h, t, first, last, mask, bias)
                    inverse, lse[b, h, t] = softmax_row(row)
                    if threshold:
                        drop(row, row_key((b * H + h) * T + t, low, high), first, threshold, factor)
                    multiply(row, inverse)
                    set_zero(y[b, t, h])
                for s in range(first, last):
                    if s + AHEAD < last:
                        ask_for_position(v, b, s + AHEAD, g0, g1, size)
                    for h in range(h0, h1):
                        add_scaled(y[b, t, h], x[h, s], numbers(v, b, s, group[h], D, x))


@parallel_jit
def backward_rows(q, k, v, dy, y, dq, dk, dv, lse, sizes, options, mask, bias, dbias, threads):
    """dq, dk, dv written, dbias added to; the arrays as places, the rest as attention.py prepares them."""
    B, T, S, H, G, D = sizes
    causal, window, scale, threshold, factor, low, high = options
    together = B if dbias.size else 1  # dbias sums over the batch: one thread has a head's whole batch
    tasks = B * G // together
    for thread in prange(threads):
        p, dp = np.empty(S, bias.dtype), np.empty(S, bias.dtype)
        for task in range(thread * tasks // threads * together, (thread + 1) * tasks // threads * together):
            g, b = task // B, task % B
            for s in range(S):
                set_zero(numbers(dk, b, s, g, D, p))
                set_zero(numbers(dv, b, s, g, D, p))
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for t in range(T):
                    query, dout, dquery = numbers(q, b, t, h, D, p), numbers(dy, b, t, h, D, p), numbers(dq, b, t, h, D, p)
                    set_zero(dquery)
                    first, last = visible(t, T, S, causal, window)
                    if first >= last:
                        continue
                    _scores(p, query, k, scale, b, h, g, t, first, last, mask, bias)
                    weights_row(p[first:last], lse[b, h, t])
                    for s in range(first, last):
                        dp[s] = dot(dout, numbers(v, b, s, g, D, p))
                    key = row_key((b * H + h) * T + t, low, high)
                    if threshold:
                        drop(dp[first:last], key, first, threshold, factor)
                    scores_gradient(p[first:last], dp[first:last], dot(dout, numbers(y, b, t, h, D, p)))
                    if dbias.size:
                        add(dbias[h, t, first:last], dp[first:last])
                    if threshold:
                        drop(p[first:last], key, first, threshold, factor)
                    for s in range(first, last):
                        add_scaled(dquery, dp[s] * scale, numbers(k, b, s, g, D, p))
                        add_scaled(numbers(dk, b, s, g, D, p), dp[s] * scale, query)
                        add_scaled(numbers(dv, b, s, g, D, p), p[s], dout)
