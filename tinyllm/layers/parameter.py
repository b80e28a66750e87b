"""Parameters: all weights of a model in one flat array, all gradients in another, each Parameter a view into both.

Zeroing, clipping, Adam and an all-reduce are then one pass over one array. The matrices come first, the vectors (biases,
norms) after them, because weight decay applies to matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from ..kernels.device import bfloat16, device_of, moved, to_device

WATCHED = 4096  # numbers of the matrices, and as many of the vectors

most: ContextVar[float] = ContextVar("most", default=math.inf)  # numbers that a Flat may have: a file's sizes are limited

Initial = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(std: float) -> Initial:
    """Initial values from a normal distribution with mean 0."""
    return partial(normal_values, std)


def constant(value: float) -> Initial:
    """Initial values that are all the same."""
    return partial(constant_values, value)


def stacked(*parts: tuple[int, Initial]) -> Initial:
    """Initial values of a matrix whose rows are of several kinds: (number of rows, their initial values), top down."""
    return partial(stacked_values, parts)


def normal_values(std: float, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.standard_normal(shape, np.float32) * np.float32(std)


def constant_values(value: float, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, value, np.float32)


def stacked_values(parts: Sequence[tuple[int, Initial]], random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([initial(random, (n, *shape[1:])) for n, initial in parts])


class Parameter:
    """A weight: its `shape`, its `name` in the model, and once placed in a Flat its `data` and `grad`, views of that shape.

    data: the weight itself; assigning to it writes into the Flat. While a model computes in bfloat16 on a GPU it is a
    rounded copy of the weight (Flat.rounded). grad: None if the Flat is frozen, and kernels then skip the gradient.

    What is assigned to data or grad must have the parameter's shape (else ValueError), and is converted to the dtype of the
    model. TypeError for what is not a real number, such as complex.
    """

    def __init__(self, shape: Sequence[int], initial: Initial):
        self.shape = tuple(shape)
        self.size = math.prod(self.shape)
        self.initial = initial
        self.name = ""
        self.flat: Flat | None = None
        self.start = 0

    @property
    def trained(self) -> bool:
        """Whether it has a gradient. Parameters in a frozen Flat have none."""
        return not self._placed().frozen

    @property
    def decays(self) -> bool:
        """Whether weight decay applies: to matrices, not to biases and norms."""
        return len(self.shape) > 1

    def view(self, array: np.ndarray) -> np.ndarray:
        """This parameter's part of an array that is laid out like the Flat."""
        return array[self.start : self.start + self.size].reshape(self.shape)

    def _placed(self) -> Flat:
        if self.flat is None:
            raise RuntimeError(f"parameter {self.name!r} has no memory yet: call initialize() on its layer first")
        return self.flat

    def __getattr__(self, name: str) -> Any:
        """Makes the view of the data when it is first asked for; from then on it is an ordinary attribute."""
        if name != "_data":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        flat = self._placed()
        self._data = self.view(flat.data if flat.rounded is None else flat.rounded)
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own view, of the copied Flat."""
        return {name: value for name, value in vars(self).items() if name != "_data"}

    def _set_data(self, value: np.ndarray) -> None:
        flat = self._placed()
        self._write(value, flat.data, "data")  # so that `p.data -= step` works and the view stays a view
        flat.changed()

    data = property(attrgetter("_data"), _set_data)

    @property
    def grad(self) -> Any:
        """The gradient of the loss, of the data's shape; None if the parameter is frozen."""
        return self.view(self._placed().grad) if self.trained else None

    @grad.setter
    def grad(self, value: np.ndarray) -> None:
        if not self.trained:
            raise RuntimeError(f"parameter {self.name!r} is frozen and has no gradient: assign to those with `trained` set")
        self._write(value, self._placed().grad, "grad")

    def _write(self, value: Any, array: np.ndarray, what: str) -> None:
        value = value if hasattr(value, "dtype") else np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(
                f"the {what} of parameter {self.name!r} has shape {self.shape}, and what was assigned has {value.shape}: "
                f"nothing is broadcast here; write p.{what} = np.full(p.shape, number) to fill it with one number"
            )
        if not np.can_cast(value.dtype, array.dtype, "same_kind"):
            raise TypeError(f"the {what} of parameter {self.name!r} is {array.dtype}, and {value.dtype} cannot become that")
        self.view(array)[...] = to_device(value, array)

    def __repr__(self) -> str:
        if self.flat is None:
            return f"Parameter({self.name!r}, {self.shape}, not initialized)"
        frozen = ", frozen" if self.flat.frozen else ""
        return f"Parameter({self.name!r}, {self.shape}, {self.flat.data.dtype} on {device_of(self.flat.data)}{frozen})"


class Flat:
    """One array for the data of all its parameters, and one for their gradients, which is allocated when first asked for.

    data, grad (n,): the first `decayed` numbers are those of matrices. frozen: the parameters are not trained and have no
    gradients; a model with such a part has a second Flat for the rest (LoRA), which is then `model.flat`. rounded (n,): the
    data in bfloat16 while the model computes in it on a GPU, else None. Gradients always have the dtype of the data.

    version: the number of changes of the data so far: optimizer steps, assignments, `to` and `cast`. A KVCache of another
    version is out of date, and a backward refuses weights that its loss has not seen. Code that writes into the data without
    a Parameter calls `changed`. watched: a few thousand of the numbers, as views; most writes without that call show there.
    On a GPU none are watched, because a step would wait for them.
    """

    def __init__(self, parameters: list[Parameter], dtype: np.dtype | str = "float32"):
        self.parameters = sorted(parameters, key=lambda p: not p.decays)  # stable: else in the model's order
        self.size = sum(p.size for p in parameters)
        if self.size > most.get():
            raise ValueError(f"it describes a model of {self.size:,} numbers, far more than the weights beside it have")
        self.decayed = sum(p.size for p in parameters if p.decays)
        self.data = np.zeros(self.size, dtype)
        self.frozen = False
        self.version = 0
        self.rounded: Any = None
        self._copy: Any = None  # the memory of `rounded`, kept from one use to the next
        self._copied_for: object = None  # the autocast block in which it was filled
        self._grad: np.ndarray | None = None
        start = 0
        for p in self.parameters:
            p.flat, p.start = self, start
            start += p.size
        self._make_views()

    @property
    def grad(self) -> np.ndarray:
        if self._grad is None:
            self._grad = np.zeros_like(self.data)
        return self._grad

    def freeze(self, on: bool = True) -> None:
        """Stops (or resumes) training of these parameters and drops their gradients."""
        self.frozen, self._grad = on, None
        self.changed()

    def round(self, block: object, again: bool = False) -> None:
        """Computes with the data rounded to bfloat16 from now on, until `unround`.

        block: the autocast block that this is for. The copy is filled once a block, and again after an optimizer's step, an
        assignment to a parameter's data, or if `again` is set.
        """
        if self._copy is None:
            self._copy = self.data.astype(bfloat16())
        elif again or self._copied_for is not block:
            self._copy[...] = self.data
        self._copied_for, self.rounded = block, self._copy
        self._release_views()

    def unround(self) -> None:
        """Computes with the data themselves again."""
        self.rounded = None
        self._release_views()

    def changed(self) -> None:
        """To be called after the data changed: a rounded copy, a KVCache and the last loss are out of date."""
        self._copied_for = None
        self.version += 1

    def to(self, device: str) -> None:
        """Moves the data to "cpu" or "cuda" and drops the gradients."""
        self._replace(moved(self.data, device))

    def cast(self, dtype: np.dtype | str) -> None:
        """Converts the data to another dtype and drops the gradients."""
        self._replace(self.data.astype(dtype))

    def _replace(self, data: Any) -> None:
        self.data, self._grad, self._copy = data, None, None
        self.changed()
        self._make_views()

    def _make_views(self) -> None:
        """Watches the data that are there now. Parameters make their own views again when they need them."""
        parts = self.data[: self.decayed], self.data[self.decayed :]
        steps = [part.size // WATCHED | 1 for part in parts]  # odd, so that they do not follow a column
        self.watched = [] if device_of(self.data) == "cuda" else [part[::step] for part, step in zip(parts, steps)]
        self._release_views()

    def _release_views(self) -> None:
        for p in self.parameters:
            vars(p).pop("_data", None)

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins without rounded data, which belong to an autocast block, and makes its own views."""
        return {**vars(self), "rounded": None, "_copy": None, "_copied_for": None, "watched": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_views()

    def __repr__(self) -> str:
        frozen = ", frozen" if self.frozen else ""
        numbers = f"{self.size:,} numbers of {len(self.parameters)} parameters"
        return f"Flat({numbers}, {self.data.dtype} on {device_of(self.data)}{frozen})"
