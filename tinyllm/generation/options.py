"""What the options of generation may be: one clear ValueError for a value that is of the wrong type or out of range."""

from __future__ import annotations

from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float64).max)


def require(is_right: bool, name: str, value: object, wanted: str) -> None:
    if not is_right:
        shown = repr(value) if isinstance(value, str) else value
        raise ValueError(f"{name} is {shown}, and must be {wanted}")


def require_whole(name: str, value: Any, least: int, wanted: str = "") -> None:
    """The value must be a whole number, and at least `least`. wanted: what the error says that it must be."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(is_whole and value >= least, name, value, wanted or f"a whole number, {least} or more")


def require_number(name: str, value: Any, wanted: str = "a finite number", least: float = -LARGEST) -> None:
    """The value must be a finite number, and at least `least`. wanted: what the error says that it must be."""
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    require(is_number and least <= value <= LARGEST, name, value, wanted)
