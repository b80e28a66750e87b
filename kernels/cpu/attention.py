"""For now the reference's own attention, which stores T x S; to be replaced by a fused kernel that never does."""

from __future__ import annotations

from ..reference.attention import attention_backward, attention_forward

__all__ = ["attention_backward", "attention_forward"]
