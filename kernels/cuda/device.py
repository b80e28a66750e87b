"""Which device the cuda set runs on: the GPU with CuPy, or the emulator with NumPy's arrays in place of the GPU's."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

INSTALL = 'pip install "tinyllm[cuda]"'


def emulated() -> bool:
    """Whether CUDA is emulated on this machine's CPU: TINYLLM_DEVICE=emulated in the environment."""
    device = os.environ.get("TINYLLM_DEVICE", "gpu")
    if device not in ("gpu", "emulated"):
        raise ValueError(f"TINYLLM_DEVICE is {device!r}; set it to 'emulated' or 'gpu', or leave it unset")
    return device == "emulated"


@functools.cache
def cupy() -> Any:
    """CuPy, with a GPU that it can use. Raises RuntimeError where either is missing."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"CUDA needs CuPy, which cannot be imported ({error}): {INSTALL}") from error
    if not cupy.cuda.is_available():
        raise RuntimeError(
            "CUDA needs an NVIDIA GPU with driver 580 or newer, and CuPy finds none; use the device 'cpu', or set "
            "TINYLLM_DEVICE=emulated to run the kernels on the CPU, slowly, to learn from them"
        )
    return cupy


def array_module(x: Any) -> Any:
    """NumPy or CuPy: the module whose functions make arrays of the kind that x is."""
    if not isinstance(x, np.ndarray):
        return cupy()
    if not emulated():
        raise TypeError(
            "a CUDA kernel got a NumPy array: move it to the GPU by cupy.asarray, or set TINYLLM_DEVICE=emulated to run "
            "the kernels on the CPU, slowly, to learn from them"
        )
    return np


class EmulatedArray(np.ndarray):
    """A NumPy array that stands for one on the GPU: every op on it goes to the cuda set."""


def to_device(host: np.ndarray, like: Any) -> Any:
    """A NumPy array as one on the device of `like`."""
    return host.view(type(like)) if array_module(like) is np else cupy().asarray(host)


def to_host(array: Any) -> np.ndarray:
    """Any array as NumPy's own."""
    return array.view(np.ndarray) if isinstance(array, np.ndarray) else array.get()
