"""The key/value cache of generation: what attention computed for earlier tokens, which never changes again.

A model that is called with a cache hands over to it: `logits` runs the model on the next tokens, and each attention layer
calls `attend` on its way. One token a row is a step that is recorded and replayed where that is possible (recorded.py).
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from .. import kernels
from ..kernels.device import device_of, moved
from ..layers import Context, CrossAttention, without_dropout
from .recorded import Step, is_recordable

LEAST = 64  # positions that there is room for at first, if the caller does not say how many will come


class KVCache:
    """Keys and values of all attention layers for the first `length` positions of B sequences, of one model.

    A call with another model, after the model's weights changed, or with another number of sequences is a ValueError.

    end: during a recorded step an int64 (1,) on the device, the length after that step. `attend` then takes all the room
    that there is for keys and values, and the kernels read from `end` how many there are.

    least: positions that there is room for from the start. A step is recorded again when that is used up.
    """

    mask: Any = None  # which tokens of a source are real (SourceCache)

    def __init__(self, least: int = LEAST) -> None:
        self.length, self.least = 0, least
        self.end: Any = None
        self.step: Step | None = None  # the recorded step that goes on from here
        self._model: Any = None  # a weak reference to the model that computed what is here,
        self._weights: list[tuple[Any, int]] = []  # and to each of its Flats, with the version that it computed with
        self._arrays: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by layer: (B, capacity, G, D), twice

    def __getstate__(self) -> dict[str, Any]:
        """A copy goes on by itself: the recorded step reads and writes the arrays of the original."""
        return {**vars(self), "step": None}

    def logits(self, model: Any, tokens: np.ndarray, context: Context, last_only: bool = False) -> Any:
        """Runs the model on the next T tokens of each sequence and keeps their keys and values.

        tokens (B, T) -> logits (B, T, V), or with last_only (B, 1, V).
        """
        self.claim(model, len(tokens))
        if is_recordable(model, tokens, self):
            return self.recorded(model, tokens, context)
        h = model.decoder_hidden(tokens, context)  # (B, T, C)
        self.advance(tokens.shape[1])
        return model.output(h[:, -1:] if last_only else h)

    def recorded(self, model: Any, tokens: np.ndarray, context: Context) -> Any:
        """logits for one token a row, by the recorded step, which is made or replaced where necessary."""
        self.reserve(self.length + 1)
        sizes = len(tokens), self.room, context.mask is not None
        if self.step is None or not self.step.serves(model, *sizes):
            self.step = Step(model, *sizes)
        logits = self.step(model, tokens, self, context)
        self.advance(1)
        return logits

    # Whose it is -------------------------------------------------------------------------------------------------------

    def claim(self, model: Any, rows: int) -> None:
        """Makes this the model's cache of that many sequences. ValueError if it holds keys and values of other ones."""
        if not self.is_empty and not self.serves(model):
            what = "weights that the model no longer has" if self._model() is model else "another model"
            raise ValueError(f"the cache holds keys and values of {what}: begin with a new KVCache, or call `encoded` again")
        if not self.is_empty and self.rows not in (None, rows):
            raise ValueError(f"the cache holds {self.rows} sequences, and tokens has {rows} rows: give it one row for each")
        if not self.serves(model) or self.rows != rows:
            self._arrays, self.step, self._model = {}, None, weakref.ref(model)
            others = (flat for flat in model._flats() if flat is not model.flat)
            self._weights = [(weakref.ref(flat), flat.version) for flat in (model.flat, *others)]

    def serves(self, model: Any) -> bool:
        """Whether this cache is of this model, with the weights that it has now."""
        if self._model is None or self._model() is not model or self._weights[0][0]() is not model.flat:
            return False
        return all((flat := ref()) is not None and flat.version == version for ref, version in self._weights)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing here that depends on a model."""
        return self.length == 0

    @property
    def rows(self) -> int | None:
        """The number of sequences. None if there is nothing yet."""
        return next((len(k) for k, _ in self._arrays.values()), None)

    # What attention asks for -------------------------------------------------------------------------------------------

    def attend(self, layer: Any, q: Any, k: Any, v: Any, options: dict[str, Any]) -> Any:
        """Appends k, v (B, T, G, D) to this layer's keys and values and attends to all of them.  q (B, T, H, D) -> y."""
        if self.end is not None:
            keys, values = self._arrays[id(layer)]
            kernels.append(k, v, keys, values, self.end)
            return kernels.attention_step(q, keys, values, self.end, **options)
        y, _ = kernels.attention_forward(q, *self.extend(layer, k, v), **options)
        return y

    def extend(self, layer: Any, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Appends k, v (B, T, G, D) of this layer -> all its keys and values so far, views (B, length + T, G, D)."""
        end = self.length + k.shape[1]
        keys, values = self._room(id(layer), k, end)
        keys[:, self.length : end] = k
        values[:, self.length : end] = v
        return keys[:, :end], values[:, :end]

    def of_source(self, layer: Any) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of a source, which only a SourceCache has."""
        raise ValueError(
            "a KVCache holds no source: make the cache by tinyllm.generation.encoded(model, source, source_mask)"
        )

    # Memory ------------------------------------------------------------------------------------------------------------

    def _room(self, key: int, k: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
        """This layer's arrays with room for `end` positions. The room doubles when it runs out."""
        if key in self._arrays and self._arrays[key][0].shape[1] >= end:
            return self._arrays[key]
        B, _, G, D = k.shape
        room = max(self.least, 2 * end if key in self._arrays else end)
        grown = tuple(kernels.zeros(k, (B, room, G, D)) for _ in range(2))
        for new, old in zip(grown, self._arrays.get(key, ())):
            new[:, : self.length] = old[:, : self.length]
        self._arrays[key] = grown[0], grown[1]
        return self._arrays[key]

    def reserve(self, end: int) -> None:
        """Makes room for `end` positions in all layers that have keys and values."""
        for key, (k, _) in list(self._arrays.items()):
            self._room(key, k, end)

    @property
    def room(self) -> int:
        """The number of positions that there is room for."""
        return next((k.shape[1] for k, _ in self._arrays.values()), 0)

    def advance(self, T: int) -> None:
        """Counts T positions whose keys and values all layers have appended."""
        self.length += T

    def select(self, rows: np.ndarray) -> None:
        """Keeps the given rows of the batch, in that order. A row may come several times (beam search)."""
        self._arrays = {key: (selected(k, rows), selected(v, rows)) for key, (k, v) in self._arrays.items()}

    def crop(self, length: int) -> None:
        """Drops all positions from `length` on."""
        self.length = min(self.length, length)


def selected(a: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows of a. If their number does not change they stay in a's memory, where a recorded step looks for them."""
    if len(rows) != len(a):
        return a[rows]
    a[...] = a[rows]
    return a


class SourceCache(KVCache):
    """The cache of a decoder that also attends to a source. The source's keys and values are computed once, by `encoded`.

    mask: bool (B, S), which tokens of the source are real, on the model's device. None: all of them.
    """

    def __init__(self, mask: np.ndarray | None):
        super().__init__()
        self.mask = mask
        self._source: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by layer: (B, S, H, D), twice

    def hold(self, layer: Any, k: np.ndarray, v: np.ndarray) -> None:
        """Keeps the source's keys and values for this layer."""
        self._source[id(layer)] = k, v

    def of_source(self, layer: Any) -> tuple[np.ndarray, np.ndarray]:
        """The keys and values (B, S, H, D) of the source for this layer."""
        return self._source[id(layer)]

    @property
    def is_empty(self) -> bool:
        return not self._source

    @property
    def rows(self) -> int | None:
        return next((len(k) for k, _ in self._source.values()), None)

    def select(self, rows: np.ndarray) -> None:
        super().select(rows)
        self._source = {key: (selected(k, rows), selected(v, rows)) for key, (k, v) in self._source.items()}
        self.mask = None if self.mask is None else selected(self.mask, rows)


def encoded(model: Any, source: Any, source_mask: Any = None) -> SourceCache:
    """Runs the encoder of an encoder-decoder once: the cache that its `decode` begins with.  source, source_mask (B, S)."""
    with without_dropout(), model.inference():
        h, mask = model.encode(source, source_mask=source_mask)  # (B, S, C), (B, S)
        cache = SourceCache(None if mask is None else moved(mask, device_of(h)))
        cache.claim(model, len(h))
        for layer in model.decoder.layers():
            if isinstance(layer, CrossAttention):
                cache.hold(layer, *layer.keys_values(h))
    return cache
