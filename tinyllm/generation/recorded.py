"""A step of decoding, one token a row, recorded once and then replayed without Python.

Such a step is short. GPT-2 small reads half a gigabyte, which takes a large GPU about 0.1 ms, in 136 launches, which take
Python many times as long. So the launches are recorded, once for each size of the cache, and from then on they are replayed
together (kernels/cuda/graph.py). On a CPU Python takes a tenth of the step or more, and is left out in the same way
(kernels/cpu/graph.py). What changes from token to token is in one array, which is filled again for each step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..kernels.device import refill
from ..layers import Context, dropout_is_allowed


def is_recordable(model: Any, tokens: np.ndarray, cache: Any) -> bool:
    """Whether the logits of tokens (R, T) are a step to record: one token a row, after others in the cache, without dropout,
    and of no more rows than the kernel set can record."""
    if not model.steady or tokens.shape[1] != 1 or not len(tokens) or cache.length == 0:
        return False
    if model.mode.training and dropout_is_allowed():
        return False
    return kernels.can_record(model.flat.data, len(tokens))


class Step:
    """The graph for R rows and a cache of some capacity, and the array that holds its inputs."""

    def __init__(self, model: Any, rows: int, capacity: int, masked: bool):
        self.weights = model.flat.data, model.flat.rounded  # which it reads in place
        self.precision = kernels.autocast_dtype()
        self.sizes = rows, capacity, masked
        numbers = 8 * (1 + 2 * rows)  # bytes of the length, tokens, positions
        self.inputs = kernels.zeros(model.flat.data, numbers + masked * rows * capacity, np.uint8)
        first = self.inputs[:numbers].view(np.int64)
        self.end, self.tokens, self.positions = first[:1], first[1 : rows + 1, None], first[rows + 1 :, None]
        self.mask = self.inputs[numbers:].view(bool).reshape(rows, capacity) if masked else None
        self.graph = kernels.graph(model.flat.data)

    def serves(self, model: Any, *sizes: Any) -> bool:
        """Whether it is for this number of rows, this capacity, a mask or none, and the model's weights and precision."""
        same_weights = self.weights[0] is model.flat.data and self.weights[1] is model.flat.rounded
        return same_weights and self.sizes == sizes and self.precision == kernels.autocast_dtype()

    def __call__(self, model: Any, tokens: Any, cache: Any, context: Context) -> Any:
        """logits (R, 1, V) of tokens (R, 1). context: their positions (1,) or (R, 1), the mask of all positions or None."""
        rows, capacity, masked = self.sizes
        positions = np.zeros(1) if context.positions is None else context.positions
        numbers = [cache.length + 1], tokens[:, 0], np.broadcast_to(positions.reshape(-1), rows)
        inputs = [np.concatenate(numbers).astype(np.int64).view(np.uint8)]
        if masked:
            room = np.zeros((rows, capacity), bool)
            mask = np.asarray(context.mask)
            room[:, : cache.length + 1] = mask.reshape(len(mask), -1)
            inputs.append(room.view(np.uint8).reshape(-1))
        refill(self.inputs, np.concatenate(inputs))
        recorded = Context(self.mask, self.positions, cache, source_mask=cache.mask)
        cache.end = self.end
        try:
            return self.graph(lambda: model.output(model.decoder_hidden(self.tokens, recorded))).copy()
        finally:
            cache.end = None
