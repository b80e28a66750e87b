"""How the next token is chosen from the logits (V,): in float64, with the same definitions as transformers' generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .options import LARGEST, require, require_number, require_whole

SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Sampler:
    """The choice of one token. In this order: penalties, temperature, top_k, top_p, min_p, and a draw from what is left.

    temperature: 0 takes the likeliest token, and ignores top_k, top_p and min_p; 1 draws as the model says.
    top_k: only the k likeliest (Fan et al. 2018). top_p: only the likeliest whose sum reaches p (Holtzman et al. 2020).
    min_p: only those at least p times as likely as the likeliest (Nguyen et al. 2024).
    repetition_penalty: logits of tokens that the row has, if positive divided by it, else multiplied (Keskar et al. 2019).
    no_repeat_ngram_size: no n tokens in a row that the row has already (Paulus et al. 2018); 0: off.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, "a finite number, 0 (the likeliest token) or more", 0)
        if self.top_k is not None:
            require_whole("top_k", self.top_k, 1, "a whole number, 1 or more, or None")
        if self.top_p is not None:
            require_number("top_p", self.top_p, wanted := "a number above 0 and at most 1, or None")
            require(0 < self.top_p <= 1, "top_p", self.top_p, wanted)
        if self.min_p is not None:
            require_number("min_p", self.min_p, wanted := "a number from 0 to 1, or None", 0)
            require(self.min_p <= 1, "min_p", self.min_p, wanted)
        require_number("repetition_penalty", self.repetition_penalty, wanted := "a finite number above 0")
        require(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, wanted)
        require_whole("no_repeat_ngram_size", self.no_repeat_ngram_size, 0)

    def choose(self, logits: np.ndarray, row: Sequence[int], random: np.random.Generator) -> int:
        """The token that follows on `row`, given its logits (V,)."""
        if self.temperature == 0 and self.repetition_penalty == 1 and not self.no_repeat_ngram_size:
            likeliest = int(logits.argmax())  # the first NaN, if there is one
            as_scores(logits[likeliest : likeliest + 1])
            return likeliest
        scores = self.penalized(as_scores(logits), row)
        if self.temperature == 0:
            return int(scores.argmax())
        return draw(self.kept(scores), random)

    def probabilities(self, logits: np.ndarray, row: Sequence[int]) -> np.ndarray:
        """(V,), the probabilities with which `choose` takes each token."""
        scores = self.penalized(as_scores(logits), row)
        if self.temperature == 0:
            return np.eye(1, len(scores), int(scores.argmax()))[0]
        return softmax(self.kept(scores))

    def penalized(self, scores: np.ndarray, row: Sequence[int]) -> np.ndarray:
        """Scores (V,) with both penalties for the tokens of `row`."""
        if self.repetition_penalty != 1:
            scores = repetition_penalized(scores, row, self.repetition_penalty)
        if self.no_repeat_ngram_size:
            scores = without(scores, repeats(row, self.no_repeat_ngram_size))
        return scores

    def kept(self, scores: np.ndarray) -> np.ndarray:
        """Scores (V,) at this temperature, less the largest; -inf where a token is out of the question."""
        with np.errstate(over="ignore"):  # at a low temperature an unlikely token becomes impossible
            scores = (scores - scores.max()) / max(self.temperature, SMALLEST)
        if self.top_k is not None and self.top_k < len(scores):
            scores = top_k_of(scores, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            scores = top_p_of(scores, self.top_p)
        if self.min_p:
            scores = np.where(scores >= scores.max() + np.log(self.min_p), scores, -np.inf)
        return scores


def as_scores(logits: np.ndarray) -> np.ndarray:
    """Logits in float64. FloatingPointError if one is NaN or inf, or all are -inf, which is a token that cannot be."""
    scores = logits.astype(np.float64)
    if not np.isfinite(largest := scores.max()):
        what = "hold NaN" if np.isnan(largest) else "are all -inf" if largest < 0 else "hold inf"
        raise FloatingPointError(
            f"the model's logits {what}, and the largest must be finite: the weights are damaged, or the training diverged"
        )
    return scores


def repetition_penalized(scores: np.ndarray, row: Sequence[int], penalty: float) -> np.ndarray:
    scores, seen = scores.copy(), np.unique(np.asarray(row, np.int64))
    with np.errstate(over="ignore"):
        penalized = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    # what could be still can, whatever the penalty
    scores[seen] = np.where(scores[seen] == -np.inf, -np.inf, np.clip(penalized, -LARGEST, LARGEST))
    return scores


def repeats(row: Sequence[int], n: int) -> list[int]:
    """The tokens that would end n tokens in a row which `row` has already."""
    if len(row) < n:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(row), n)
    return windows[(windows[:, :-1] == row[len(row) - n + 1 :]).all(1), -1].tolist()


def without(scores: np.ndarray, tokens: list[int]) -> np.ndarray:
    scores = scores.copy()
    scores[tokens] = -np.inf
    if np.isneginf(scores).all():
        raise ValueError("no_repeat_ngram_size leaves no token of the vocabulary to go on with: choose a larger one, or 0")
    return scores


def top_k_of(scores: np.ndarray, k: int) -> np.ndarray:
    """The k largest scores, and those equal to the last of them; -inf elsewhere."""
    return np.where(scores >= np.partition(scores, -k)[-k], scores, -np.inf)


def top_p_of(scores: np.ndarray, p: float) -> np.ndarray:
    """A score is kept if those before it, in falling order, do not yet have the probability p; -inf elsewhere."""
    probabilities = softmax(scores)
    likely = np.flatnonzero(probabilities >= (1 - p) / len(scores))  # all others together have less than 1 - p
    order = likely[np.argsort(-scores[likely], kind="stable")]
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = order[before < p]
    result = np.full_like(scores, -np.inf)
    result[kept] = scores[kept]
    return result


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def draw(scores: np.ndarray, random: np.random.Generator) -> int:
    """A token with the probability of its score."""
    return pick(np.exp(scores - scores.max()), random)


def pick(weights: np.ndarray, random: np.random.Generator) -> int:
    """A token with a probability in proportion to its weight: where a uniform number falls among the cumulated weights."""
    cumulated = np.cumsum(weights / weights.max())  # so that no product below underflows
    return int(np.searchsorted(cumulated, random.random() * cumulated[-1], side="right"))
