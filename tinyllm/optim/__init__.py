"""Optimizers over a model's flat buffers."""

from .adam import Adam, clip_grad_norm

__all__ = ["Adam", "clip_grad_norm"]
