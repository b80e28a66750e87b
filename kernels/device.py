"""Which device computes, for code that must not depend on one: nothing of the cuda set is imported before CUDA is used."""

from __future__ import annotations

import os


def emulated() -> bool:
    """Return whether CUDA is emulated on this machine's CPU: TINYLLM_DEVICE=emulated in the environment."""
    device = os.environ.get("TINYLLM_DEVICE", "gpu")
    if device not in ("gpu", "emulated"):
        raise ValueError(f"TINYLLM_DEVICE is {device!r}; set it to 'emulated' or 'gpu', or leave it unset")
    return device == "emulated"
