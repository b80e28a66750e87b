"""A step of decoding, one token a row, recorded once and then repeated without Python.

Such a step is short: GPT-2 small reads half a gigabyte, some 0.1 ms of a large GPU's time, in 124 launches, which take
Python many times as long. So they are recorded, once for each size of the cache, and from then on launched together
(kernels/cuda/graph.py). On a CPU Python is a tenth of the step or more, and likewise left out (kernels/cpu/graph.py).
What changes from token to token lies in one array, filled anew for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..device import refill
from ..layers import KVCache

Run = Callable[[Any, Any, Any, KVCache], Any]  # (tokens (R, 1), positions (R, 1), mask (R, S) or None, cache) -> (R, 1, V)


def is_recordable(model: Any, tokens: np.ndarray, cache: KVCache | None) -> bool:
    """Return whether to record the step that computes the logits of tokens (R, T): one token a row, after others in the
    cache, without dropout, and of so many rows as the kernel set can record."""
    if tokens.shape[1] != 1 or not len(tokens) or cache is None or cache.length == 0 or model.mode.training:
        return False
    return kernels.can_record(model.flat.data, len(tokens))


def step(model: Any, run: Run, tokens: Any, cache: KVCache, positions: Any, mask: Any) -> Any:
    """run(...) of these tokens (R, 1) behind those that the cache holds, which receives them -> logits (R, 1, V).

    positions (1,) or (R, 1); mask bool (R, S), (1, S), or with an axis of one between, or None.
    """
    cache.reserve(cache.length + 1)
    sizes = len(tokens), cache.room, mask is not None
    if cache.step is None or not cache.step.serves(model, *sizes):
        cache.step = Step(model, *sizes)
    logits = cache.step(run, tokens, cache, positions, mask)
    cache.advance(1)
    return logits


class Step:
    """The graph for R rows and a cache of some capacity, and the array that its inputs lie in."""

    def __init__(self, model: Any, rows: int, capacity: int, masked: bool):
        self.weights = model.flat.data, model.flat.rounded  # which it reads where they lie
        self.precision = kernels.autocast_dtype()
        self.sizes = rows, capacity, masked
        numbers = 8 * (1 + 2 * rows)  # bytes of the length, tokens, positions
        self.inputs = kernels.zeros(model.flat.data, numbers + masked * rows * capacity, np.uint8)
        first = self.inputs[:numbers].view(np.int64)
        self.end, self.tokens, self.positions = first[:1], first[1 : rows + 1, None], first[rows + 1 :, None]
        self.mask = self.inputs[numbers:].view(bool).reshape(rows, capacity) if masked else None
        self.graph = kernels.graph(model.flat.data)

    def serves(self, model: Any, *sizes: Any) -> bool:
        """Whether it is for so many rows, such a capacity, a mask or none, the weights that the model has now, and the
        precision that is in force."""
        same_weights = self.weights[0] is model.flat.data and self.weights[1] is model.flat.rounded
        return same_weights and self.sizes == sizes and self.precision == kernels.autocast_dtype()

    def __call__(self, run: Run, tokens: Any, cache: KVCache, positions: Any, mask: Any) -> Any:
        rows, capacity, masked = self.sizes
        numbers = [cache.length + 1], tokens[:, 0], np.broadcast_to(positions.reshape(-1), rows)
        inputs = [np.concatenate(numbers).astype(np.int64).view(np.uint8)]
        if masked:
            room = np.zeros((rows, capacity), bool)
            room[:, : cache.length + 1] = mask.reshape(len(mask), -1)
            inputs.append(room.view(np.uint8).reshape(-1))
        refill(self.inputs, np.concatenate(inputs))
        cache.end = self.end
        try:
            return self.graph(lambda: run(self.tokens, self.positions, self.mask, cache)).copy()
        finally:
            cache.end = None
