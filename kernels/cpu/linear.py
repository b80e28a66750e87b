"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.linear import linear_activation_backward, linear_activation_forward, linear_backward, linear_forward

__all__ = ["linear_activation_backward", "linear_activation_forward", "linear_backward", "linear_forward"]
