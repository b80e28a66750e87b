"""The reference's own functions, to be replaced by fused kernels."""

from __future__ import annotations

from ..reference.norm import (
    add_layernorm_backward,
    add_layernorm_forward,
    add_rmsnorm_backward,
    add_rmsnorm_forward,
    layernorm_backward,
    layernorm_forward,
    rmsnorm_backward,
    rmsnorm_forward,
)

__all__ = [
    "add_layernorm_backward",
    "add_layernorm_forward",
    "add_rmsnorm_backward",
    "add_rmsnorm_forward",
    "layernorm_backward",
    "layernorm_forward",
    "rmsnorm_backward",
    "rmsnorm_forward",
]
