"""A table of vectors, one for each token."""

import numpy as np

from ..common import Array
from .linear import rows


def embedding_forward(tokens: Array, w: Array) -> Array:
    """y = w[tokens]: gpt.md (1).  tokens (N,) ints in [0, V), w (V, C) -> y (N, C)."""
    return w[tokens]


def embedding_backward(dy: Array, tokens: Array, dw: Array) -> None:
    """dw[tokens] += dy: gpt.md (21).  dy (N, C), tokens (N,), dw (V, C) -> None.  A token that occurs twice gets both."""
    np.add.at(dw, tokens.reshape(-1), rows(dy))
