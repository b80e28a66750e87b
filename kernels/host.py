"""What can be said of an array or of this machine without the cuda set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

INSTALL_CUDA = 'pip install "tinyllm-numpy[cuda]"'


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


def bfloat16() -> np.dtype:
    """Return NumPy's and CuPy's bfloat16, which the package ml_dtypes defines."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise RuntimeError(f"bfloat16 needs the package ml-dtypes: {INSTALL_CUDA}") from error
    return np.dtype(ml_dtypes.bfloat16)
