"""A text's own sentence as its summary: the one that a model finds likeliest, which invents nothing.

The model is one that was taught to summarize. Of the sentences s of a text x the best is that of the largest

    log p(s | x) / |s|^a,    p(s | x) = product over the tokens t of s and its end of p(s_t | s_<t, x)

Beam search compares texts by the same score, with length penalty a (generation/beams.py). This searches only the sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data.batches import IGNORED
from ..data.examples import Example, padded
from ..data.pair_batches import PairExample, padded_pairs
from ..data.sentences import sentences
from ..generation.decoding import end_tokens
from ..generation.sampling import log_softmax
from ..models import LanguageModel, Model
from ..models.inference import has_likeliest, infer
from ..tokenizers import Tokenizer
from .text2text import Use, prompt, source

ROWS = 16  # sentences that are computed together


def extracts(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], use: Use, on_text: Callable[[int], Any] | None = None
) -> list[str]:
    """The likeliest sentence of each text; "" of an empty one. on_text: called with the number of texts that are done."""
    chosen = []
    for text in texts:
        several = list(dict.fromkeys(sentences(text)))
        best = int(np.argmax(scores(model, tokenizer, text, several, use))) if len(several) > 1 else 0
        chosen.append(several[best] if several else "")
        if on_text is not None:
            on_text(len(chosen))
    return chosen


def scores(model: Model, tokenizer: Tokenizer, text: str, several: Sequence[str], use: Use) -> np.ndarray:
    """log p(s | text) / |s|^a of each of several summaries s, (N,) float64, |s| counted in tokens, the end included."""
    end = end_tokens(model, None, tokenizer)[:1]
    summaries = [tokenizer.encode(one, allow_special=False)[: use.max_length - len(end)] + end for one in several]
    order = np.argsort([len(ids) for ids in summaries], kind="stable")  # like lengths together
    result = np.zeros(len(several))
    for first in range(0, len(order), ROWS):
        rows = order[first : first + ROWS]
        inputs = model.named(batch(model, tokenizer, text, [summaries[row] for row in rows], use, end))
        targets = inputs.pop("targets")
        learned = targets != IGNORED
        logits = infer(model, **inputs, is_right=has_likeliest, real=learned)[learned]  # (all tokens, V)
        likely = np.zeros(targets.shape)
        likely[learned] = log_softmax(logits.astype(np.float64))[np.arange(len(logits)), targets[learned]]
        result[rows] = likely.sum(1) / learned.sum(1) ** use.length_penalty
    return result


def batch(
    model: Model, tokenizer: Tokenizer, text: str, summaries: Sequence[list[int]], use: Use, end: list[int]
) -> tuple[np.ndarray, ...]:
    """What the model is called with, the targets, -100 at what is no summary, and the mask."""
    if isinstance(model, LanguageModel):  # a decoder goes on behind its prompt
        before = prompt(tokenizer, text, use)
        return padded([
            Example(np.array(before + ids), np.arange(len(before) + len(ids)) >= len(before)) for ids in summaries
        ])  # fmt: skip
    read = np.array(source(tokenizer, text, use, end))
    config: Any = model.config
    rows = [PairExample(read, np.array(ids)) for ids in summaries]
    return padded_pairs(rows, config.decoder_start_token_id, config.pad_token_id or 0)
