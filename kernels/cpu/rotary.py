"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.rotary import rotary_backward, rotary_forward

__all__ = ["rotary_backward", "rotary_forward"]
