"""Linear maps, y = x w^T + b. Each row of w is one output feature, of which there are F, as PyTorch stores them."""

from ..common import Array
from .activation import FUNCTIONS, activation_backward


def rows(x: Array) -> Array:
    """All leading axes as one: (..., C) -> (N, C)."""
    return x.reshape(-1, x.shape[-1])


def linear_forward(x: Array, w: Array, b: Array | None = None) -> Array:
    """y = x w^T + b: gpt.md (6).  x (N, C), w (F, C), b (F,) or None -> y (N, F)."""
    y = x @ w.T
    return y if b is None else y + b


def linear_backward(dy: Array, x: Array, w: Array, dw: Array | None = None, db: Array | None = None) -> Array:
    """dx = dy w,  dw += dy^T x,  db += sum_N dy: gpt.md (7).
    dy (N, F), x (N, C), w (F, C), dw (F, C) or None, db (F,) or None -> dx (N, C)."""
    if dw is not None:
        dw += rows(dy).T @ rows(x)
    if db is not None:
        db += rows(dy).sum(0)
    return dy @ w


def linear_activation_forward(x: Array, w: Array, b: Array | None = None, activation: str = "gelu") -> tuple[Array, Array]:
    """u = x w^T + b, y = act(u): gpt.md (6), (11).  x (N, C), w (F, C), b (F,) or None -> y (N, F), u (N, F)."""
    u = linear_forward(x, w, b)
    act, _ = FUNCTIONS[activation]
    return act(u), u


def linear_activation_backward(dy: Array, x: Array, w: Array, u: Array, dw: Array | None = None, db: Array | None = None,
                               activation: str = "gelu") -> Array:  # fmt: skip
    """du = dy act'(u), then as in linear_backward: gpt.md (11), (7).
    dy (N, F), x (N, C), w (F, C), u (N, F), dw (F, C) or None, db (F,) or None -> dx (N, C)."""
    du = activation_backward(dy, u, activation)
    return linear_backward(du, x, w, dw, db)
