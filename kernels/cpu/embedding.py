"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.embedding import embedding_backward, embedding_forward

__all__ = ["embedding_backward", "embedding_forward"]
