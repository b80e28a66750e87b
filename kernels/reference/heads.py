"""Heads side by side, as one matrix product makes q, k and v and takes their gradients."""

from __future__ import annotations

import numpy as np

from ..common import Array


def join_heads(*parts: Array) -> Array:
    """The parts (B, T, n_1, D), (B, T, n_2, D), ... side by side -> (B, T, n_1 + n_2 + ..., D)."""
    return np.concatenate(parts, axis=2)
