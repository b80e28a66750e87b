"""Adafactor: two vectors hold the second moments of a matrix, and steps are relative to the size of the parameter."""

from __future__ import annotations

import math

import numpy as np

from .. import kernels
from ..models.model import Model
from .optimizer import Optimizer


class Adafactor(Optimizer):
    """Adafactor (Shazeer & Stern 2018), with which T5 was trained. It has no first moment.

    lr: the size of a step relative to the root mean square of its parameter, which counts as at least `least`; with
    relative=False, the size itself. May be changed before each step. None: min(1e-2, 1 / sqrt(steps)), as in the paper.
    decay: the running means are multiplied by 1 - steps^-decay. clip: the largest root mean square of an update.
    weight_decay: decoupled (w = w - lr weight_decay w), for matrices only. ValueError for a number that is negative or not
    finite, or a clip of 0; RuntimeError in `step` if the model has other arrays by now (Optimizer).
    """

    options = ("lr", "decay", "clip", "relative", "eps", "weight_decay")
    may_be_none = ("lr", "relative")

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
        super().__init__(model)
        self.lr, self.decay, self.clip, self.eps, self.weight_decay = lr, decay, clip, eps, weight_decay
        self.relative = least if relative else None
        # (rows, columns) of a matrix, (squares,) of a vector
        self.second = [[np.zeros_like(p.data, shape=n) for n in p.shape] for p in self.parameters]
        self.check()

    def step(self, factor: float = 1.0) -> None:
        """Update all parameters from their gradients, each multiplied by this factor (clip_factor)."""
        self.check(factor)
        self.steps += 1
        lr = min(1e-2, 1 / math.sqrt(self.steps)) if self.lr is None else self.lr
        for p, v in zip(self.parameters, self.second):
            decayed = self.weight_decay if p.decays else 0.0
            constants = self.decay, self.eps, self.clip, self.relative, decayed, factor
            kernels.adafactor_step(p.data, p.grad, v, self.steps, lr, *constants)
        self.flat.changed()

    def moments(self) -> dict[str, np.ndarray]:
        """Return the second moments for a checkpoint: rows.NAME and columns.NAME of a matrix, v.NAME of a vector."""
        self.check()
        names = {1: ("v",), 2: ("rows", "columns")}
        return {
            f"{name}.{p.name}": array
            for p, second in zip(self.parameters, self.second)
            for name, array in zip(names[len(second)], second)
        }

    def check(self, factor: float = 1.0) -> None:
        super().check(factor)
        if self.clip == 0:
            raise ValueError("clip is 0, and must be above 0: updates are divided by it")
