"""What training asks of an optimizer."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Optimizer(Protocol):
    """lr: a float that may be set anew before each step; steps: how many were made."""

    lr: Any
    steps: int

    def step(self, factor: float = 1.0) -> None:
        """One update of all parameters from their gradients, each taken times this factor: what clip_factor gives."""

    def moments(self) -> dict[str, np.ndarray]:
        """All that it keeps of the gradients so far, by name, as its own arrays: written to a checkpoint, and read back."""
