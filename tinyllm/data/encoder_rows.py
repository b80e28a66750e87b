"""Rows that an encoder reads whole, each with what is to be told of it, padded into batches of like length.

B batch, T the longest row of the batch. tokens (B, T) int64; targets int64, (B,) a label for each row, (B, T) one for each
token, -100 where there is none, or (B, 2) the first and the last token of an answer; token_types (B, T) int64;
attention_mask (B, T) bool: in this order the arguments of a BERT's loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tokenizers.base import Tokenizer
from .batches import IGNORED
from .examples import ExampleBatches
from .files import DataError
from .padding import by_length, right_padded


@dataclass(frozen=True)
class EncoderRow:
    """Token ids and token types, (n,) each, and the target: () a label, (n,) labels, or (2,) positions."""

    tokens: np.ndarray
    types: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)


class EncoderBatches(ExampleBatches):
    """Shuffled batches of rows, (tokens, targets, token_types, attention_mask), without end; every row comes once an epoch.

    Order and batches are those of ExampleBatches. hidden: the share of the words that become [MASK], others each time, so
    that no label is learned from single words (Iyyer et al. 2015, word dropout); targets stay.
    """

    def __init__(
        self,
        rows: Sequence[EncoderRow],
        tokenizer: Tokenizer,
        batch_size: int,
        seed: int = 0,
        hidden: float = 0.0,
    ):
        anything: Any = rows
        super().__init__(anything, batch_size, seed, tokenizer.pad_id or 0)
        if not 0 <= hidden < 1:
            raise DataError(f"the share of hidden words must be from 0 to below 1, and is {hidden}")
        if hidden and tokenizer.mask_id is None:
            raise DataError("words cannot be hidden: this tokenizer has no [MASK]")
        self.hidden, self.mask_id = hidden, tokenizer.mask_id
        self.special = np.zeros(tokenizer.vocab_size, bool)
        self.special[list(tokenizer.special_tokens.values())] = True

    def at(self, position: int) -> tuple[np.ndarray, ...]:
        tokens, *rest = super().at(position)
        if self.hidden:
            random = np.random.default_rng([self.seed, position, 0])  # the 0 is part of the recorded order
            tokens[(random.random(tokens.shape) < self.hidden) & ~self.special[tokens]] = self.mask_id
        return (tokens, *rest)

    def batch(self, examples: Sequence[Any]) -> tuple[np.ndarray, ...]:
        return stacked(examples, self.pad)


def stacked(rows: Sequence[EncoderRow], pad: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows as one batch, padded at the end: tokens, targets, token_types, attention_mask."""
    tokens, mask = right_padded([row.tokens for row in rows], pad)
    types, _ = right_padded([row.types for row in rows], 0)
    if all(row.target.shape == row.tokens.shape for row in rows):
        targets, _ = right_padded([row.target for row in rows], IGNORED)
    else:
        targets = np.stack([row.target for row in rows]).astype(np.int64)
    return tokens, targets, types, mask


def rows_pass(rows: Sequence[EncoderRow], batch_size: int, pad: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
    """Every row once, the longest first: the batches for evaluation. The last may have fewer rows."""
    for batch in by_length(rows, batch_size):
        yield stacked([rows[i] for i in batch], pad)
