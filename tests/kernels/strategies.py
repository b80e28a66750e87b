"""What hypothesis draws for each op: one call of it, as a dict of its forward's arguments by name.

An op's names say how its parts belong together: `dy` is the gradient of the output `y`, `dw` of the argument `w`. So this
table and the signatures are enough to call forward and backward of every op in every set (`calls.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinyllm.kernels.activations import ACTIVATIONS
from tinyllm.kernels.common import IGNORE

GUARD = 1e30  # fills what lies between and around the numbers of an array in an odd layout


@dataclass(frozen=True)
class Op:
    """An op's outputs by name; what its backward returns; and where the gradient of an argument has another's name."""

    draw: Callable[[Draw], dict[str, Any]]
    outputs: tuple[str, ...] = ("y",)
    returns: tuple[str, ...] = ("dx",)
    same: dict[str, str] = field(default_factory=dict)


class Draw:
    """Sizes and arrays of one example. `tiny`: few enough numbers for central differences by each of them."""

    def __init__(self, draw: st.DrawFn, dtype: str, tiny: bool):
        self.draw, self.dtype, self.tiny = draw, np.dtype(dtype), tiny
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
        self.count = 1  # of the rows that a loss is the mean of

    def of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def maybe(self) -> bool:
        return self.draw(st.booleans())

    def size(self) -> int:
        """Channels and the like: 1, powers of two, and what is no multiple of a vector or a tile."""
        return self.of(1, 2, 3, 5) if self.tiny else self.of(1, 2, 3, 7, 16, 17, 31, 64, 100, 257)

    def rows(self) -> tuple[int, ...]:
        """Leading axes: one, two or three; none of a row now and then; enough for several threads now and then."""
        if self.tiny:
            return self.of((1,), (3,), (2, 2), (1, 2, 2))
        return self.of((1,), (3,), (0,), (2, 3), (17,), (3, 0), (2, 1, 5), (64,), (300,), (4, 200), (1, 1, 1))

    def normal(self, *shape: int) -> np.ndarray:
        return self.laid_out(self.rng.standard_normal(shape).astype(self.dtype))

    def laid_out(self, array: np.ndarray) -> np.ndarray:
        """The same numbers in memory of an odd layout, nothing of which may be written."""
        odd = in_layout(array, self.of("C", "C", "C", "transposed", "sliced", "reversed", "wide", "offset"))
        odd.flags.writeable = False
        return odd

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        dtype = self.of("int64", "int64", "int32", "uint16")
        return self.laid_out(self.rng.integers(low, high, shape).astype(dtype))

    def bits(self, *shape: int) -> np.ndarray:
        """A mask in which most entries are True, or few; some rows forbid everything."""
        mask = self.rng.random(shape) < self.of(0.2, 0.8)
        if self.maybe():
            mask[self.rng.random(shape[:-1]) < 0.3] = False
        return self.laid_out(mask)


def in_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """A copy of the array as a view with the strides that `layout` names."""
    fill = GUARD if array.dtype.kind == "f" else array.dtype.type(99)
    if layout == "transposed":  # the first axis is the innermost
        return array.T.copy().T
    if layout == "reversed":  # negative strides on all axes
        flipped = np.flip(array)
        return np.flip(flipped.copy())
    if layout == "sliced":  # every second number of the last axis
        base = np.full((*array.shape[:-1], 2 * array.shape[-1]), fill, array.dtype)
        odd = base[..., ::2]
    elif layout == "wide":  # some columns of wider rows, as q, k, v lie in one array
        base = np.full((*array.shape[:-1], array.shape[-1] + 5), fill, array.dtype)
        odd = base[..., 2 : 2 + array.shape[-1]]
    elif layout == "offset":  # contiguous, and not aligned to a vector
        base = np.full(array.size + 2, fill, array.dtype)
        odd = base[1:-1].reshape(array.shape)
    else:
        return array.copy()
    odd[...] = array
    return odd


def linear(d: Draw) -> dict[str, Any]:
    C, F = d.size(), d.size()
    return {"x": d.normal(*d.rows(), C), "w": d.normal(F, C), "b": d.normal(F) if d.maybe() else None}


def linear_activation(d: Draw) -> dict[str, Any]:
    return {**linear(d), "activation": d.of(*ACTIVATIONS)}


def embedding(d: Draw) -> dict[str, Any]:
    V = d.of(1, 3, 5) if d.tiny else d.of(1, 3, 50, 300)  # few: so that tokens repeat
    return {"tokens": d.integers(0, V, *d.rows()), "w": d.normal(V, d.size())}


def position(d: Draw) -> dict[str, Any]:
    B, T, C = d.of(1, 2), d.of(1, 3), d.size()
    if not d.tiny:
        B, T = d.of(0, 1, 4), d.of(1, 7, 100)
    T_max = T + d.of(0, 2)
    shape = d.of((T,), (B, T))
    in_order = d.laid_out(np.broadcast_to(np.arange(T), shape))
    return {
        "x": d.normal(B, T, C),
        "w": d.normal(T_max, C),
        "positions": in_order if d.maybe() else d.integers(0, T_max, *shape),
    }


def rotary(d: Draw) -> dict[str, Any]:
    B, T, H, half = d.of(1, 2), d.of(1, 3), d.of(1, 2), d.of(1, 2)
    if not d.tiny:
        B, T, H, half = d.of(0, 1, 4), d.of(1, 7, 100), d.of(1, 3, 8), d.of(1, 5, 16, 32)
    return {
        "x": d.normal(B, T, H, 2 * half + d.of(0, 0, 1, 4)),
        "positions": d.integers(0, d.of(5, 60_000), *d.of((T,), (B, T))),
        "frequencies": d.laid_out(d.rng.random(half).astype(d.dtype)),
        "scale": d.of(1.0, 1.3),
        "neighbours": d.maybe(),
    }


def rmsnorm(d: Draw) -> dict[str, Any]:
    C = d.size()
    # of one or two channels with a small variance, 1 / sqrt(eps) multiplies the error of differences, and float32's
    eps = d.of(0.1, 0.02) if d.tiny else d.of(1e-3, 0.1) if d.dtype == "float32" else d.of(1e-5, 1e-3)
    return {"x": d.normal(*d.rows(), C), "w": d.normal(C), "eps": eps}


def layernorm(d: Draw) -> dict[str, Any]:
    arguments = rmsnorm(d)
    return {**arguments, "b": d.normal(arguments["x"].shape[-1]) if d.maybe() else None}


def with_branch(norm: Callable[[Draw], dict[str, Any]]) -> Callable[[Draw], dict[str, Any]]:
    def draw(d: Draw) -> dict[str, Any]:
        arguments = norm(d)
        return {**arguments, "f": d.normal(*arguments["x"].shape)}

    return draw


def activation(d: Draw) -> dict[str, Any]:
    x = d.rng.standard_normal((*d.rows(), d.size())) * d.of(1, 5)
    x += np.copysign(0.01, x)  # off relu's corner, where there is no derivative
    return {"x": d.laid_out(x.astype(d.dtype)), "activation": d.of(*ACTIVATIONS)}


def gated(d: Draw) -> dict[str, Any]:
    x = d.rng.standard_normal((*d.rows(), 2 * d.size()))
    x += np.copysign(0.01, x)
    return {"x": d.laid_out(x.astype(d.dtype)), "activation": d.of(*ACTIVATIONS)}


def softmax(d: Draw) -> dict[str, Any]:
    T, S, heads = d.size(), d.size(), d.of((), (1,), (2, 3))
    mask = d.bits(*d.of((T, S), (1, S), (S,), (T, 1), (*heads, T, S))) if d.maybe() else None
    return {"x": d.normal(*heads, T, S), "mask": mask, "causal": d.maybe()}


def attention(d: Draw) -> dict[str, Any]:
    B, G, repeats, D = d.of(1, 2), d.of(1, 2), d.of(1, 3), d.of(1, 3)
    T, S = d.of(1, 2, 4), d.of(1, 3, 5)
    if not d.tiny:
        D, T, S = d.of(1, 7, 16, 33, 64, 128), d.of(1, 5, 17, 33), d.of(1, 4, 17, 33)
        if d.maybe():  # several blocks of queries and of keys, and few of everything else
            B, G, D, T, S = 1, 1, d.of(1, 7, 16), d.of(64, 130, 200), d.of(64, 130, 200)
    if d.maybe():
        S = T  # self-attention, the common case
    H = G * repeats
    masks = {"none": None, "padding": (B, S), "queries": (B, T, S), "all alike": (1, T, S)}
    shape = masks[d.of(*masks)]
    return {
        "q": d.normal(B, T, H, D),
        "k": d.normal(B, S, G, D),
        "v": d.normal(B, S, G, D),
        "mask": None if shape is None else d.bits(*shape),
        "causal": d.maybe(),
        "window": d.of(None, None, 1, 3, 40),
        "scale": d.of(None, 0.7),
        "bias": d.normal(H, T, S) if d.maybe() else None,
        "dropout": d.of(0.0, 0.0, 0.3),
        "seed": d.draw(st.integers(0, 2**64 - 1)),
    }


def relative_bias(d: Draw) -> dict[str, Any]:
    T, S = d.of((1, 1), (2, 2), (1, 4), (2, 3)) if d.tiny else d.of((1, 1), (64, 64), (1, 130), (7, 33), (150, 150))
    n_buckets, max_distance = d.of((4, 3), (7, 4), (8, 100), (32, 128))
    return {
        "w": d.normal(n_buckets, d.of(1, 3)),
        "T": T,
        "S": S,
        "bidirectional": d.maybe(),
        "max_distance": max_distance,
    }


def dropout(d: Draw) -> dict[str, Any]:
    rate = d.draw(st.sampled_from((0.0, 0.1, 0.5)) | st.floats(0, 0.95))
    return {"x": d.normal(*d.rows(), d.size()), "rate": rate, "seed": d.draw(st.integers(0, 2**64 - 1))}


def targets(d: Draw, V: int, *shape: int) -> np.ndarray:
    t = d.rng.integers(0, V, shape)
    t[d.rng.random(shape) < d.of(0, 0.3, 1)] = IGNORE  # none, some, all ignored
    d.count = max(1, int((t != IGNORE).sum()))
    return d.laid_out(t.astype(d.of("int64", "int32")))


def cross_entropy(d: Draw) -> dict[str, Any]:
    rows, V = d.rows(), d.size()
    return {
        "logits": d.normal(*rows, V),
        "targets": targets(d, V, *rows),
        "label_smoothing": d.of(0.0, 0.1),
        "class_weight": d.laid_out((d.rng.random(V) + 0.1).astype(d.dtype)) if d.maybe() else None,
    }


def linear_cross_entropy(d: Draw) -> dict[str, Any]:
    arguments = linear(d)
    rows, V = arguments["x"].shape[:-1], arguments["w"].shape[0]
    return {**arguments, "targets": targets(d, V, *rows), "label_smoothing": d.of(0.0, 0.1)}


def squared_error(d: Draw) -> dict[str, Any]:
    shape = *d.rows(), d.size()
    return {"x": d.normal(*shape), "targets": d.normal(*shape)}


OPS = {
    "linear": Op(linear),
    "linear_activation": Op(linear_activation, ("y", "u")),
    "embedding": Op(embedding, returns=()),
    "position": Op(position, returns=(), same={"x": "dy"}),
    "rotary": Op(rotary),
    "layernorm": Op(layernorm, ("y", "mean", "rstd")),
    "add_layernorm": Op(with_branch(layernorm), ("x", "y", "mean", "rstd"), same={"f": "dx"}),
    "rmsnorm": Op(rmsnorm, ("y", "rstd")),
    "add_rmsnorm": Op(with_branch(rmsnorm), ("x", "y", "rstd"), same={"f": "dx"}),
    "activation": Op(activation),
    "gated": Op(gated),
    "softmax": Op(softmax, ("p",)),
    "attention": Op(attention, ("y", "lse"), ("dq", "dk", "dv")),
    "relative_bias": Op(relative_bias, ("bias",), returns=()),
    "dropout": Op(dropout),
    "cross_entropy": Op(cross_entropy, ("loss", "lse"), ("dlogits",)),
    "linear_cross_entropy": Op(linear_cross_entropy, ("loss", "lse", "logits")),
    "squared_error": Op(squared_error, ("loss",), ("dx",)),
}


@st.composite
def calls(draw: st.DrawFn, op: str, dtype: str = "float64", tiny: bool = False) -> tuple[Draw, dict[str, Any]]:
    """One call of the op: its forward's arguments by name, and the Draw from which to take cotangents."""
    d = Draw(draw, dtype, tiny)
    return d, OPS[op].draw(d)
