"""Span corruption: stretches of a text are taken out, and the model learns to write them (Raffel et al. 2020, 3.1.4).

A window "Thank you for inviting me to your party last week" may become

    source   Thank you <extra_id_0> me to your party <extra_id_1> week </s>
    target   <extra_id_0> for inviting <extra_id_1> last </s>

B batch, S source, T target: all rows of one length are corrupted to one length, so that nothing is padding.
source (B, S), target_in (B, T), targets (B, T): int64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenizers.base import Tokenizer
from .batches import Batches
from .files import DataError
from .order import key

Corrupted = tuple[np.ndarray, np.ndarray, np.ndarray]  # source, target_in, targets


@dataclass(frozen=True)
class Noise:
    """How a window is corrupted: the share that is taken out, in stretches of this mean length, and the tokens for that.

    sentinels: the ids of <extra_id_0>, <extra_id_1>, ...; end: of </s>; start: what the decoder begins with.
    """

    sentinels: Sequence[int]
    end: int
    start: int
    density: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.density < 1 or not self.mean_span >= 1:
            raise DataError(
                f"span corruption takes out a share between 0 and 1 in spans of 1 token at least, and not {self.density} in "
                f"spans of {self.mean_span}"
            )

    def counts(self, length: int) -> tuple[int, int]:
        """How many of `length` tokens are taken out, and in how many spans; tokens are left between any two of them."""
        taken = min(max(round(length * self.density), 1), length - 1)
        spans = min(max(round(taken / self.mean_span), 1), length - taken)
        if length < 2:
            raise DataError(f"a window of {length} tokens is too short for span corruption, which needs 2 at least")
        if spans > len(self.sentinels):
            raise DataError(
                f"{spans} spans in {length} tokens need as many sentinels, and the tokenizer has {len(self.sentinels)}: "
                "choose shorter windows, less noise, or longer spans"
            )
        return taken, spans

    def lengths(self, length: int) -> tuple[int, int]:
        """S and T of a window of `length` tokens: what is left, or taken out, the sentinels, and the end."""
        taken, spans = self.counts(length)
        return length - taken + spans + 1, taken + spans + 1

    def corrupted(self, window: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """source (S,), target (T,) of one window (length,): left and taken out by turns.

        The window may begin and end with either. (T5's own code always begins with what is left and ends with a span.)
        """
        taken, spans = self.counts(len(window))
        taken_lengths = random_parts(taken, spans, random)
        left_lengths = random_parts(len(window) - taken + 2, spans + 1, random)
        left_lengths[[0, -1]] -= 1  # the first and the last stretch may be empty
        before_spans, before_taken = np.cumsum(left_lengths)[:-1], np.cumsum(taken_lengths) - taken_lengths
        offsets = np.arange(taken) - np.repeat(before_taken, taken_lengths)  # 0 1 2, 0 1, ... within the spans
        is_taken = np.zeros(len(window), bool)
        is_taken[np.repeat(before_spans + before_taken, taken_lengths) + offsets] = True
        sentinels = np.asarray(self.sentinels[:spans])
        source = np.insert(window[~is_taken], before_spans, sentinels)
        target = np.insert(window[is_taken], before_taken, sentinels)
        return np.append(source, self.end), np.append(target, self.end)

    def batch(self, windows: np.ndarray, seeds: Sequence[int]) -> Corrupted:
        """Windows (B, length) corrupted, each with the noise of its own seed."""
        rows = [self.corrupted(window, np.random.default_rng(seed)) for window, seed in zip(windows, seeds)]
        source, targets = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(2))
        return source, shifted(targets, self.start), targets


def random_parts(n: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """n cut into `parts` positive whole numbers, every way equally likely: (parts,) int64."""
    cuts = np.sort(random.permutation(n - 1)[: parts - 1]) + 1
    return np.diff(cuts, prepend=0, append=n)


def shifted(targets: np.ndarray, start: int) -> np.ndarray:
    """What the decoder sees when it is to predict targets (B, T): `start`, then all but the last."""
    return np.concatenate([np.full_like(targets[:, :1], start), targets[:, :-1]], 1)


class SpanBatches(Batches):
    """Shuffled windows of a text, corrupted anew each time: (source, target_in, targets) without end.

    The windows come as those of Batches, and the noise follows from the seed and the window's place in the row alone.
    """

    def __init__(self, tokens: np.ndarray, batch_size: int, length: int, noise: Noise, seed: int = 0):
        noise.counts(length)
        super().__init__(tokens, batch_size, length, seed)
        self.noise = noise

    def at(self, position: int) -> Corrupted:  # type: ignore[override]  # what a batch is
        """The batch that begins at this position."""
        places = position + np.arange(self.batch_size)
        windows = self.tokens[self._starts(places)[:, None] + np.arange(self.length)].astype(np.int64)
        return self.noise.batch(windows, [key(self.seed, int(place), 2) for place in places])


def spans_pass(tokens: np.ndarray, batch_size: int, length: int, noise: Noise) -> Iterator[Corrupted]:
    """The text's windows side by side, corrupted the same way each time: the batches for validation.

    What is left at the text's end, less than a window, is passed over.
    """
    count = len(tokens) // length
    if not count:
        raise DataError(f"{len(tokens):,} tokens are too few to hold out a window of {length:,}: give more text")
    windows = tokens[: count * length].reshape(count, length).astype(np.int64)
    for first in range(0, count, batch_size):
        group = windows[first : first + batch_size]
        yield noise.batch(group, [key(first + i, 3) for i in range(len(group))])


def sentinel_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids of <extra_id_0>, <extra_id_1>, ...; DataError where the tokenizer has none."""
    ids: list[int] = []
    while (id := tokenizer.token_to_id(f"<extra_id_{len(ids)}>")) is not None:
        ids.append(id)
    if not ids:
        raise DataError("the tokenizer has no <extra_id_0>, which stands for what span corruption takes out: use T5's kind")
    return ids
