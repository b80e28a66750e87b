"""Which device an array is on, for code that runs on any: the cuda set is imported only once CUDA is asked for.

Tokens, targets and masks stay on the host, and the ops fetch them from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .host import bfloat16 as bfloat16
from .host import device_of as device_of
from .host import emulated, is_on_host

DEVICES = ("cpu", "cuda")


def check_device(device: str) -> None:
    """Raise ValueError for an unknown name, and for "cuda" if this machine cannot run it: what is missing, what to do."""
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is not known; pass 'cpu' or 'cuda'")
    if device == "cuda" and not emulated():
        try:
            cuda_device().cupy()
        except RuntimeError as error:
            raise ValueError(f"device 'cuda': {error}") from error


def moved(array: Any, device: str) -> Any:
    """Return the array on that device. If CUDA is emulated, a view of it that is marked as being there."""
    if device == "cpu":
        return to_host(array)
    there = cuda_device()
    return there.as_emulated(array) if emulated() else there.cupy().asarray(array)


def to_host(array: Any) -> np.ndarray:
    """Return any array as a plain NumPy array."""
    if is_on_host(array):
        return array if type(array) is np.ndarray else array.view(np.ndarray)
    return cuda_device().to_host(array)


def to_device(array: Any, like: Any) -> Any:
    """Return the array on the device of `like`. Tokens, targets, positions and masks are made on the host."""
    return array if is_on_host(like) else cuda_device().to_device(array, like)


def refill(array: Any, values: np.ndarray) -> None:
    """array[...] = values, from the host. The array stays in place, so a recorded graph reads its new inputs."""
    if is_on_host(array):
        array[...] = values
    else:
        cuda_device().refill(array, values)


def cuda_device() -> Any:
    """Import cuda/device.py and return it."""
    from .cuda import device as cuda

    return cuda
