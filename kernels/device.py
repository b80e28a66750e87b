"""Which device an array is on, for code that runs on any: the cuda set is imported only once CUDA is asked for.

Tokens, targets and masks stay on the host, and the ops fetch them from there.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda")
INSTALL_CUDA = 'pip install "tinyllm[cuda]"'


def emulated() -> bool:
    """Return whether CUDA is emulated on this machine's CPU: TINYLLM_DEVICE=emulated in the environment."""
    device = os.environ.get("TINYLLM_DEVICE", "gpu")
    if device not in ("gpu", "emulated"):
        raise ValueError(f"TINYLLM_DEVICE is {device!r}; set it to 'emulated' or 'gpu', or leave it unset")
    return device == "emulated"


def is_on_host(array: Any) -> bool:
    """Return whether the array is NumPy's, and not one that stands for an array on the GPU (cuda/device.py)."""
    return isinstance(array, np.ndarray) and not getattr(array, "emulates_gpu", False)


def device_of(array: Any) -> str:
    """Return "cpu" or "cuda"."""
    return "cpu" if is_on_host(array) else "cuda"


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
    cuda = cuda_device()
    return cuda.as_emulated(array) if emulated() else cuda.cupy().asarray(array)


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


def bfloat16() -> np.dtype:
    """Return NumPy's and CuPy's bfloat16, which the package ml_dtypes defines."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise RuntimeError(f"bfloat16 needs the package ml-dtypes: {INSTALL_CUDA}") from error
    return np.dtype(ml_dtypes.bfloat16)


def cuda_device() -> Any:
    """Import cuda/device.py and return it."""
    from .cuda import device

    return device
