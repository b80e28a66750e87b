"""Short examples side by side in one row, so that little of a batch is padding; none of them sees another.

B batch, T the longest row of the batch. tokens (B, T) int64; targets (B, T) int64 with -100 outside of the replies;
attention_mask (B, T, T) bool, True within an example; positions (B, T) int64, from 0 on in each example.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .examples import Example, ExampleBatches, padded
from .files import DataError
from .order import key, shuffled
from .padding import right_padded


@dataclass(frozen=True)
class Pack(Example):
    """Several examples in a row: their tokens and what is to be learned of them, (n,); the number of each one's, (n,)."""

    number: np.ndarray


def pack(examples: Sequence[Example], length: int, seed: int = 0) -> list[Pack]:
    """The examples in rows of at most `length` tokens: each, from the longest on, goes into the fullest row that has room.

    Best fit decreasing: the rows are at most 11/9 as many as they need be (Johnson 1973). The seed decides who meets whom.
    DataError where an example is longer than a row.
    """
    size = np.array([len(one.tokens) for one in examples])
    if len(size) and size.max() > length + 1:
        raise DataError(f"an example has {size.max()} tokens, and a row takes {length + 1}: give max_length to `example`")
    order = shuffled(np.arange(len(size)), len(size), key(seed)) if len(size) else np.arange(0)
    order = order[np.argsort(-size[order], kind="stable")]
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # tokens that there is room for -> rows
    for index in order.tolist():
        n = int(size[index])
        room = next((r for r in range(n, length + 2) if with_room.get(r)), None)
        if room is None:
            rows.append([])
        row = len(rows) - 1 if room is None else with_room[room].pop()
        rows[row].append(index)
        with_room.setdefault((length + 1 if room is None else room) - n, []).append(row)
    return [_joined([examples[index] for index in row]) for row in rows]


def _joined(examples: list[Example]) -> Pack:
    for_first = [np.arange(len(one.tokens)) > 0 for one in examples]  # nobody is to predict where the next one begins
    return Pack(
        np.concatenate([one.tokens for one in examples]),
        np.concatenate([one.learned & later for one, later in zip(examples, for_first)]),
        np.concatenate([np.full(len(one.tokens), i) for i, one in enumerate(examples)]),
    )


def packed(packs: Sequence[Pack], pad: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Packs as one batch, padded at the end: tokens, targets, attention_mask, positions."""
    tokens, targets, _ = padded(packs, pad)
    number, _ = right_padded([one.number[:-1] for one in packs], -1)
    mask = (number[:, :, None] == number[:, None, :]) & (number >= 0)[:, None]
    positions = np.maximum(np.tril(mask).sum(-1) - 1, 0)
    return tokens, targets, mask, positions


class PackedBatches(ExampleBatches):
    """Shuffled batches of packed rows, (tokens, targets, attention_mask, positions), without end: for a model's `loss`.

    Every example comes once an epoch, always in the same company. length: the longest row.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, length: int, seed: int = 0, pad: int = 0):
        self.length = length
        super().__init__(pack(examples, length, seed), batch_size, seed, pad)

    def batch(self, examples: Sequence[Example]) -> tuple[np.ndarray, ...]:
        return packed([one for one in examples if isinstance(one, Pack)], self.pad)

    def identity(self) -> dict[str, int]:
        return {**super().identity(), "length": self.length}
