"""A model in use, without dropout and with a check of its output. Every function that only uses a model calls it so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.device import to_host
from ..layers import without_dropout
from . import nonfinite


def is_finite(output: np.ndarray) -> bool:
    return bool(np.isfinite(output).all())


def has_likeliest(logits: np.ndarray) -> bool:
    """Whether each row of logits (..., V) has a largest number, and no NaN. -inf is a token that cannot be."""
    return bool(np.isfinite(logits.max(-1)).all())


def infer(
    model: Any,
    *inputs: Any,
    forward: Callable[..., Any] | None = None,
    is_right: Callable[[np.ndarray], bool] = is_finite,
    real: np.ndarray | None = None,
    again: Callable[[], Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """What the model (or `forward`, which calls it) gives for these inputs, as an array on the host, without dropout.

    FloatingPointError, which names the first layer whose output is not finite, if is_right says no to the result, or to its
    part `real`, a bool array for its first axes. Nothing but the result is looked at before. To find the layer, `again()`
    computes the same without a cache (None: `forward` does).
    """

    def run() -> Any:
        return (forward or model)(*inputs, **options)

    with without_dropout():
        output = to_host(run())
        if not is_right(output if real is None else output[real]):
            raise FloatingPointError(nonfinite.in_output(model, again or run))
    return output
