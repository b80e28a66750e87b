"""Fresh arrays for results, of the kind that the first argument is."""

from __future__ import annotations

import numpy as np


def empty(like, shape, dtype=None):
    """An uninitialised array on the device of `like`, in its dtype or the one given."""
    return np.empty(shape, dtype or like.dtype)


def zeros(like, shape, dtype=None):
    """An array of zeros on the device of `like`, in its dtype or the one given."""
    return np.zeros(shape, dtype or like.dtype)
