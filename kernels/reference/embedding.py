"""Tables of vectors: one for each token, and one for each position, which is added to it (GPT, BERT, OPT)."""

import numpy as np

from ..common import Array
from .linear import rows


def embedding_forward(tokens: Array, w: Array) -> Array:
    """y = w[tokens]: gpt.md (1).  tokens (N,) ints in [0, V), w (V, C) -> y (N, C)."""
    return w[tokens]


def embedding_backward(dy: Array, tokens: Array, dw: Array) -> None:
    """dw[tokens] += dy: gpt.md (21).  dy (N, C), tokens (N,), dw (V, C) -> None.  A token that occurs twice gets both."""
    np.add.at(dw, tokens.reshape(-1), rows(dy))


def position_forward(x: Array, w: Array, positions: Array) -> Array:
    """y = x + w[positions]: gpt.md (1), opt.md (1).  x (B, T, C), w (T_max, C), positions (T,) or (B, T) -> y (B, T, C)."""
    return x + w[positions]


def position_backward(dy: Array, positions: Array, dw: Array) -> None:
    """dw[positions] += dy: opt.md (2), bert.md (2).  dx is dy itself.
    dy (B, T, C), positions (T,) or (B, T), dw (T_max, C) -> None."""
    np.add.at(dw, np.broadcast_to(positions, dy.shape[:-1]).reshape(-1), rows(dy))
