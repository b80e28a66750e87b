"""Examples for fine-tuning: prompt and reply, or a dialogue, padded into batches, with the loss on the replies alone.

B batch, T the longest row of the batch. tokens (B, T) int64, targets (B, T) int64 with -100 outside of the replies,
attention_mask (B, T) bool, False at the padding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenizers.base import Tokenizer
from .batches import IGNORED, Row
from .files import DataError
from .order import key, shuffled
from .padding import right_padded

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # tokens, targets, attention_mask

POOL = 32  # batches whose examples are sorted by length together


@dataclass(frozen=True)
class Example:
    """The tokens of one example, (n,) int64, and which of them the model is to learn to write, (n,) bool."""

    tokens: np.ndarray
    learned: np.ndarray


def example(
    tokenizer: Tokenizer, parts: Iterable[tuple[str, bool]], end_of_text: int | None = None, max_length: int | None = None
) -> Example | None:
    """A dialogue as an example: its parts in order as (text, whether the model is to learn to write it).

    Each part is encoded on its own, as the prompt will be when the model is used. `end_of_text` ends every learned part, so
    that the model learns to stop. What is longer than max_length + 1 tokens loses its beginning; None where nothing that
    could be learned remains (the first token is never predicted).
    """
    tokens, learned = [], []
    for text, learn in parts:
        ids = tokenizer.encode(text) + [end_of_text] * (learn and end_of_text is not None)
        tokens += ids
        learned += [learn] * len(ids)
    keep = slice(None if max_length is None else -(max_length + 1), None)
    made = Example(np.array(tokens[keep], dtype=np.int64), np.array(learned[keep], dtype=bool))
    return made if made.learned[1:].any() else None


def pairs(
    tokenizer: Tokenizer,
    prompts_and_replies: Iterable[tuple[str, str]],
    end_of_text: int | None = None,
    max_length: int | None = None,
) -> list[Example]:
    """Examples of (prompt, reply), the loss on the reply; those of which nothing to learn remains are left out."""
    made = (
        example(tokenizer, [(prompt, False), (reply, True)], end_of_text, max_length)
        for prompt, reply in prompts_and_replies
    )
    return [one for one in made if one]


class ExampleBatches(Row):
    """Shuffled batches, (tokens, targets, attention_mask), without end; every example comes once an epoch.

    Examples of like length share a batch, so that little of it is padding: each epoch's shuffled order is sorted by length
    within pools of 32 batches, and the batches then come in shuffled order. All of it follows from the seed alone. An
    epoch's last batch is filled up from the next epoch.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int = 0, pad: int = 0):
        super().__init__()
        if not examples:
            raise DataError("there is no example to learn from")
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}, but a batch needs at least 1 example: give 1 or more")
        self.examples, self.seed, self.pad = examples, seed, pad
        self.batch_size = self.step = batch_size
        self.count = len(examples)
        self.lengths = np.array([self.length_of(one) for one in examples])
        self._orders: dict[int, np.ndarray] = {}  # of the epochs at hand

    def at(self, position: int) -> tuple[np.ndarray, ...]:
        """Return the batch that begins at this position, a multiple of batch_size."""
        places = position + np.arange(self.batch_size)
        epochs, index = np.divmod(places, self.count)
        rows = [self._order(epoch)[i] for epoch, i in zip(epochs.tolist(), index)]
        return self.batch([self.examples[row] for row in rows])

    def batch(self, examples: Sequence[Example]) -> tuple[np.ndarray, ...]:
        return padded(examples, self.pad)

    def length_of(self, one: Example) -> int:
        """What examples are sorted by."""
        return len(one.tokens)

    def drawn(self, epoch: int) -> np.ndarray:
        """The examples of an epoch, (count,), shuffled."""
        return shuffled(np.arange(self.count), self.count, key(self.seed, epoch))

    def identity(self) -> dict[str, int]:
        return {"examples": self.count, "tokens": int(self.lengths.sum()), "batch": self.step, "seed": self.seed}

    def _order(self, epoch: int) -> np.ndarray:
        """The examples of an epoch in the order in which they come."""
        if epoch not in self._orders:
            self._orders = {near: order for near, order in self._orders.items() if near == epoch - 1}
            self._orders[epoch] = self._new_order(epoch)
        return self._orders[epoch]

    def _new_order(self, epoch: int) -> np.ndarray:
        order = self.drawn(epoch)
        begin = -epoch * self.count % self.step  # so many examples fill up the last batch of the epoch before
        whole = max(0, self.count - begin) // self.step  # batches of this epoch alone
        batches = order[begin : begin + whole * self.step]
        for first in range(0, len(batches), POOL * self.step):
            pool = batches[first : first + POOL * self.step]
            pool[:] = pool[np.argsort(self.lengths[pool], kind="stable")]
        turns = shuffled(np.arange(whole), whole, key(self.seed, epoch, 1))
        batches[:] = batches.reshape(whole, self.step)[turns].ravel()
        return order


def examples_pass(examples: Sequence[Example], batch_size: int, pad: int = 0) -> Iterator[Batch]:
    """Every example once, sorted by length: the batches for validation. The last may have fewer rows."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].tokens))
    for first in range(0, len(order), batch_size):
        yield padded([examples[row] for row in order[first : first + batch_size]], pad)


def padded(examples: Sequence[Example], pad: int = 0) -> Batch:
    """Examples as one batch, padded at the end: tokens, targets (the token that follows, or -100) and attention_mask."""
    tokens, mask = right_padded([one.tokens[:-1] for one in examples], pad)
    targets, _ = right_padded([np.where(one.learned, one.tokens, IGNORED)[1:] for one in examples], IGNORED)
    return tokens, targets, mask
