"""AdamW over a model's flat buffers, and gradient clipping."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..models.model import Model
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019), which applies to matrices only.

    lr: the learning rate, which may be changed before each step. m, v: the moments, laid out as the model's flat buffers.
    steps: the number of steps so far. ValueError for betas outside [0, 1) and for other options that are negative or not
    finite; RuntimeError in `step` if the model has other arrays by now (Optimizer).
    """

    options = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self,
        model: Model,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(model)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.m = np.zeros_like(self.flat.data)
        self.v = np.zeros_like(self.flat.data)
        self.check()

    def step(self, factor: float = 1.0) -> None:
        """Update all parameters from their gradients, each multiplied by this factor (clip_factor)."""
        self.check(factor)
        self.steps += 1
        matrices, vectors = slice(0, self.flat.decayed), slice(self.flat.decayed, self.flat.size)
        for part, decay in ((matrices, self.weight_decay), (vectors, 0.0)):
            arrays = (a[part] for a in (self.flat.data, self.flat.grad, self.m, self.v))
            kernels.adam_step(*arrays, self.steps, self.lr, *self.betas, self.eps, decay, factor)
        self.flat.changed()

    def moments(self) -> dict[str, np.ndarray]:
        """Return both moments of each parameter as views, for a checkpoint: m.NAME and v.NAME."""
        self.check()
        return {
            f"{letter}.{p.name}": p.view(array) for letter, array in (("m", self.m), ("v", self.v)) for p in self.parameters
        }

    def check(self, factor: float = 1.0) -> None:
        super().check(factor)
        if np.shape(self.betas) != (2,) or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}, and must be two numbers in [0, 1)")


def clip_grad_norm(model: Model, max_norm: float) -> float:
    """Scale all gradients so that their global norm is at most max_norm (Pascanu et al. 2013). Return the norm before.

    ValueError if max_norm is negative or NaN.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm is {max_norm}, and must be at least 0")
    norm = kernels.global_norm(model.flat.grad)
    if norm > max_norm:
        kernels.scale(model.flat.grad, clip_factor(norm, max_norm))
    return norm


def clip_factor(norm: float, max_norm: float) -> float:
    """Return the factor that brings gradients of this global norm to at most max_norm.

    optimizer.step(clip_factor(norm, max_norm)) clips the gradients as it reads them, without another pass over them.
    """
    return max_norm / (norm + 1e-6) if norm > max_norm else 1.0
