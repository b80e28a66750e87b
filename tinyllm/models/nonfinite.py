"""Where a NaN or an infinity came from: the first parameter, layer or gradient that holds one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from ..layers import Layer, Recompute, Shared
from ..layers.fused import FUSED
from .model import Model

FORWARDS = ("forward", "loss")  # the methods by which a layer computes something
PLAIN = {fused: plain for plain, fused in FUSED.items()}
_watching = Lock()  # one thread at a time changes the methods of layers


def in_parameters(model: Model) -> str:
    """The first parameter that is not finite, or array of a quantized one; "" where all are."""
    name = next((name for name, data in model.arrays().items() if not _finite(data)), "")
    return name and f"the first parameter that is not finite is {name}"


def in_output(model: Model, run: Callable[[], Any]) -> str:
    """An error message for an output that is not finite: the first layer that gives such an output, and what to do.

    run: computes that output again, layer by layer (a recorded step does not call the layers).
    """
    layer = first_layer(model, run)
    where = f"the first layer whose output is not finite is {layer}" if layer else "computed again, all layers' are finite"
    cause = in_parameters(model) or f"all parameters are finite, so that numbers grew too large for {model.dtype}"
    return (
        f"the output of {type(model).__name__} is not finite: {where}; {cause}. Load a checkpoint from before its training "
        "diverged, or one that is not damaged"
    )


def in_loss(model: Model, batch: Sequence[Any], random_state: Any = None) -> str:
    """What is the first thing that is not finite in model.loss(*batch): a parameter, or else a layer's output.

    random_state: the model's before it computed that loss, so that dropout is the same.
    """
    if bad := in_parameters(model):
        return bad
    if random_state is not None:
        model.mode.random.bit_generator.state = random_state
    layer = first_layer(model, lambda: model.loss(*batch))
    model.forget()
    return f"the first layer whose output is not finite is {layer}" if layer else "all layers' outputs are finite"


def in_gradient(model: Model) -> str:
    """Which parameter's gradient is the first that is not finite: in the backward, so the last in the model."""
    for parameter in reversed(model.parameters()):
        if parameter.trained and not np.isfinite(parameter.grad).all():
            return f"the first gradient that is not finite, on the way back, is that of {parameter.name}"
    return "the gradient of every parameter is finite, but their norm is too large for a number"


def first_layer(model: Model, run: Callable[[], Any]) -> str:
    """The name of the layer that is the first to return something that is not finite while `run` runs; or ""."""
    found: list[str] = []
    watched: list[tuple[Layer, str]] = []

    def watch(name: str, layer: Layer, method: str) -> None:
        original = getattr(layer, method)

        def call(*args: Any, **options: Any) -> Any:
            output = original(*args, **options)
            if not _finite(output):
                found.append(name)
            return output

        setattr(layer, method, call)
        watched.append((layer, method))

    with _watching, _plain_blocks(model):
        try:
            seen: set[Layer] = {
                model
            }  # a layer that all blocks share, such as Rotary, is watched once, under its first name
            for name, layer in named_layers(model):
                for method in FORWARDS if layer not in seen else ():
                    if hasattr(layer, method):
                        watch(name, layer, method)
                seen.add(layer)
            with np.errstate(all="ignore"):
                run()
        finally:
            for layer, method in watched:
                delattr(layer, method)
    return found[0] if found else ""


@contextmanager
def _plain_blocks(model: Model) -> Iterator[None]:
    """Within the block the fused blocks run as the plain ones, whose norms are layers that are called."""
    fused = [layer for layer in model.layers() if type(layer) in PLAIN]
    kinds = [type(layer) for layer in fused]
    for layer in fused:
        layer.__class__ = PLAIN[type(layer)]
    try:
        yield
    finally:
        for layer, kind in zip(fused, kinds):
            layer.__class__ = kind


def named_layers(layer: Layer, name: str = "") -> Iterator[tuple[str, Layer]]:
    """This layer and all below it, with names such as blocks.0.attention, as those of the parameters begin."""
    if isinstance(layer, Recompute):
        layer = layer.block
    yield name, layer
    for child_name, child in layer.children():
        if isinstance(child, Layer):
            yield from named_layers(child, f"{name}.{child_name}" if name else child_name)


def _finite(output: Any) -> bool:
    if isinstance(output, tuple):
        return all(map(_finite, output))
    if isinstance(output, Shared):
        return _finite(output.data)
    if getattr(output, "dtype", None) == np.uint16:  # the upper halves of float32 numbers (layers/quantized.py)
        return bool(((output & 0x7F80) != 0x7F80).all())
    return output is None or bool(np.isfinite(output).all())
