"""Where a model computes: "cpu" or "cuda". Tokens, targets and masks stay on the host: ops fetch them from there."""

from __future__ import annotations

from typing import Any

import numpy as np

from .kernels.cuda import device as cuda
from .kernels.cuda.device import EmulatedArray, refill, to_host

DEVICES = ("cpu", "cuda")


def check_device(device: str) -> None:
    """Raises ValueError for a name that is none, and for "cuda" where this machine cannot: what is missing, what to do."""
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is not known: there are 'cpu' and 'cuda'")
    if device == "cuda" and not cuda.emulated():
        try:
            cuda.cupy()
        except RuntimeError as error:
            raise ValueError(f"device 'cuda': {error}") from error


def moved(array: Any, device: str) -> Any:
    """The array on that device; CUDA emulated, it is marked as there."""
    if device == "cpu":
        return to_host(array)
    return array.view(EmulatedArray) if cuda.emulated() else cuda.cupy().asarray(array)


def device_of(array: Any) -> str:
    return "cpu" if isinstance(array, np.ndarray) and not isinstance(array, EmulatedArray) else "cuda"


__all__ = ["DEVICES", "check_device", "device_of", "moved", "refill", "to_host"]
