"""Sentence embeddings: the mean of an encoder's last hidden states over a text's tokens (Reimers & Gurevych 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.padding import by_length, right_padded
from ..generation.options import require_whole
from ..models.bert import BERTBase
from ..models.inference import infer
from ..tokenizers import Tokenizer


def sentence_embeddings(
    model: BERTBase,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    batch_size: int = 32,
    max_length: int | None = None,
    normalize: bool = True,
) -> np.ndarray:
    """A vector for each text -> (n, C) in the model's dtype; similar texts have a large product of their vectors.

    The model is any BERT; only its body computes. Texts of like length share a batch, so that padding costs little.
    max_length: longer texts are cut there, special tokens included (None: at the model's own limit). normalize: to length 1,
    so that a product is a cosine; as sentence-transformers' models have it, or not (their modules.json tells).
    """
    if not isinstance(model, BERTBase):
        raise TypeError(f"sentence_embeddings takes a BERT of any kind, and was given a {type(model).__name__}")
    if isinstance(texts, str):
        raise TypeError("sentence_embeddings takes a list of texts: put a single one into brackets")
    if max_length is not None:
        require_whole("max_length", max_length, 1, "a whole number, 1 or more, or None")
    limit = min(max_length or model.max_length, model.max_length)
    rows = [whole(tokenizer, text, limit) for text in texts]
    vectors = np.zeros((len(rows), model.config.hidden_size), model.dtype)
    for batch in by_length(rows, batch_size):
        tokens, mask = right_padded([rows[i] for i in batch], tokenizer.pad_id or 0)
        h = infer(model, tokens, attention_mask=mask, forward=model.last_hidden_state, real=mask)  # (B, T, C)
        counts = np.maximum(mask.sum(1), 1).astype(h.dtype)
        vectors[batch] = np.where(mask[:, :, None], h, 0).sum(1) / counts[:, None]
    if normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def whole(tokenizer: Tokenizer, text: str, limit: int) -> list[int]:
    """The tokens of a text with the model's special ones around them, all in all at most `limit`: the text is cut."""
    around = len(tokenizer.wrap([])[0])
    return tokenizer.wrap(tokenizer.encode(text)[: max(limit - around, 0)])[0]
