"""AdamW over a model's flat buffers, and gradient clipping."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..models.model import Model


class Adam:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019), which applies to matrices only.

    lr: the learning rate, which may be changed before each step. m, v: the moments, laid out as the model's flat buffers.
    steps: the number of steps so far.
    """

    def __init__(
        self,
        model: Model,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.flat, self.parameters = model.flat, [p for p in model.parameters() if p.trained]
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.m = np.zeros_like(self.flat.data)
        self.v = np.zeros_like(self.flat.data)
        self.steps = 0

    def step(self, factor: float = 1.0) -> None:
        """Update all parameters from their gradients, each multiplied by this factor (clip_factor)."""
        self.steps += 1
        matrices, vectors = slice(0, self.flat.decayed), slice(self.flat.decayed, self.flat.size)
        for part, decay in ((matrices, self.weight_decay), (vectors, 0.0)):
            arrays = (a[part] for a in (self.flat.data, self.flat.grad, self.m, self.v))
            kernels.adam_step(*arrays, self.steps, self.lr, *self.betas, self.eps, decay, factor)

    def moments(self) -> dict[str, np.ndarray]:
        """Return both moments of each parameter as views, for a checkpoint: m.NAME and v.NAME."""
        return {
            f"{letter}.{p.name}": p.view(array) for letter, array in (("m", self.m), ("v", self.v)) for p in self.parameters
        }


def clip_grad_norm(model: Model, max_norm: float) -> float:
    """Scale all gradients so that their global norm is at most max_norm (Pascanu et al. 2013). Return the norm before."""
    norm = kernels.global_norm(model.flat.grad)
    if norm > max_norm:
        kernels.scale(model.flat.grad, clip_factor(norm, max_norm))
    return norm


def clip_factor(norm: float, max_norm: float) -> float:
    """Return the factor that brings gradients of this global norm to at most max_norm.

    optimizer.step(clip_factor(norm, max_norm)) clips the gradients as it reads them, without another pass over them.
    """
    return max_norm / (norm + 1e-6) if norm > max_norm else 1.0
