"""What tests of CUDA kernels need: a GPU or the emulator, and NumPy's bfloat16."""

from __future__ import annotations

import numpy as np
import pytest

from tinyllm.kernels.cuda import device
from tinyllm.kernels.cuda.emulator.loader import require_compiler


def require_cuda() -> None:
    """Skips the test, or the module at whose top this is called, where they can run in neither way."""
    try:
        require_compiler() if device.emulated() else device.cupy()
    except RuntimeError as error:
        pytest.skip(str(error), allow_module_level=True)


def require_bfloat16() -> np.dtype:
    """The dtype; skips likewise where it is not installed."""
    return np.dtype(pytest.importorskip("ml_dtypes", reason="bfloat16 on the CPU: pip install ml_dtypes").bfloat16)
