"""Rows of tokens in a model's hands: what the model makes of them so far, and the logits of what follows each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..kernels.device import to_host
from ..models.model import LanguageModel, Model, checked_ids, checked_mask
from .cache import KVCache, encoded
from .sampling import require

AHEAD = 512  # tokens to come, at most, that the cache has room for from the start


class Session:
    """R rows that grow. `rows`: all tokens of each, those included that the model no longer sees."""

    rows: list[list[int]]

    def __init__(self, model: Any, use_cache: bool):
        self.model, self.use_cache = model, use_cache

    def logits(self) -> np.ndarray:
        """The logits (R, V) of the token that follows on each row. Dropout is off meanwhile."""
        was_training = self.model.mode.training
        self.model.eval()
        try:
            return to_host(self._logits()[:, -1])
        finally:
            self.model.train(was_training)

    def _logits(self) -> np.ndarray:
        raise NotImplementedError

    def append(self, tokens: Iterable[int]) -> None:
        """One more token for each row."""
        for row, token in zip(self.rows, tokens):
            row.append(token)

    def select(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order; one may come several times."""
        self.rows = [list(self.rows[i]) for i in rows]


def start_after_slide(length: int, limit: int, left: int) -> int:
    """From where on a model of `limit` tokens sees a row of `length` that has outgrown it, with `left` tokens to come.

    It drops what the rest needs, half of the limit at most; were it one token, each step would cost a whole pass.
    """
    return length - (limit - min(left - 1, limit // 2))


class DecoderSession(Session):
    """A decoder's rows. It sees of each what lies behind `starts`: all, until a row reaches the model's longest sequence."""

    def __init__(self, model: LanguageModel, rows: list[list[int]], max_new_tokens: int, use_cache: bool):
        super().__init__(model, use_cache)
        self.rows, self.starts, self.left = rows, [0] * len(rows), max_new_tokens
        self.cache: KVCache | None = None
        self.mask = np.ones((0, 0), bool)  # (R, S)

    def _logits(self):
        limit = self.model.max_length
        for i, row in enumerate(self.rows):
            if len(row) - self.starts[i] > limit:
                self.starts[i] = start_after_slide(len(row), limit, self.left)
                self.cache = None
        self.left -= 1
        if self.cache is None or not self.use_cache or self.cache.length in (limit, self.model.switches_at):
            tokens, self.mask = left_padded([row[start:] for row, start in zip(self.rows, self.starts)])
            self.cache = KVCache(min(tokens.shape[1] + min(self.left, AHEAD), limit))
        else:
            tokens = np.array([row[-1:] for row in self.rows])
            self.mask = np.concatenate([self.mask, np.ones((len(self.mask), 1), bool)], 1)
        if self.mask.all():
            return self.model(tokens, cache=self.cache, last_only=True)
        positions = np.maximum(self.mask.cumsum(1) - 1, 0)[:, -tokens.shape[1] :]
        return self.model(tokens, attention_mask=self.mask, positions=positions, cache=self.cache, last_only=True)

    def select(self, rows):
        super().select(rows)
        self.starts, self.mask = [self.starts[i] for i in rows], self.mask[rows]
        if self.cache is not None:
            self.cache.select(np.asarray(rows))


class TargetSession(Session):
    """The targets of an encoder-decoder, a model with `encode` and `decode`, which runs its encoder once.

    A target begins with the configuration's decoder_start_token_id.
    """

    def __init__(self, model: Any, source: np.ndarray, mask: np.ndarray | None, use_cache: bool):
        super().__init__(model, use_cache)
        self.rows = [[model.config.decoder_start_token_id] for _ in source]
        self.cache = encoded(model, source, mask)

    def _logits(self):
        if not self.use_cache:
            self.cache.crop(0)
        return self.model.decode(np.array([row[self.cache.length :] for row in self.rows]), self.cache, last_only=True)

    def select(self, rows):
        super().select(rows)
        self.cache.select(np.asarray(rows))


def start(
    model: Model, tokens: Any, attention_mask: Any, max_new_tokens: int, use_cache: bool, past_limit: str
) -> tuple[np.ndarray, Session]:
    """A session for tokens (B, T) -> what its rows begin with, (B, T) or for an encoder-decoder (B, 1), and the session."""
    require(past_limit in ("slide", "error"), "past_limit", past_limit, "'slide' or 'error'")
    if not isinstance(model, LanguageModel) and not hasattr(model, "decode"):
        raise ValueError(f"{type(model).__name__} has no decoder, and does not generate")
    if isinstance(model, LanguageModel) and not model.writes:
        raise ValueError(f"{type(model).__name__} gives labels, and does not generate: use tinyllm classify")
    tokens = checked_ids(tokens, model.config.vocab_size)
    B, T = tokens.shape
    mask = checked_mask(attention_mask, B, T, T)
    if mask is not None and mask.shape != tokens.shape:
        raise ValueError(f"attention_mask must have the shape of tokens, {tokens.shape}, and has {mask.shape}")
    if not isinstance(model, LanguageModel):
        session: Session = TargetSession(model, tokens, mask, use_cache)
        return np.array(session.rows).reshape(B, 1), session
    rows = [row.tolist() for row in tokens] if mask is None else [row[real].tolist() for row, real in zip(tokens, mask)]
    if not all(rows):
        raise ValueError("a row of tokens is empty: generation needs a token to begin with, such as the tokenizer's bos_id")
    longest = max(map(len, rows), default=1) + max_new_tokens - 1  # the last new token is not looked at
    if past_limit == "error" and longest > model.max_length:
        raise ValueError(
            f"the prompt and {max_new_tokens} new tokens need a sequence of {longest}, and this model takes at most "
            f"{model.max_length}: ask for fewer, shorten the prompt, or choose past_limit='slide'"
        )
    return tokens, DecoderSession(model, rows, max_new_tokens, use_cache)


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths -> tokens (R, T), zeros on the left, and the mask (R, T) of the real ones."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) >= lengths.max() - lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return tokens, mask
