"""Batches of source and target for an encoder-decoder, from one task or from several that are mixed.

B batch, S the longest source of the batch, T its longest target. source (B, S), target_in (B, T), targets (B, T) int64, -100
behind a target's end; source_mask (B, S) bool, False at the padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenizers.base import Tokenizer
from .batches import IGNORED
from .examples import ExampleBatches
from .files import DataError
from .order import key, shuffled
from .padding import right_padded
from .spans import shifted
from .text_pairs import Pairs

Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # source, target_in, targets, source_mask


@dataclass(frozen=True)
class PairExample:
    """The tokens of a source (S,) and of its target (T,), int64, each with the end token."""

    source: np.ndarray
    target: np.ndarray


def encoded(tokenizer: Tokenizer, text: str, max_length: int, end: int) -> list[int]:
    """A text's tokens, at most max_length with the end: what is too long is cut. Special tokens are not read in it."""
    return [*tokenizer.encode(text, allow_special=False)[: max_length - 1], end]


def pair_examples(
    tokenizer: Tokenizer, pairs: Pairs, prefix: str, max_source: int, max_target: int, end: int
) -> list[PairExample]:
    """Pairs as examples; `prefix` stands before each source, and tells a model of several tasks which is meant."""
    return [
        PairExample(
            np.array(encoded(tokenizer, prefix + source, max_source, end)),
            np.array(encoded(tokenizer, target, max_target, end)),
        )
        for source, target in zip(pairs.sources, pairs.targets)
    ]


def padded_pairs(examples: Sequence[PairExample], start: int, pad: int) -> Batch:
    """Examples as one batch, padded at the end. start: what the decoder begins with."""
    source, mask = right_padded([one.source for one in examples], pad)
    targets, real = right_padded([one.target for one in examples], pad)
    return source, shifted(targets, start), np.where(real, targets, IGNORED), mask


class PairBatches(ExampleBatches):
    """Shuffled batches, (source, target_in, targets, source_mask), without end, of like lengths (examples.ExampleBatches).

    Several tasks are mixed in proportion to their examples, but none counts for more than `cap` of them (0: no cap; Raffel
    et al. 2020, 3.5.2): an epoch has min(examples, cap) of each, those that follow on the last epoch's in the task's own
    shuffled order. So each example comes once before any of its task comes again.
    """

    def __init__(
        self,
        tasks: Sequence[Sequence[PairExample]],
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        pad: int = 0,
        cap: int = 0,
    ):
        if cap < 0 or not all(tasks):
            raise DataError(f"each task needs examples, and the cap must be 0 or more: it is {cap}")
        self.sizes = [len(examples) for examples in tasks]
        self.shares = [min(size, cap or size) for size in self.sizes]
        self.start = start
        super().__init__([one for examples in tasks for one in examples], batch_size, seed, pad)  # type: ignore[misc]
        self.count = sum(self.shares)

    def length_of(self, one: PairExample) -> int:  # type: ignore[override]  # its examples are other ones
        return len(one.source) + len(one.target)

    def drawn(self, epoch: int) -> np.ndarray:
        chosen, first = [], 0
        for task, (size, share) in enumerate(zip(self.sizes, self.shares)):
            turns, index = np.divmod(epoch * share + np.arange(share), size)
            for turn in np.unique(turns).tolist():
                chosen.append(first + shuffled(index[turns == turn], size, key(self.seed, turn, 4, task)))
            first += size
        return np.concatenate(chosen)[shuffled(np.arange(self.count), self.count, key(self.seed, epoch))]

    def batch(self, examples: Sequence[PairExample]) -> Batch:  # type: ignore[override]
        return padded_pairs(examples, self.start, self.pad)


def pairs_pass(examples: Sequence[PairExample], batch_size: int, start: int = 0, pad: int = 0) -> Iterator[Batch]:
    """Every example once, in batches of like lengths that come in a mixed order: the batches for validation."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].source) + len(examples[row].target))
    count = -(-len(order) // batch_size)
    for turn in shuffled(np.arange(count), count, key(0)).tolist():
        rows = order[turn * batch_size : (turn + 1) * batch_size]
        yield padded_pairs([examples[row] for row in rows], start, pad)
