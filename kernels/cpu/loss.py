"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.loss import (
    cross_entropy_backward,
    cross_entropy_forward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)

__all__ = [
    "cross_entropy_backward",
    "cross_entropy_forward",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
]
