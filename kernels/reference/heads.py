"""Heads side by side: one matrix product makes q, k and v, and its backward takes their gradients as one array."""

import numpy as np

from ..common import Array


def join_heads(*parts: Array) -> Array:
    """y = [part | part | ...] along the heads: gpt.md (14).  Each part (B, T, n, D) -> y (B, T, H, D), H = sum n."""
    return np.concatenate(parts, axis=2)
