"""Which words may stand where a text has [MASK]: what a BERT was pretrained to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.padding import by_length, right_padded
from ..generation.options import require_whole
from ..generation.sampling import softmax
from ..models.bert import BERT
from ..models.inference import has_likeliest, infer
from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Word:
    """A token that may stand in a gap, and its probability there; text: the whole text with it in this gap."""

    token: str
    probability: float
    text: str


def fill_mask(
    model: BERT, tokenizer: Tokenizer, texts: Sequence[str], top_k: int = 5, batch_size: int = 32
) -> list[list[list[Word]]]:
    """For each text, for each of its gaps, the top_k likeliest tokens, the likeliest first.

    A gap is the tokenizer's mask token, [MASK] or <mask>; each is filled as if the others stayed gaps. Texts of like length
    share a batch. Tokens that the tokenizer does not have, such as those that fill up a vocabulary, are not offered. Raises
    ValueError where the model has no masked-LM head, or a text no gap or too many tokens.
    """
    require_whole("top_k", top_k, 1)
    if isinstance(texts, str):
        raise TypeError("fill_mask takes a list of texts: put a single one into brackets")
    if not isinstance(model, BERT):
        raise ValueError(f"a {type(model).__name__} predicts no masked words: give a BERT with its masked-LM head")
    if tokenizer.mask_id is None:
        raise ValueError("this tokenizer has no mask token")
    rows = [tokenizer.encode(text, add_special_tokens=True, allow_special=True) for text in texts]
    for text, row in zip(texts, rows):
        if tokenizer.mask_id not in row:
            raise ValueError(f"there is no {tokenizer.id_to_token(tokenizer.mask_id)} in {text[:60]!r}: write one")
        if len(row) > model.max_length:
            raise ValueError(f"{text[:40]!r}... has {len(row)} tokens, and this model takes at most {model.max_length}")
    found: list[list[list[Word]]] = [[] for _ in rows]
    without_text = tokenizer.lacking(model.config.vocab_size)
    for batch in by_length(rows, batch_size):
        tokens, mask = right_padded([rows[i] for i in batch], tokenizer.pad_id or 0)
        gaps = tokens == tokenizer.mask_id
        logits = infer(model, gaps, tokens, attention_mask=mask, forward=_logits_of(model), is_right=has_likeliest)
        for (row, place), p in zip(np.argwhere(gaps), softmax(logits.astype(np.float64))):
            offered = p.copy()
            offered[without_text] = -1
            best = np.argsort(-offered, kind="stable")[: min(top_k, len(p) - len(without_text))].tolist()
            found[batch[row]].append([_word(tokenizer, rows[batch[row]], place, id, p[id]) for id in best])
    return found


def _logits_of(model: BERT) -> Callable[..., Any]:
    """model.at without the next sentence: logits (M, V), row after row."""
    return lambda *inputs, **options: model.at(*inputs, **options)[0]


def _word(tokenizer: Tokenizer, row: list[int], place: int, id: int, probability: float) -> Word:
    filled = [*row[:place], id, *row[place + 1 :]]
    around = set(tokenizer.wrap([])[0])
    text = tokenizer.decode([token for token in filled if token not in around])
    return Word(tokenizer.id_to_token(id) or "", float(probability), text)
