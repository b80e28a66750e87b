"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.activation import activation_backward, activation_forward, gated_backward, gated_forward

__all__ = ["activation_backward", "activation_forward", "gated_backward", "gated_forward"]
