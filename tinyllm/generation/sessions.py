"""The state of a batch of sequences while they are generated: their tokens, the cache, and the logits of what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..kernels.device import to_host
from ..models.inference import has_likeliest, infer
from ..models.model import LanguageModel, Model, checked_ids, checked_mask
from .cache import KVCache, encoded
from .options import require, require_whole

AHEAD = 512  # tokens to come, at most, that the cache has room for from the start


def next_logits(model: Model, forward: Callable[[], Any], again: Callable[[], Any], suppressed: np.ndarray) -> np.ndarray:
    """What `forward` computes, logits (R, V), on the host: -inf for the suppressed tokens. Dropout is off meanwhile.

    FloatingPointError if a row has NaN or no largest logit. `again` then computes the same without a cache, so that the
    error names the first layer whose output is not finite.
    """

    def wanted() -> np.ndarray:
        logits = to_host(forward())
        logits[:, suppressed] = -np.inf
        return logits

    return infer(model, forward=wanted, is_right=has_likeliest, again=again)


class Session:
    """R rows that grow. `rows`: all tokens of each, those included that the model no longer sees.

    suppressed: tokens that no row goes on with. If the weights change between two steps, the cache is computed again.
    """

    rows: list[list[int]]

    def __init__(self, model: Any, use_cache: bool, suppressed: np.ndarray):
        self.model, self.use_cache, self.suppressed = model, use_cache, suppressed

    def logits(self) -> np.ndarray:
        """The logits (R, V) of the token that follows on each row."""
        return next_logits(self.model, lambda: self._logits()[:, -1], self._without_cache, self.suppressed)

    def _logits(self) -> np.ndarray:
        raise NotImplementedError

    def _without_cache(self) -> np.ndarray:
        """The same logits, with nothing taken from the cache and nothing put into it."""
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

    def __init__(
        self, model: LanguageModel, rows: list[list[int]], max_new_tokens: int, use_cache: bool, suppressed: np.ndarray
    ):
        super().__init__(model, use_cache, suppressed)
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
        cache = self.cache if self.use_cache and self.cache is not None and self.cache.serves(self.model) else None
        if cache is None or cache.length in (limit, self.model.switches_at):
            tokens, self.mask = self._seen()
            self.cache = KVCache(min(tokens.shape[1] + min(self.left, AHEAD), limit))
        else:
            tokens = np.array([row[-1:] for row in self.rows])
            self.mask = np.concatenate([self.mask, np.ones((len(self.mask), 1), bool)], 1)
        if self.mask.all():
            return self.model(tokens, cache=self.cache, last_only=True)
        positions = positions_of(self.mask)[:, -tokens.shape[1] :]
        options = {"attention_mask": self.mask, "positions": positions, "cache": self.cache}
        return self.model(tokens, **options, last_only=True)

    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        """The tokens (R, T) that the model sees of each row, padded on the left, and their mask."""
        return left_padded([row[start:] for row, start in zip(self.rows, self.starts)])

    def _without_cache(self):
        tokens, mask = self._seen()
        return self.model(tokens, attention_mask=mask, positions=positions_of(mask), last_only=True)

    def select(self, rows):
        super().select(rows)
        self.starts, self.mask = [self.starts[i] for i in rows], self.mask[rows]
        if self.cache is not None:
            self.cache.select(np.asarray(rows))


class TargetSession(Session):
    """The targets of an encoder-decoder, a model with `encode` and `decode`, which runs its encoder once.

    A target begins with the configuration's decoder_start_token_id.
    """

    def __init__(self, model: Any, source: np.ndarray, mask: np.ndarray | None, use_cache: bool, suppressed: np.ndarray):
        super().__init__(model, use_cache, suppressed)
        self.rows = [[model.config.decoder_start_token_id] for _ in source]
        self.source, self.mask = source, mask
        self.cache = encoded(model, source, mask)

    def _logits(self):
        if not self.cache.serves(self.model):
            self.cache = encoded(self.model, self.source, self.mask)
        if not self.use_cache:
            self.cache.crop(0)
        return self.model.decode(np.array([row[self.cache.length :] for row in self.rows]), self.cache, last_only=True)

    def _without_cache(self):
        return self.model(self.source, np.array(self.rows), source_mask=self.mask)

    def select(self, rows):
        super().select(rows)
        self.cache.select(np.asarray(rows))
        self.source, self.mask = self.source[rows], None if self.mask is None else self.mask[rows]


def start(
    model: Model,
    tokens: Any,
    attention_mask: Any,
    max_new_tokens: int,
    use_cache: bool,
    past_limit: str,
    suppress_tokens: Sequence[int] = (),
) -> tuple[np.ndarray, Session]:
    """A session for tokens (B, T) -> what its rows begin with, (B, T) or for an encoder-decoder (B, 1), and the session."""
    require_whole("max_new_tokens", max_new_tokens, 0)
    require(past_limit in ("slide", "error"), "past_limit", past_limit, "'slide' or 'error'")
    if not isinstance(model, LanguageModel) and not hasattr(model, "decode"):
        raise ValueError(f"{type(model).__name__} has no decoder, and does not generate")
    if isinstance(model, LanguageModel) and not model.writes:
        raise ValueError(f"{type(model).__name__} gives labels, and does not generate: use tinyllm classify")
    tokens = checked_ids(tokens, model.config.vocab_size)
    mask = checked_mask(attention_mask, tokens.shape)
    suppressed = checked_suppressed(suppress_tokens, model.config.vocab_size)
    if not isinstance(model, LanguageModel):
        session: Session = TargetSession(model, tokens, mask, use_cache, suppressed)
        return np.array(session.rows).reshape(len(tokens), 1), session
    rows = [row.tolist() for row in tokens] if mask is None else [row[real].tolist() for row, real in zip(tokens, mask)]
    if not all(rows):
        raise ValueError("a row of tokens is empty: generation needs a token to begin with, such as the tokenizer's bos_id")
    longest = max(map(len, rows), default=1) + max_new_tokens - 1  # the last new token is not looked at
    if past_limit == "error" and longest > model.max_length:
        raise ValueError(
            f"the prompt and {max_new_tokens} new tokens need a sequence of {longest}, and this model takes at most "
            f"{model.max_length}: ask for fewer, shorten the prompt, or choose past_limit='slide'"
        )
    return tokens, DecoderSession(model, rows, max_new_tokens, use_cache, suppressed)


def checked_suppressed(tokens: Sequence[int], V: int) -> np.ndarray:
    """Tokens of a vocabulary of V that are not to be generated, each once; ValueError if none would be left."""
    given = np.array(list(tokens)) if len(tokens) else np.zeros(0, np.int64)
    suppressed = np.unique(checked_ids(given, V, "suppress_tokens", (len(tokens),)))
    if len(suppressed) == V:
        raise ValueError(f"suppress_tokens holds all {V} tokens, and one at least must be left: give fewer")
    return suppressed


def positions_of(mask: np.ndarray) -> np.ndarray:
    """The position (R, T) of each real token among those of its row."""
    return np.maximum(mask.cumsum(1) - 1, 0)


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths -> tokens (R, T), zeros on the left, and the mask (R, T) of the real ones."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) >= lengths.max() - lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return tokens, mask
