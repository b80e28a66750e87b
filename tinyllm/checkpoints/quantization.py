"""Models with their matrices in 16, 8 or 4 bits a number: a half to an eighth of the memory, and of what decoding reads.

quantize(model, 4)                # in place, a matrix at a time
tinyllm.save("small", model)      # a directory as any other, only smaller
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

import numpy as np

from .. import kernels
from ..layers import (
    Embedding,
    Layer,
    Linear,
    LinearActivation,
    Output,
    Packed,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedLinearActivation,
    QuantizedOutput,
)
from ..layers.parameter import Flat, Parameter
from ..models import LanguageModel, Model

LINE = 64  # bytes of memory that come together
VOCABULARY_BITS = 8  # at least, of embeddings and output, whose errors meet every token

Pack = Callable[[Parameter, int], Packed]


def quantize(model: Model, bits: int = 8) -> None:
    """Brings all matrices of a decoder into 16 bits (bfloat16), 8 or 4, those of the vocabulary into 8 at least.

    Biases, norms and positions stay.

    The model computes and generates as before, nearly. Its matrices are not trained any more; adapters can be (lora.py).
    ValueError where the model is of another kind, has adapters, or is quantized already.
    """

    def pack(parameter: Parameter, bits: int) -> Packed:
        return Packed(parameter.name, parameter.shape, *kernels.quantize(parameter.data, bits))

    _replace(model, bits, pack)


def prepare(model: Model, bits: int) -> None:
    """Gives a model that was made without values the layers that `quantize` makes, to be filled from a file."""

    def pack(parameter: Parameter, bits: int) -> Packed:
        F, C = parameter.shape
        q, scales = kernels.quantize(np.zeros((1, C), np.float32), bits)
        zeros = (np.zeros((F, array.shape[1]), array.dtype) for array in (q, scales))
        return Packed(parameter.name, parameter.shape, *zeros)

    _replace(model, bits, pack)


def _replace(model: Model, bits: int, pack: Pack) -> None:
    if not isinstance(model, LanguageModel):
        raise ValueError(f"{type(model).__name__} cannot be quantized yet: GPT, Llama and OPT can")
    if model.lora is not None or model.bits is not None:
        has = "adapters: merge them first" if model.lora is not None else f"{model.bits} bits already: start from its source"
        raise ValueError(f"the model has {has}")
    packed: dict[int, Packed] = {}  # a tied matrix once

    def once(parameter: Parameter, bits: int) -> Packed:
        if id(parameter) not in packed:
            packed[id(parameter)] = pack(parameter, bits)
        return packed[id(parameter)]

    dtype = model.dtype
    for parent, attribute, layer in list(_matrices(model)):
        setattr(parent, attribute, _quantized(layer, bits, once, dtype))
    _side_by_side(list(packed.values()))
    rest = model.parameters()
    values = [parameter.data for parameter in rest]
    model.bits, model.flat = bits, Flat(rest, dtype)
    for parameter, value in zip(rest, values):
        parameter.data = value
    model.share_mode(model.mode)


def _side_by_side(packed: list[Packed]) -> None:
    """Moves the arrays into one stretch of memory: the system maps a large one in large pages, which are read faster."""
    arrays = [array for matrix in packed for array in (matrix.q, matrix.scales)]
    sizes = [-(-array.nbytes // LINE) * LINE for array in arrays]
    starts = iter([0, *accumulate(sizes)])
    memory = kernels.empty(arrays[0], sum(sizes), np.uint8)
    for matrix in packed:
        matrix.q, matrix.scales = (_copied(array, memory[next(starts) :]) for array in (matrix.q, matrix.scales))


def _copied(array: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """The array at the beginning of this memory."""
    copy = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _matrices(model: Model) -> Iterator[tuple[Layer, str, Layer]]:
    """The layers that hold a matrix: (the layer that has it, under which attribute, it)."""
    for parent in model.layers():
        for attribute, layer in vars(parent).items():
            if isinstance(layer, (Linear, Embedding, Output)):
                yield parent, attribute, layer


def _quantized(layer: Layer, bits: int, pack: Pack, dtype: np.dtype) -> Layer:
    if isinstance(layer, Embedding):
        return QuantizedEmbedding(pack(layer.w, max(bits, VOCABULARY_BITS)), dtype)
    if isinstance(layer, Output):
        return QuantizedOutput(pack(layer.w, max(bits, VOCABULARY_BITS)), layer.b)
    if isinstance(layer, LinearActivation):
        return QuantizedLinearActivation(pack(layer.w, bits), layer.b, layer.activation)
    assert isinstance(layer, Linear)
    return QuantizedLinear(pack(layer.w, bits), layer.b)
