"""The key/value cache of generation: what attention computed for earlier tokens, which never changes again."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels

LEAST = 64  # positions that there is room for, where nobody says how many will come


class KVCache:
    """Keys and values of all attention layers for the first `length` positions of B sequences.

    A model appends T positions by calling `extend` from each of its attention layers and then `advance(T)` once.

    end: while a step is under way that a graph can record (models/step.py), an int64 (1,) on the device: the length behind
    that step. `extend` then gives all the room that there is for keys and values, and attention reads how many there are.

    least: positions that there is room for from the start; a step is recorded anew when that is used up.
    """

    def __init__(self, least: int = LEAST) -> None:
        self.length, self.least = 0, least
        self.end: Any = None
        self.step: Any = None  # the Step that goes on from here
        self._arrays: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by layer: (B, capacity, G, D), twice

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, which goes on by itself: what is recorded reads and writes this one's arrays."""
        return {**vars(self), "step": None}

    def extend(self, layer: Any, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Appends k, v (B, T, G, D) of this layer -> all its keys and values so far, views (B, length + T, G, D)."""
        if self.end is not None:
            kernels.append(k, v, *self._arrays[id(layer)], self.end)
            return self._arrays[id(layer)]
        end = self.length + k.shape[1]
        keys, values = self._room(id(layer), k, end)
        keys[:, self.length : end] = k
        values[:, self.length : end] = v
        return keys[:, :end], values[:, :end]

    def _room(self, key: int, k: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
        """This layer's arrays with room for `end` positions; the room doubles when it runs out."""
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
        """How many positions there is room for."""
        return next((k.shape[1] for k, _ in self._arrays.values()), 0)

    def advance(self, T: int) -> None:
        self.length += T

    def select(self, rows: np.ndarray) -> None:
        """Keeps the given rows of the batch, in that order; one may come several times (beam search)."""
        self._arrays = {key: (selected(k, rows), selected(v, rows)) for key, (k, v) in self._arrays.items()}

    def crop(self, length: int) -> None:
        """Forgets all positions from `length` on."""
        self.length = min(self.length, length)


def selected(a: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows of a; as many as there are stay in it, where a graph looks for them."""
    if len(rows) != len(a):
        return a[rows]
    a[...] = a[rows]
    return a


class SourceCache(KVCache):
    """The cache of a decoder that attends to a source as well. The source's keys and values are held from the start.

    mask: bool (B, S), which tokens of the source are real, where the model is; None: all.
    """

    def __init__(self, mask: np.ndarray | None):
        super().__init__()
        self.mask = mask
        self._source: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by layer: (B, S, H, D), twice

    def hold(self, layer: Any, k: np.ndarray, v: np.ndarray) -> None:
        self._source[id(layer)] = k, v

    def of_source(self, layer: Any) -> tuple[np.ndarray, np.ndarray]:
        """The keys and values (B, S, H, D) of the source for this layer."""
        return self._source[id(layer)]

    def select(self, rows: np.ndarray) -> None:
        super().select(rows)
        self._source = {key: (selected(k, rows), selected(v, rows)) for key, (k, v) in self._source.items()}
        self.mask = None if self.mask is None else selected(self.mask, rows)
