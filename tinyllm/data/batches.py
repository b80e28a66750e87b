"""Batches for language modelling: B windows of T tokens, and for each the same window one token further on.

B batch, T time. tokens (B, T) and targets (B, T) are int64; a target of -100 counts for nothing.
"""

from collections.abc import Iterator
from typing import Self, TypeVar

import numpy as np

from ..kernels.common import IGNORE
from .files import DataError
from .order import key, shuffled

IGNORED = IGNORE  # the target of a position whose loss does not count

Sequence = TypeVar("Sequence", str, np.ndarray)


def split(data: Sequence, fraction: float = 0.1, boundary: int | str | None = None) -> tuple[Sequence, Sequence]:
    """Training and validation part of a text or of its tokens: the validation part is the last `fraction`.

    With `boundary`, the end-of-text token (of a text, a character), the cut moves on to behind the next of them, if any.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the validation part must be a fraction between 0 and 1, not {fraction}")
    cut = int(len(data) * (1 - fraction))
    if boundary is not None:
        found = data.find(str(boundary), cut) if isinstance(data, str) else _find(data, boundary, cut)
        cut = found + 1 if 0 <= found < len(data) - 1 else cut
    if cut == 0 or cut == len(data):
        raise DataError(f"{len(data)} tokens are too few to keep a fraction of {fraction} for validation")
    return data[:cut], data[cut:]


class Row:
    """An endless row of batches, epoch after epoch; where it stands is one number, `position`, the items taken so far.

    A subclass says how many items make an epoch, which batch begins at a position, and what tells its data from others.
    """

    count: int  # items in an epoch
    step: int  # items in a batch

    def __init__(self) -> None:
        self.position = 0

    def at(self, position: int) -> tuple[np.ndarray, ...]:
        """The batch that begins at this position; it depends on nothing that was read before."""
        raise NotImplementedError

    def identity(self) -> dict[str, int]:
        """What must be the same for a saved position to mean the same."""
        raise NotImplementedError

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[np.ndarray, ...]:
        batch = self.at(self.position)
        self.position += self.step
        return batch

    @property
    def epoch(self) -> float:
        """How often the data has been gone through."""
        return self.position / self.count

    def state_dict(self) -> dict[str, int]:
        """Where the row stands, for a checkpoint: plain numbers."""
        epoch, index = divmod(self.position, self.count)
        return {"epoch": epoch, "index": index, **self.identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a saved row stood. Raises DataError where the position belongs to other data."""
        changed = [
            f"{name} {state.get(name)}, now {value}" for name, value in self.identity().items() if state.get(name) != value
        ]
        if changed:
            raise DataError(f"the saved position belongs to other data ({'; '.join(changed)}): restore these, or start anew")
        self.position = state["epoch"] * self.count + state["index"]


class Batches(Row):
    """Shuffled batches, (tokens, targets), without end; every window of the text comes once an epoch.

    The text is cut into windows side by side, from a beginning that differs by epoch, so that the seams move; the windows
    come in an order that differs by epoch as well. Both follow from the seed alone, by arithmetic: nothing is kept, and the
    batch at any position can be asked for. An epoch's last batch is filled up from the next epoch, so that none is short.
    Less than two windows of text, at its two ends, are left out of an epoch; which part it is changes from epoch to epoch.

    A saved position can be resumed with another batch size.
    """

    def __init__(self, tokens: np.ndarray, batch_size: int, length: int, seed: int = 0):
        super().__init__()
        _check(tokens, batch_size, length)
        self.tokens, self.length, self.seed = tokens, length, seed
        self.batch_size = self.step = batch_size
        self.count = max(1, (len(tokens) - length) // length)  # windows
        self.slack = len(tokens) - 1 - self.count * length  # where the first of them may begin, at most

    def at(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch that begins at this position: tokens (B, T), targets (B, T)."""
        places = position + np.arange(self.batch_size)
        rows = self.tokens[self._starts(places)[:, None] + np.arange(self.length + 1)]  # (B, T + 1)
        return rows[:, :-1].astype(np.int64), rows[:, 1:].astype(np.int64)

    def identity(self) -> dict[str, int]:
        return {"tokens": len(self.tokens), "length": self.length, "seed": self.seed}

    def _starts(self, places: np.ndarray) -> np.ndarray:
        """Where in the text the windows at these places of the row begin."""
        epochs, index = np.divmod(places, self.count)
        starts = np.empty_like(index)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            shift = key(self.seed, epoch, 1) % (self.slack + 1)
            starts[here] = shift + self.length * shuffled(index[here], self.count, key(self.seed, epoch))
        return starts


def full_pass(tokens: np.ndarray, batch_size: int, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches for validation, (tokens, targets), in which every token but the first is predicted exactly once.

    They are in the order of the text. The last window is filled up with token 0 and target -100, and the last batch may
    have fewer rows. So weight each batch's mean loss by the number of its targets that are not -100.
    """
    _check(tokens, batch_size, length, shortest=2)
    starts = np.arange(0, len(tokens) - 1, length)
    for first in range(0, len(starts), batch_size):
        where = starts[first : first + batch_size, None] + np.arange(length + 1)  # (B, T + 1)
        rows = tokens[np.minimum(where, len(tokens) - 1)].astype(np.int64)
        inside = where < len(tokens)
        yield np.where(inside[:, :-1], rows[:, :-1], 0), np.where(inside[:, 1:], rows[:, 1:], IGNORED)


def _check(tokens: np.ndarray, batch_size: int, length: int, shortest: int | None = None) -> None:
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        kind = f"{tokens.dtype} {tokens.shape}" if isinstance(tokens, np.ndarray) else type(tokens).__name__
        raise DataError(f"batches are made from one row of token ids (an integer array of one dimension), not from {kind}")
    if batch_size < 1 or length < 1:
        raise DataError(f"batch size and window length must be at least 1, not {batch_size} and {length}")
    if len(tokens) < (shortest or length + 1):
        raise DataError(
            f"{len(tokens):,} tokens are too few for windows of {length:,}, which need {length + 1:,}: "
            "give more text, or a shorter context"
        )


def _find(tokens: np.ndarray, token: int | str, start: int) -> int:
    """The next place of a token from `start` on; -1 where there is none."""
    for first in range(start, len(tokens), 1 << 20):
        if len(found := np.flatnonzero(tokens[first : first + (1 << 20)] == token)):
            return first + int(found[0])
    return -1
