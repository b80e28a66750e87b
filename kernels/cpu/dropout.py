"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.dropout import dropout_backward, dropout_forward

__all__ = ["dropout_backward", "dropout_forward"]
