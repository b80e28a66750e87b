"""Which words may stand where a text has [MASK]: what a BERT was pretrained to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.padding import by_length, right_padded
from ..generation.sampling import softmax
from ..kernels.device import to_host
from ..models.bert import BERT
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
    share a batch. Raises ValueError where the model has no masked-LM head, or a text no gap or too many tokens.
    """
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
    for batch in by_length(rows, batch_size):
        tokens, mask = right_padded([rows[i] for i in batch], tokenizer.pad_id or 0)
        gaps = tokens == tokenizer.mask_id
        logits, _ = model.at(gaps, tokens, attention_mask=mask)  # (M, V), row after row
        for (row, place), p in zip(np.argwhere(gaps), softmax(to_host(logits).astype(np.float64))):
            best = np.argsort(-p, kind="stable")[:top_k].tolist()
            found[batch[row]].append([_word(tokenizer, rows[batch[row]], place, id, p[id]) for id in best])
    return found


def _word(tokenizer: Tokenizer, row: list[int], place: int, id: int, probability: float) -> Word:
    filled = [*row[:place], id, *row[place + 1 :]]
    around = set(tokenizer.wrap([])[0])
    text = tokenizer.decode([token for token in filled if token not in around])
    return Word(tokenizer.id_to_token(id) or "", float(probability), text)
