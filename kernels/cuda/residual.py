"""The sum of the residual stream and a branch (residual.cu)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import flat, flat_layout, like
from .memory import empty
from .module import Kernels

KERNELS = Kernels("residual.cu", "add<T>")


def add(x: Any, f: Any) -> Any:
    """x + f, a new array.  x (N, C), f (N, C) -> x + f (N, C)."""
    numbers, total = flat(x), empty(x, x.shape)
    KERNELS.launch("add<T>", x, *flat_layout(numbers), numbers, flat(like(f, x, "f")), total, np.int64(x.size))
    return total
