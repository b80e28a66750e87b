"""Adafactor: second moments in the memory of two vectors a matrix, and steps relative to a parameter's size."""

from __future__ import annotations

import math

import numpy as np

from .. import kernels
from ..models.model import Model


class Adafactor:
    """Adafactor (Shazeer & Stern 2018), with which T5 was trained.

    lr: the step relative to the size of a parameter, which is at least `least` (relative=False: the step itself); may be set
    anew before each step. None: the paper's own, min(1e-2, 1 / sqrt(steps)).
    decay: of the second moments' averages, 1 - steps^-decay; clip: the largest update in units of its usual size.
    weight_decay: decoupled (p = p - lr weight_decay p), for matrices alone. There is no first moment.
    """

    def __init__(
        self,
        model: Model,
        lr: float | None = None,
        decay: float = 0.8,
        clip: float = 1.0,
        relative: bool = True,
        least: float = 1e-3,
        eps: float = 1e-30,
        weight_decay: float = 0.0,
    ):
        self.flat, self.parameters = model.flat, [p for p in model.parameters() if p.trained]
        self.lr, self.decay, self.clip, self.eps, self.weight_decay = lr, decay, clip, eps, weight_decay
        self.relative = least if relative else None
        # (rows, columns), or (all,)
        self.second = [[np.zeros_like(p.data, shape=n) for n in p.shape] for p in self.parameters]
        self.steps = 0

    def step(self, factor: float = 1.0) -> None:
        """One update of all parameters from their gradients, each taken times this factor (clip_factor)."""
        self.steps += 1
        lr = min(1e-2, 1 / math.sqrt(self.steps)) if self.lr is None else self.lr
        for p, v in zip(self.parameters, self.second):
            decayed = self.weight_decay if p.decays else 0.0
            constants = self.decay, self.eps, self.clip, self.relative, decayed, factor
            kernels.adafactor_step(p.data, p.grad, v, self.steps, lr, *constants)
        self.flat.changed()

    def moments(self) -> dict[str, np.ndarray]:
        """The second moments of each parameter, for a checkpoint: rows.NAME and columns.NAME of a matrix, v.NAME else."""
        names = {1: ("v",), 2: ("rows", "columns")}
        return {
            f"{name}.{p.name}": array
            for p, second in zip(self.parameters, self.second)
            for name, array in zip(names[len(second)], second)
        }
