"""Where a NaN or an infinity came from: the first parameter, layer or gradient that holds one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..layers import Layer
from ..models import Model

FORWARDS = ("forward", "loss")  # the methods by which a layer computes something


def in_parameters(model: Model) -> str:
    """The first parameter that is not finite; "" where all are."""
    bad = (parameter.name for parameter in model.parameters() if not np.isfinite(parameter.data).all())
    name = next(bad, "")
    return name and f"the first parameter that is not finite is {name}"


def in_loss(model: Model, batch: Sequence[Any], random_state: Any = None) -> str:
    """What is the first thing that is not finite in the loss of a batch: a parameter, or else a layer's output.

    random_state: the model's before it computed that loss, so that dropout is the same.
    """
    if bad := in_parameters(model):
        return bad
    if random_state is not None:
        model.mode.random.bit_generator.state = random_state
    layer = _first_layer(model, lambda: model.loss(**model.named(batch)))
    model.forget()
    return f"the first layer whose output is not finite is {layer}" if layer else "all layers' outputs are finite"


def in_gradient(model: Model) -> str:
    """Which parameter's gradient is the first that is not finite: in the backward, so the last in the model."""
    for parameter in reversed(model.parameters()):
        if parameter.trained and not np.isfinite(parameter.grad).all():
            return f"the first gradient that is not finite, on the way back, is that of {parameter.name}"
    return "the gradient of every parameter is finite, but their norm is too large for a number"


def _first_layer(model: Model, run: Callable[[], Any]) -> str:
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

    for name, layer in named_layers(model):
        for method in FORWARDS:
            if layer is not model and hasattr(layer, method):
                watch(name, layer, method)
    try:
        with np.errstate(all="ignore"):
            run()
    finally:
        for layer, method in watched:
            delattr(layer, method)
    return found[0] if found else ""


def named_layers(layer: Layer, name: str = "") -> Iterator[tuple[str, Layer]]:
    """This layer and all below it, with names such as blocks.0.attention."""
    yield name, layer
    for child_name, child in layer.children():
        if isinstance(child, Layer):
            yield from named_layers(child, f"{name}.{child_name}" if name else child_name)


def _finite(output: Any) -> bool:
    if isinstance(output, tuple):
        return all(map(_finite, output))
    return output is None or bool(np.isfinite(output).all())
