"""The machine check behind every derivation: hand-written gradients against finite differences, in float64.

Each gradient g of a scalar f is compared with the four-point central difference along single coordinates and along one
random direction d, which all coordinates enter:

    g . d  =  (8 (f(+h d) - f(-h d)) - (f(+2h d) - f(-2h d))) / 12h  +  O(h^4)

The scalar is a model's loss, or for a layer sum(y * r) with a random cotangent r: a plain sum(y) would have no gradient at
all through a softmax or a norm, and anything would pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .layers import Layer
from .layers.parameter import Flat, Parameter
from .models import Model

STEP = 2e-4  # small, lest a step cross ReLU's corner
SMALLER = 4e-6  # the step of a second look, where the first might have crossed it


@dataclass
class Check:
    """One gradient's result: of a parameter by its name, or of an input by its number."""

    name: str
    shape: tuple[int, ...]
    norm: float  # of the hand-written gradient
    error: float  # |hand-written - numerical| / |numerical|, over what was compared


def gradcheck(
    layer: Layer,
    *inputs: Any,
    samples: int = 12,
    seed: int = 0,
    randomize: bool = True,
    **options: Any,
) -> list[Check]:
    """Checks the gradient of every parameter, and for a layer of every float input -> a Check for each.

    layer: a model, whose `loss(*inputs, **options)` is differentiated, or any layer with `forward(*inputs, **options)` and
    `backward(*gradients)`, which gives the gradients of its float inputs in their order. Without inputs a model is checked
    on an example of its own. samples: how many numbers of each array are compared one by one, beside the direction.
    randomize: weights of order one in place of the layer's own, whose small values would hide errors.
    The layer itself is left as it was: a float64 copy is checked, with dropout as the layer's mode has it.
    """
    random = np.random.default_rng(seed)
    layer = in_float64(layer)
    if isinstance(layer, Model) and not inputs:
        inputs, options = layer.example(random), {**layer.example_options(random), **options}
    if randomize:
        for parameter in layer.parameters():
            parameter.data[...] = order_one(random, parameter)
    inputs = tuple(x.astype(np.float64) if is_float(x) else x for x in inputs)
    arrays = {p.name: p.data for p in layer.parameters() if p.trained}
    if isinstance(layer, Model):
        f, gradients = model_function(layer, inputs, options)
    else:
        f, gradients = layer_function(layer, inputs, options, random)
        arrays |= {f"input {i}": x for i, x in enumerate(inputs) if is_float(x)}
    return [compare(f, name, array, gradients[name], random, samples) for name, array in arrays.items()]


def in_float64(layer: Layer) -> Layer:
    """A copy of the layer with its weights in float64."""
    layer.forget()
    layer = copy.deepcopy(layer)
    parameters = layer.parameters()
    if any(p.flat is None for p in parameters):
        return layer.initialize(dtype="float64")
    flats = {id(p.flat): p.flat for p in parameters if p.flat is not None}.values()
    for flat in flats:
        flat.cast("float64")
    layer.flat = next((flat for flat in flats if not flat.frozen), Flat([], "float64"))
    return layer


def order_one(random: np.random.Generator, parameter: Parameter) -> np.ndarray:
    """Random values such that a linear map keeps its input's size; vectors are spread around their initial value."""
    values = random.standard_normal(parameter.shape)
    if parameter.decays:
        return values / np.sqrt(parameter.shape[-1])
    return parameter.initial(random, parameter.shape) + values / 2


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)


Differentiated = tuple[Callable[[], float], dict[str, np.ndarray]]


def model_function(model: Model, inputs: Any, options: Any) -> Differentiated:
    """The loss as a function of the weights as they are now, and its hand-written gradients by name."""
    state = model.mode.random.bit_generator.state

    def f() -> float:
        model.mode.random.bit_generator.state = state  # the same dropout each time
        return model.loss(*inputs, **options)

    model.zero_grad()
    f()
    model.backward()
    return f, {p.name: p.grad.copy() for p in model.parameters() if p.trained}


def layer_function(layer: Layer, inputs: Any, options: Any, random: np.random.Generator) -> Differentiated:
    """sum(y * r) as a function of the weights and inputs as they are now, and its hand-written gradients by name."""
    state = layer.mode.random.bit_generator.state

    def outputs() -> tuple[np.ndarray, ...]:
        layer.forget()
        layer.mode.random.bit_generator.state = state
        y = layer.forward(*inputs, **options)
        return y if isinstance(y, tuple) else (y,)

    cotangents = [random.standard_normal(y.shape) for y in outputs()]

    def f() -> float:
        return sum(float((y * r).sum()) for y, r in zip(outputs(), cotangents))

    layer.flat.grad.fill(0)
    outputs()
    dx = layer.backward(*cotangents)
    gradients = {p.name: p.grad.copy() for p in layer.parameters() if p.trained}
    floats = [i for i, x in enumerate(inputs) if is_float(x)]
    return f, gradients | {f"input {i}": g for i, g in zip(floats, dx if isinstance(dx, tuple) else (dx,))}


def compare(f: Callable[[], float], name: str, x: np.ndarray, g: np.ndarray, random: Any, samples: int) -> Check:
    """The gradient g of f by the array x, against differences along some coordinates and one direction."""
    if g.shape != x.shape:
        raise ValueError(f"the gradient of {name} has shape {g.shape}, and must have that of what it belongs to, {x.shape}")
    directions = [random.standard_normal(x.shape) / np.sqrt(max(x.size, 1))]
    for i in random.permutation(x.size)[:samples]:
        directions.append(np.zeros(x.shape))
        directions[-1].flat[i] = 1
    analytic = np.array([(g * d).sum() for d in directions])
    numerical = np.array([difference(f, x, d) for d in directions])
    for i in np.flatnonzero(np.abs(analytic - numerical) > 1e-7 * np.abs(numerical).max()):
        again = difference(f, x, directions[i], SMALLER)
        if abs(analytic[i] - again) < abs(analytic[i] - numerical[i]):  # a wrong gradient is no closer to either
            numerical[i] = again
    size = max(float(np.linalg.norm(numerical)), 1e-5)  # a gradient below that is a zero with rounding
    return Check(name, x.shape, float(np.linalg.norm(g)), float(np.linalg.norm(analytic - numerical)) / size)


def difference(f: Callable[[], float], x: np.ndarray, d: np.ndarray, h: float = STEP) -> float:
    """The derivative of f along d, by the four-point central difference; x is put back bit for bit."""
    before = x.copy()

    def at(k: int) -> float:
        x[...] = before + k * h * d
        return f()

    result = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
    x[...] = before
    return result
