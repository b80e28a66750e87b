"""A table of vectors, one for each token."""

from __future__ import annotations

import numpy as np

from .linear import rows


def embedding_forward(tokens, w):
    """y = w[tokens].  tokens (N,) ints in [0, V), w (V, C) -> y (N, C)."""
    return w[tokens]


def embedding_backward(dy, tokens, dw):
    """Adds into dw (V, C): each row of dy onto its token's row. A token that occurs twice receives both."""
    np.add.at(dw, tokens.reshape(-1), rows(dy))
