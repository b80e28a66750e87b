"""What a backward relies on: that it follows its own loss, of the same weights, in the same thread."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

ELSEWHERE = (
    "a loss() or backward() of this model was called while another thread is inside one: their gradients would mix. Train a "
    "model in one thread at a time; use it in as many as you like"
)


class LastLoss(NamedTuple):
    """A model as its last loss left it (model.py: forward_pass)."""

    block: Any  # the autocast block
    thread: int
    weights: list[tuple[Any, int, list[bytes]]]  # of each flat buffer: itself, its version, its watched numbers
    kept: list[tuple[Any, ...]]  # by the layers


def check(model: Any, last: LastLoss) -> None:
    """RuntimeError if the backward of this loss would now be that of another function."""
    if last.thread != threading.get_ident():
        raise RuntimeError(
            "backward() was called in another thread than the last loss() of this model, and would be that of this loss: "
            "call both in one thread, and train a model in one thread at a time"
        )
    now = model._flats()
    same = [
        flat is seen and flat.version == version and [part.tobytes() for part in flat.watched] == watched
        for flat, (seen, version, watched) in zip(now, last.weights)
    ]
    if len(now) != len(last.weights) or not all(same):
        model.forget()
        raise RuntimeError(
            "the weights have changed since loss(), and backward() would mix old and new ones: call backward() before the "
            "optimizer's step, before weights are loaded, assigned, moved or converted, and before lora.add, lora.merge and "
            "quantize; or call loss() again"
        )
    kept = [values for layer in model.mode.kept.values() for values in layer]
    if len(kept) != len(last.kept) or any(a is not b for a, b in zip(kept, last.kept)):
        model.forget()
        raise RuntimeError(
            "layers of this model were called since loss(), and have kept other values than its backward() needs: call them "
            "in `with model.inference():`, or call loss() again"
        )
