"""A label for each word of a text, by a BERT that was fine-tuned for tagging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.encoder_rows import stacked
from ..data.padding import by_length
from ..data.tagged import words_of
from ..data.word_rows import word_rows
from ..generation.sampling import softmax
from ..models.bert import BERTForTokenClassification
from ..models.classification import names_of_labels
from ..models.inference import infer
from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Tag:
    """A word of a text, text[start:end], its label, and the probability that the model gives it.

    A word that the tokenizer has no tokens for (a zero-width space) gets the label "O", or None if the model does not have
    that one, with the score 0.
    """

    word: str
    label: str | None
    start: int
    end: int
    score: float = 0.0


def tag(
    model: BERTForTokenClassification,
    tokenizer: Tokenizer,
    texts: Sequence[str | Sequence[str]],
    batch_size: int = 32,
) -> list[list[Tag]]:
    """The words of each text with their labels. A text is a string, or a list of its words.

    A string is cut into words by Unicode's word boundaries (UAX 29), and every word that is not white space gets a label:
    that of its first piece. Words that are given are not cut further; their places are those in " ".join(words). Texts of
    like length share a batch. A text that is too long for the model is read in overlapping windows. Raises ValueError if the
    model has another head.
    """
    if isinstance(texts, str):
        raise TypeError("tag takes a list of texts: put a single one into brackets")
    if not isinstance(model, BERTForTokenClassification):
        raise ValueError(f"a {type(model).__name__} labels no words: fine-tune it with --task tagging")
    names = names_of_labels(model.config)
    words = [words_of(text) if isinstance(text, str) else given(text, i) for i, text in enumerate(texts)]
    nothing = "O" if "O" in names.values() else None
    tagged = [[Tag(word, nothing, start, end) for word, start, end in row] for row in words]
    rows = word_rows(tokenizer, [[word for word, *_ in row] for row in words], model.max_length)
    for batch in by_length(rows, batch_size):
        tokens, _, types, mask = stacked([rows[i] for i in batch], tokenizer.pad_id or 0)
        logits = infer(model, tokens, token_types=types, attention_mask=mask, real=mask)
        for row, p in zip((rows[i] for i in batch), softmax(logits.astype(np.float64))):
            text, p = tagged[row.number], p[row.places]
            for word, label, score in zip(row.words.tolist(), p.argmax(-1).tolist(), p.max(-1).tolist()):
                old = text[word]
                text[word] = Tag(old.word, names[str(label)], old.start, old.end, score)
    return tagged


def given(words: Sequence[str], number: int) -> list[tuple[str, int, int]]:
    """Words that are given, each with its place in " ".join(words)."""
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"text {number + 1} is a list, and its words must be strings: {list(words)[:3]}")
    ends = np.cumsum([len(word) + 1 for word in words]).tolist()
    return [(word, end - 1 - len(word), end - 1) for word, end in zip(words, ends)]
