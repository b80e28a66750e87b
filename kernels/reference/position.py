"""Positions: learned vectors added to the token embeddings (GPT, BERT, OPT)."""

from __future__ import annotations

import numpy as np

from .linear import rows


def position_forward(x, w, positions):
    """y = x + w[positions].  x (B, T, C), w (T_max, C), positions (T,) or (B, T) ints -> y (B, T, C)."""
    return x + w[positions]


def position_backward(dy, positions, dw):
    """Adds into dw (T_max, C): each row of dy onto its position's row. (dx is dy itself.)"""
    np.add.at(dw, np.broadcast_to(positions, dy.shape[:-1]).reshape(-1), rows(dy))
