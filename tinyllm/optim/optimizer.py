"""What optimizers share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ..models.model import Model


class Optimizer(ABC):
    """Updates the trained parameters of a model from their gradients.

    model: the model that it updates. lr: a float that may be changed before each step. steps: the number of steps so far.

    It works on the arrays that the model had when it was made. RuntimeError if the model has others by now: lora.add,
    lora.merge, quantize, initialize, to and cast replace them. A copy (copy.deepcopy, pickle) of an optimizer alone brings a
    copy of its model along. Copy both together to go on with that pair: copy.deepcopy((model, optimizer)).
    """

    options: ClassVar[tuple[str, ...]] = ("lr", "eps", "weight_decay")  # numbers of at least 0
    may_be_none: ClassVar[tuple[str, ...]] = ()  # those of them that may be None
    lr: Any

    def __init__(self, model: Model):
        if model.bits is not None and model.lora is None:
            raise ValueError(
                f"this model's matrices are packed in {model.bits} bits, which are not trained: add LoRA adapters first "
                "(tinyllm.lora.add)"
            )
        self.model, self.flat, self.data = model, model.flat, model.flat.data
        self.parameters = [p for p in model.parameters() if p.trained]
        self.steps = 0

    @abstractmethod
    def step(self, factor: float = 1.0) -> None:
        """Update all parameters from their gradients, each multiplied by this factor, which clip_factor computes."""

    @abstractmethod
    def moments(self) -> dict[str, np.ndarray]:
        """Return all that it keeps of past gradients, by name. A checkpoint writes these arrays and reads into them."""

    def check(self, factor: float = 1.0) -> None:
        """RuntimeError if the arrays are no longer the model's. ValueError if an option or the factor cannot be used."""
        if self.model.flat is not self.flat or self.flat.data is not self.data or self.flat.frozen:
            raise RuntimeError(
                f"this {type(self).__name__} was made for other arrays than the model now trains: lora.add, lora.merge, "
                "quantize, initialize, to and cast replace them. Make a new optimizer after such a call"
            )
        for name, value in {**{name: getattr(self, name) for name in self.options}, "factor": factor}.items():
            if value is None and name in self.may_be_none:
                continue
            numbers = np.ravel(value)
            if numbers.dtype.kind not in "biuf" or not ((numbers >= 0) & (numbers < math.inf)).all():
                raise ValueError(f"{name} is {value!r}, and must be a finite number of at least 0")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)
        return f"{type(self).__name__}({options}, after {self.steps} steps, of {type(self.model).__name__})"
