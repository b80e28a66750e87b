"""-log p of each target token under a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..data.batches import IGNORED
from ..models.inference import has_likeliest, infer
from .intervals import Statistic, mean, ratio

LOGITS = 1 << 25  # numbers in a batch of logits, at most: 128 MiB
OnBatch = Callable[[int, int], Any]  # called with the number of examples that are done, and that of all


def token_losses(model: Any, batch: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """-log p of each target and the likeliest token in its place, both (B, T); 0 where a target is -100.

    batch: the arguments of model.loss, as batches hold them.
    """
    inputs = model.named(batch)
    targets = inputs.pop("targets")
    logits = infer(model, **inputs, is_right=has_likeliest, real=targets != IGNORED)  # (B, T, V)
    return losses_of(logits, targets), logits.argmax(-1)


def losses_of(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """lse - logits[target] in float64; 0 where a target is -100.  logits (..., V), targets (...)."""
    lse = kernels.cross_entropy_forward(logits, targets)[1]
    real = targets != IGNORED
    chosen = np.take_along_axis(logits, np.where(real, targets, 0)[..., None], -1)[..., 0]
    return np.where(real, lse - chosen.astype(np.float64), 0.0)


def rows_at_once(model: Any, length: int, batch_size: int) -> int:
    """How many rows of this length make a batch, so that their logits fit in memory."""
    return max(1, min(batch_size, LOGITS // (length * model.config.vocab_size)))


def in_batches(rows: Sequence[Any], size: int, on_batch: OnBatch | None, total: int | None = None) -> Iterator[list[Any]]:
    """The rows in groups of `size`; on_batch is called after each. total: what on_batch gets as the number of all."""
    for first in range(0, len(rows), size):
        group = list(rows[first : first + size])
        yield group
        if on_batch is not None:
            on_batch(first + len(group), total or len(rows))


def loss_measures(losses: np.ndarray, counts: np.ndarray) -> dict[str, Statistic]:
    """loss in nats a token and perplexity, its exponential, of sums of losses over `counts` tokens, (n,) each."""
    rows = mean(losses, counts).rows
    return {"loss": Statistic(rows, ratio), "perplexity": Statistic(rows, perplexity)}


def perplexity(sums: np.ndarray) -> float:
    return math.exp(min(ratio(sums), 700.0))


def frequency_losses(ids: np.ndarray) -> np.ndarray:
    """-log of how frequent each token is among these, (n,): what a unigram model that knew this text would give at best."""
    _, where, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return -np.log(counts[where] / len(ids))
