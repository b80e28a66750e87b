"""Rows of different lengths as one array."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np


def right_padded(rows: Sequence[Any], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ints of different lengths -> tokens (B, longest) int64, `pad` behind them, and the mask of the real ones."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.full(mask.shape, pad, np.int64)
    tokens[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return tokens, mask


def longest_first(rows: Sequence[Any]) -> list[int]:
    """The numbers of the rows, the longest first: in this order little of a batch is padding, and what memory allows shows
    at once."""
    return sorted(range(len(rows)), key=lambda i: -len(rows[i]))


def by_length(rows: Sequence[Any], batch_size: int) -> Iterator[list[int]]:
    """The numbers of all rows in batches of rows of like length, the longest first."""
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, and must be a whole number, 1 or more")
    order = longest_first(rows)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
