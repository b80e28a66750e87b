"""Layer normalisation (Ba, Kiros & Hinton 2016) and RMS normalisation (Zhang & Sennrich 2019).

Each row has its own statistics, over C. The `add_` ops first add a residual branch f to x, as a transformer does."""

import numpy as np

from ..common import Array
from .linear import rows


def layernorm_forward(x: Array, w: Array, b: Array | None = None, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """y = n w + b with n = (x - mean) rstd: gpt.md (8).
    x (N, C), w (C,), b (C,) or None -> y (N, C), mean (N,), rstd (N,)."""
    mean = x.mean(-1)  # (N,)
    rstd = 1 / np.sqrt(x.var(-1) + eps)  # (N,)
    n = (x - mean[..., None]) * rstd[..., None]  # (N, C)
    y = n * w
    return y if b is None else y + b, mean, rstd


def layernorm_backward(dy: Array, x: Array, w: Array, mean: Array, rstd: Array,
                       dw: Array | None = None, db: Array | None = None) -> Array:  # fmt: skip
    """dw += sum_N dy n,  db += sum_N dy,  and with dn = dy w:  dx = rstd (dn - mean_C(dn) - n mean_C(dn n)): gpt.md (10).
    dy (N, C), x (N, C), w (C,), mean (N,), rstd (N,), dw (C,) or None, db (C,) or None -> dx (N, C).
    The two means flow back through mean and rstd. They make dx orthogonal to 1 and to n."""
    n = (x - mean[..., None]) * rstd[..., None]  # recomputed: cheaper than keeping (N, C)
    if dw is not None:
        dw += rows(dy * n).sum(0)
    if db is not None:
        db += rows(dy).sum(0)
    dn = dy * w  # (N, C)
    return rstd[..., None] * (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True))


def add_layernorm_forward(x: Array, f: Array, w: Array, b: Array | None = None,
                          eps: float = 1e-5) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """x' = x + f, y = layernorm(x'): gpt.md (23), (8).
    x, f (N, C), w (C,), b (C,) or None -> x' (N, C), y (N, C), mean (N,), rstd (N,)."""
    x = x + f
    return x, *layernorm_forward(x, w, b, eps)


def add_layernorm_backward(dy: Array, dx: Array | None, x: Array, w: Array, mean: Array, rstd: Array,
                           dw: Array | None = None, db: Array | None = None) -> Array:  # fmt: skip
    """df = dx + layernorm_backward(dy), the gradient of both x and f: gpt.md (10), (23).
    dy (N, C), dx (N, C) or None, x (N, C), w (C,), mean (N,), rstd (N,), dw (C,) or None, db (C,) or None -> df (N, C).
    x is the sum. dx is the gradient that it gets from everything except y. Pass None if it has no other use."""
    through_norm = layernorm_backward(dy, x, w, mean, rstd, dw, db)
    return through_norm if dx is None else dx + through_norm


def rmsnorm_forward(x: Array, w: Array, eps: float = 1e-6) -> tuple[Array, Array]:
    """y = n w, n = x rstd, rstd = 1 / sqrt(mean_C(x^2) + eps): llama.md (2).  x (N, C), w (C,) -> y (N, C), rstd (N,)."""
    rstd = 1 / np.sqrt((x * x).mean(-1) + eps)  # (N,)
    n = x * rstd[..., None]  # (N, C)
    return n * w, rstd


def rmsnorm_backward(dy: Array, x: Array, w: Array, rstd: Array, dw: Array | None = None) -> Array:
    """dw += sum_N dy n,  and with dn = dy w:  dx = rstd (dn - n mean_C(dn n)): llama.md (4).
    dy (N, C), x (N, C), w (C,), rstd (N,), dw (C,) or None -> dx (N, C)."""
    n = x * rstd[..., None]  # (N, C)
    if dw is not None:
        dw += rows(dy * n).sum(0)
    dn = dy * w  # (N, C)
    return rstd[..., None] * (dn - n * (dn * n).mean(-1, keepdims=True))


def add_rmsnorm_forward(x: Array, f: Array, w: Array, eps: float = 1e-6) -> tuple[Array, Array, Array]:
    """x' = x + f, y = rmsnorm(x'): gpt.md (23), llama.md (2).  x, f (N, C), w (C,) -> x' (N, C), y (N, C), rstd (N,)."""
    x = x + f
    return x, *rmsnorm_forward(x, w, eps)


def add_rmsnorm_backward(dy: Array, dx: Array | None, x: Array, w: Array, rstd: Array, dw: Array | None = None) -> Array:
    """df = dx + rmsnorm_backward(dy), as in add_layernorm_backward: llama.md (4), gpt.md (23).
    dy (N, C), dx (N, C) or None, x (N, C), w (C,), rstd (N,), dw (C,) or None -> df (N, C)."""
    through_norm = rmsnorm_backward(dy, x, w, rstd, dw)
    return through_norm if dx is None else dx + through_norm
