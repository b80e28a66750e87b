"""Speculative decoding (Leviathan et al. 2023, algorithm 1): a small model guesses, the model itself checks.

Writing a token means reading all weights from memory, and checking five guesses at once reads them once as well. The
assistant writes n tokens x_1 ... x_n, drawn from its own distributions q_1 ... q_n; one pass of the model gives what it
would have drawn from, p_1 ... p_(n+1). Guess i is accepted with probability min(1, p_i(x) / q_i(x)); the first that is not
is replaced by a draw from max(0, p_i - q_i) / sum, and if all were, p_(n+1) gives one more. Then each token is distributed
as p says: accepting gives x with q(x) min(1, p(x) / q(x)) = min(p, q)(x), rejecting, of probability 1 - sum min(p, q) =
sum max(0, p - q), adds max(0, p - q)(x), and the two together are p(x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..models.model import LanguageModel
from .cache import KVCache
from .options import require_whole
from .sampling import Sampler, pick
from .sessions import next_logits, start_after_slide

NONE = np.zeros(0, np.int64)


def grow_assisted(
    model: LanguageModel,
    assistant: LanguageModel,
    rows: Sequence[list[int]],
    sampler: Sampler,
    max_new_tokens: int,
    ends: Sequence[int],
    seed: int | None,
    num_assistant_tokens: int = 4,
    on_token: Callable[[int, int], Any] | None = None,
    suppressed: np.ndarray = NONE,
) -> Iterator[tuple[int, int]]:
    """(row, token) for each new token, as generate.grow gives them, one row after the other.

    num_assistant_tokens: guesses at a time. Greedy tokens are those of `grow`; draws have its distribution, but are others
    for the same seed. ValueError where the two models have not one vocabulary.
    """
    require_whole("num_assistant_tokens", num_assistant_tokens, 1)
    _check(model, assistant)
    for i, row in enumerate(rows):
        random = np.random.default_rng(None if seed is None else [seed, i])
        writing = Assisted(model, assistant, row, sampler, random, num_assistant_tokens, suppressed)
        for token in writing.tokens(max_new_tokens):
            yield i, token
            stopped = on_token is not None and on_token(i, token)
            if stopped or token in ends:
                break


def _check(model: Any, assistant: Any) -> None:
    for one in (model, assistant):
        if not isinstance(one, LanguageModel):
            raise ValueError(f"an assistant helps decoders such as GPT or Llama, and {type(one).__name__} is none")
    if model.config.vocab_size != assistant.config.vocab_size:
        raise ValueError(
            f"the assistant has {assistant.config.vocab_size:,} tokens and the model {model.config.vocab_size:,}: "
            "they must have learned with one tokenizer"
        )


class Assisted:
    """One row that two models write."""

    def __init__(
        self,
        model: LanguageModel,
        assistant: LanguageModel,
        row: list[int],
        sampler: Sampler,
        random: np.random.Generator,
        n: int,
        suppressed: np.ndarray = NONE,
    ):
        self.model, self.assistant, self.row = View(model, suppressed), View(assistant, suppressed), row
        self.sampler, self.random, self.n = sampler, random, n

    def tokens(self, max_new_tokens: int) -> Iterator[int]:
        left = max_new_tokens
        while left > 0:
            new = self._step(left)
            left -= len(new)
            for token in new:
                self.row.append(token)
                yield token
            for view in (self.model, self.assistant):
                view.crop(len(self.row) - 1)  # what has been read of guesses that were wrong

    def _step(self, left: int) -> list[int]:
        """The next tokens, one at least."""
        row, limit = self.row, self.model.limit
        if len(row) - self.model.start > limit:
            self.model.restart(start_after_slide(len(row), limit, left))
        length = len(row) - self.model.start
        last = next(end for end in (self.model.switches_at, limit) if end >= length)  # before which the guesses must end
        guesses, proposed = self._guess(min(self.n, left - 1, last - length))
        logits = self.model.logits(row + guesses, len(guesses) + 1)
        wanted = (self.sampler.probabilities(logits[i], row + guesses[:i]) for i in range(len(guesses) + 1))
        return accepted(guesses, proposed, wanted, self.random)

    def _guess(self, n: int) -> tuple[list[int], list[np.ndarray]]:
        """Tokens that the assistant writes, and the probabilities (V,) from which it drew each."""
        n = min(n, self.assistant.limit // 2)
        if len(self.row) + n - self.assistant.start > self.assistant.limit:
            self.assistant.restart(len(self.row) - self.assistant.limit // 2)
        guesses: list[int] = []
        proposed = []
        for _ in range(n):
            sees = self.row + guesses
            proposed.append(self.sampler.probabilities(self.assistant.logits(sees, 1)[0], sees))
            guesses.append(pick(proposed[-1], self.random))
        return guesses, proposed


class View:
    """What a model sees of a row: the tokens from `start` on, and in its cache those that it has read."""

    def __init__(self, model: LanguageModel, suppressed: np.ndarray = NONE):
        self.model, self.limit, self.switches_at = model, model.max_length, model.switches_at or 0
        self.suppressed = suppressed
        self.restart(0)

    def restart(self, start: int) -> None:
        self.start, self.cache = start, KVCache()

    def crop(self, length: int) -> None:
        """Forgets the row's tokens from `length` on."""
        self.cache.crop(max(0, length - self.start))

    def logits(self, row: Sequence[int], n: int) -> np.ndarray:
        """(n, V): what follows on each of the row's last n tokens; -inf for the suppressed tokens."""
        seen = np.array([row[self.start :]])

        def forward() -> Any:
            switched = self.cache.length <= self.switches_at < seen.shape[1]
            if switched or not self.cache.serves(self.model):
                self.cache = KVCache()  # what it holds was computed in another way
            new = seen[:, self.cache.length :]
            if new.shape[1] > n and not switched:  # a prompt, whose own logits are not needed
                self.model(new[:, :-n], cache=self.cache, last_only=True)
                new = new[:, -n:]
            return self.model(new, cache=self.cache)[0, -n:]

        return next_logits(self.model, forward, lambda: self.model(seen), self.suppressed)


def accepted(
    guesses: Sequence[int], proposed: Sequence[np.ndarray], wanted: Iterable[np.ndarray], random: np.random.Generator
) -> list[int]:
    """The guesses up to the first that is rejected, and one token more.

    proposed, wanted: the probabilities (V,) from which each guess was drawn and should have been; the last of `wanted` is
    that of the token behind all guesses. Of `wanted` no more is asked for than is needed.
    """
    new: list[int] = []
    wanted = iter(wanted)
    for x, q, p in zip(guesses, proposed, wanted):
        if random.random() * q[x] >= p[x]:
            rest = np.maximum(p - q, 0)
            return [*new, pick(rest if rest.any() else p, random)]
        new.append(x)
    return [*new, pick(next(wanted), random)]
