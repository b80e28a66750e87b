"""The interface of an optimizer that training uses."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Optimizer(Protocol):
    """lr: a float that may be changed before each step; steps: the number of steps so far."""

    lr: Any
    steps: int

    def step(self, factor: float = 1.0) -> None:
        """Update all parameters from their gradients, each multiplied by this factor, which clip_factor computes."""

    def moments(self) -> dict[str, np.ndarray]:
        """Return all that it keeps of past gradients, by name. A checkpoint writes these arrays and reads into them."""
