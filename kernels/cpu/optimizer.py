"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.optimizer import adam_step, global_norm, scale

__all__ = ["adam_step", "global_norm", "scale"]
