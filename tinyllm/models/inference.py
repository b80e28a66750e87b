"""A model in use, without dropout and with a check of its output. Every function that only uses a model calls it so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.device import to_host
from ..layers import without_dropout
from . import nonfinite
from .model import Model


def is_finite(output: np.ndarray) -> bool:
    return bool(np.isfinite(output).all())


def has_likeliest(logits: np.ndarray) -> bool:
    """Whether each row of logits (..., V) has a largest number, and no NaN. -inf is a token that cannot be."""
    return bool(np.isfinite(logits.max(-1)).all())


def infer(
    model: Model,
    forward: Callable[[], Any],
    is_right: Callable[[np.ndarray], bool] = is_finite,
    again: Callable[[], Any] | None = None,
) -> np.ndarray:
    """What `forward` computes with the model, as an array on the host. Dropout is off meanwhile.

    FloatingPointError, which names the first layer whose output is not finite, if the result is not right. To find the
    layer, `again` computes the same without a cache (by default `forward` does); nothing but the result is looked at before.
    """
    with without_dropout():
        output = to_host(forward())
        if not is_right(output):
            raise FloatingPointError(nonfinite.in_output(model, again or forward))
    return output
