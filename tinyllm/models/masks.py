"""Masks that are not bool yet: 0 and 1 are read, everything else is refused."""

from __future__ import annotations

import numpy as np


def zeros_and_ones(array: np.ndarray, name: str) -> np.ndarray:
    """A mask that holds 0 and 1, of any dtype, as bool. name: of the argument, for the error.

    ValueError for any other number, such as those of an additive mask: 0 for a real token, and -1e9 or -inf for the others.
    Also for floats that are all 0, which an additive mask has where every token is real, and ours where none is.
    """
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        given = f"holds {array[wrong].flat[0]}"
    elif np.issubdtype(array.dtype, np.floating) and array.size and not array.any():
        given = f"holds only 0 as {array.dtype}, so that no token would be real"
    else:
        return array == 1
    raise ValueError(
        f"{name} {given}, and must be bool, or 0 and 1: true where a token is real. An additive mask (0 for a real token, a "
        f"large negative number for the others) is converted by {name} = additive == 0"
    )
