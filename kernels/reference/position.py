"""Positions: learned vectors, added to the token embeddings (GPT, BERT, OPT)."""

import numpy as np

from ..common import Array
from .linear import rows


def position_forward(x: Array, w: Array, positions: Array) -> Array:
    """y = x + w[positions]: gpt.md (1), opt.md (1).  x (B, T, C), w (T_max, C), positions (T,) or (B, T) -> y (B, T, C)."""
    return x + w[positions]


def position_backward(dy: Array, positions: Array, dw: Array) -> None:
    """dw[positions] += dy: opt.md (2), bert.md (2).  dx is dy itself.
    dy (B, T, C), positions (T,) or (B, T), dw (T_max, C) -> None."""
    np.add.at(dw, np.broadcast_to(positions, dy.shape[:-1]).reshape(-1), rows(dy))
