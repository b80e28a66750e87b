"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.position import position_backward, position_forward

__all__ = ["position_backward", "position_forward"]
