"""Answers that stand in a text: BERT's span head over windows of a long context (Devlin et al. 2019, sections 4.2, 4.3)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

from ..data.encoder_rows import stacked
from ..data.padding import by_length
from ..data.squad import Question, Window, windows
from ..generation.options import require_whole
from ..models.bert import BERTForQuestionAnswering
from ..models.inference import infer
from ..tokenizers import Tokenizer

LONGEST = 30  # tokens of an answer


@dataclass(frozen=True)
class Answer:
    """text is context[start:end]; score: how much the logits speak for it rather than for there being no answer.

    score = s_start + e_end - (s_[CLS] + e_[CLS]), of the best span of all windows and the least of their [CLS]. A model that
    was trained with questions without answer gives none where score is below a threshold, about 0.
    """

    text: str
    start: int
    end: int
    score: float


NO_SPAN = Answer("", 0, 0, -np.inf)


def answer(
    model: BERTForQuestionAnswering,
    tokenizer: Tokenizer,
    questions: Sequence[tuple[str, str]],
    batch_size: int = 32,
    length: int | None = None,
    stride: int = 128,
    longest: int = LONGEST,
    threshold: float | None = None,
) -> list[Answer]:
    """The answer to each (question, context).

    A context of any length is read in windows of `length` tokens (384, or as many as the model takes), each `stride` tokens
    further on; windows of like length share a batch. longest: tokens of an answer at most. threshold: where no answer
    scores as high, its text is "" (None: there is always one). Raises ValueError where the model has another head.
    """
    if not isinstance(model, BERTForQuestionAnswering):
        raise ValueError(f"a {type(model).__name__} finds no answers: fine-tune it with --task qa")
    require_whole("longest", longest, 1)
    asked = [Question(str(i), question, context) for i, (question, context) in enumerate(questions)]
    empty = [i for i, one in enumerate(asked) if not one.context.strip()]
    if empty:
        raise ValueError(f"the context of question {empty[0] + 1} is empty: there is nothing to find an answer in")
    rows = windows(tokenizer, asked, min(length or 384, model.max_length), stride)
    logits = span_logits(model, rows, batch_size, tokenizer.pad_id or 0)
    found = best_answers(rows, logits, [one.context for one in asked], longest)
    return [NO_SPAN if threshold is not None and one.score < threshold else one for one in found]


def span_logits(
    model: BERTForQuestionAnswering, rows: Sequence[Window], batch_size: int = 32, pad: int = 0
) -> list[np.ndarray]:
    """The logits (n, 2) of each window of n tokens."""
    logits: list[np.ndarray] = [np.empty((0, 2))] * len(rows)
    for batch in by_length(rows, batch_size):
        tokens, _, types, mask = stacked([rows[i] for i in batch], pad)
        for i, values in zip(batch, infer(model, tokens, token_types=types, attention_mask=mask, real=mask)):
            logits[i] = values[: len(rows[i].tokens)].astype(np.float64)
    return logits


def best_answers(
    rows: Sequence[Window], logits: Sequence[np.ndarray], contexts: Sequence[str], longest: int = LONGEST
) -> list[Answer]:
    """The best answer of each context, of all its windows."""
    best = [(-np.inf, 0, 0)] * len(contexts)  # s_start + e_end, and the characters
    none = [np.inf] * len(contexts)
    for row, (s, e) in zip(rows, (values.T for values in logits)):
        score, first, last = best_span(s[row.first : row.end], e[row.first : row.end], longest)
        if score > best[row.number][0]:
            best[row.number] = (score, *whole_characters(contexts[row.number], *row.offsets[[first, last], [0, 1]].tolist()))
        none[row.number] = min(none[row.number], s[0] + e[0])
    return [
        Answer(context[start:end], start, end, float(score - null))
        for context, (score, start, end), null in zip(contexts, best, none)
    ]


def whole_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """A span that ends where a character does: the accents and marks that a tokenizer drops belong to their letter."""
    while 0 < start < len(text) and unicodedata.category(text[start]) in ("Mn", "Mc", "Me"):
        start -= 1
    return start, CHARACTER.match(text, end - 1).end() if end > start else end


CHARACTER = regex.compile(r"\X")


def best_span(s: np.ndarray, e: np.ndarray, longest: int) -> tuple[float, int, int]:
    """The largest s[i] + e[j] with i <= j < i + longest -> it, i, j.  s, e (n,)."""
    best = (-np.inf, 0, 0)
    for more in range(min(longest, len(s))):
        sums = s[: len(s) - more] + e[more:]
        i = int(sums.argmax())
        if sums[i] > best[0]:
            best = (float(sums[i]), i, i + more)
    return best
