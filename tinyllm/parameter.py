"""Parameters: all weights of a model in one flat array, all gradients in another, each Parameter a view into both.

Zeroing, clipping, Adam and an all-reduce are then one pass over one array. The matrices come first in it, the vectors
(biases, norms) behind them, because weight decay is for matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .device import bfloat16, moved

Initial = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(std: float) -> Initial:
    return lambda random, shape: random.standard_normal(shape, np.float32) * np.float32(std)


def constant(value: float) -> Initial:
    return lambda random, shape: np.full(shape, value, np.float32)


def stacked(*parts: tuple[int, Initial]) -> Initial:
    """Rows of several kinds in one matrix: (how many, their initial values), from the top down."""
    return lambda random, shape: np.concatenate([initial(random, (n, *shape[1:])) for n, initial in parts])


class Parameter:
    """A weight: its `shape`, its `name` in the model, and once placed in a Flat `data` and `grad`, views of that shape."""

    def __init__(self, shape: Sequence[int], initial: Initial):
        self.shape = tuple(shape)
        self.size = math.prod(self.shape)
        self.initial = initial
        self.name = ""
        self.flat: Flat | None = None
        self.start = 0

    @property
    def trained(self) -> bool:
        """Whether it has a gradient; not in a frozen Flat."""
        return not self._placed().frozen

    @property
    def decays(self) -> bool:
        """Whether weight decay applies: to matrices, not to biases and norms."""
        return len(self.shape) > 1

    def view(self, array: np.ndarray) -> np.ndarray:
        """This parameter's part of an array that is laid out as the Flat's."""
        return array[self.start : self.start + self.size].reshape(self.shape)

    def _placed(self) -> Flat:
        if self.flat is None:
            raise RuntimeError(f"parameter {self.name!r} has no memory yet; call initialize() on its layer first")
        return self.flat

    @property
    def data(self) -> np.ndarray:
        """What it has learned; within Model.in_bfloat16() a rounded copy of it, with which the model computes."""
        flat = self._placed()
        return self.view(flat.data if flat.rounded is None else flat.rounded)

    @data.setter
    def data(self, value: np.ndarray) -> None:
        self.view(self._placed().data)[...] = value  # so that `p.data -= step` works and the view stays a view

    @property
    def grad(self) -> Any:
        """An array of the data's shape; None where it is frozen, and kernels then leave its gradient out."""
        return self.view(self._placed().grad) if self.trained else None

    @grad.setter
    def grad(self, value: np.ndarray) -> None:
        self.grad[...] = value

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.shape})"


class Flat:
    """One array for the data of all parameters, and one for their gradients, made when first asked for.

    data, grad (n,); the first `decayed` numbers are those of matrices. frozen: the parameters are not trained, and have no
    gradients; a model with such a part has a second Flat for the rest (lora.py), which is then its `flat`. rounded (n,): the
    data in bfloat16, while the model computes in it; gradients have the dtype of the data all the same.
    """

    def __init__(self, parameters: list[Parameter], dtype: np.dtype | str = "float32"):
        ordered = sorted(parameters, key=lambda p: not p.decays)  # stable: else in the model's order
        self.size = sum(p.size for p in ordered)
        self.decayed = sum(p.size for p in ordered if p.decays)
        self.data = np.zeros(self.size, dtype)
        self.frozen = False
        self.rounded: Any = None
        self._grad: np.ndarray | None = None
        start = 0
        for p in ordered:
            p.flat, p.start = self, start
            start += p.size

    @property
    def grad(self) -> np.ndarray:
        if self._grad is None:
            self._grad = np.zeros_like(self.data)
        return self._grad

    def freeze(self, on: bool = True) -> None:
        """From now on these parameters are not trained (or are again); their gradients are dropped."""
        self.frozen, self._grad = on, None

    def round(self, on: bool = True) -> None:
        """From now on the parameters' data are those of this moment in bfloat16 (or the data themselves again)."""
        self.rounded = self.data.astype(bfloat16()) if on else None

    def to(self, device: str) -> None:
        """Moves the data to "cpu" or "cuda"; the gradients begin anew."""
        self.data, self._grad = moved(self.data, device), None

    def cast(self, dtype: np.dtype | str) -> None:
        """Converts the data, in place; the gradients begin anew."""
        self.data, self._grad = self.data.astype(dtype), None
