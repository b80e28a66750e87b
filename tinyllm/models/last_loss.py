"""What a backward relies on: that it follows its own loss, of the same weights, in the same thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..layers.layer import Mode


class LastLoss:
    """A model as its last loss left it: the autocast block, the thread, the weights, and what the layers kept."""

    def __init__(self, model: Any, block: Any):
        self.block, self.thread = block, threading.get_ident()
        self.weights = [(flat, flat.version, flat.watched_copy()) for flat in flats(model)]
        self.kept = all_kept(model)

    def check(self, model: Any) -> None:
        """RuntimeError if the backward of this loss would now be that of another function."""
        if self.thread != threading.get_ident():
            raise RuntimeError(
                "backward() was called in another thread than the last loss() of this model, and would be that of this "
                "loss: call both in one thread, and train a model in one thread at a time"
            )
        now = flats(model)
        same = [
            flat is seen and flat.version == version for flat, (seen, version, _) in zip(now, self.weights, strict=False)
        ]
        if len(now) != len(self.weights) or not all(same) or any(flat.watched_copy() != w for flat, _, w in self.weights):
            model.forget()
            raise RuntimeError(
                "the weights have changed since loss(), and backward() would mix old and new ones: call backward() before "
                "the optimizer's step, before weights are loaded, assigned, moved or converted, and before lora.add, "
                "lora.merge and quantize; or call loss() again"
            )
        kept = all_kept(model)
        if len(kept) != len(self.kept) or any(a is not b for a, b in zip(kept, self.kept)):
            model.forget()
            raise RuntimeError(
                "layers of this model were called since loss(), and have kept other values than its backward() needs: call "
                "them in `with model.inference():`, or call loss() again"
            )


def flats(model: Any) -> list[Any]:
    """The flat buffers of a model: the weights that are trained, and the frozen ones beside adapters."""
    return [flat for flat in (model.flat, model.base) if flat]


def all_kept(model: Any) -> list[tuple[Any, ...]]:
    return [values for layer in model.mode.kept.values() for values in layer]


@contextmanager
def alone(mode: Mode, name: str) -> Iterator[None]:
    """Around a loss or a backward. RuntimeError if another thread is inside one of the same model."""
    me = threading.get_ident()
    if mode.running.setdefault("thread", me) != me:
        raise RuntimeError(
            f"{name}() of this model was called while another thread is inside loss() or backward() of it: their "
            "gradients would mix. Train a model in one thread at a time; use it in as many as you like"
        )
    try:
        yield
    finally:
        mode.running.pop("thread", None)
