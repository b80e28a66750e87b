"""A label for each word of a text, by a BERT that was fine-tuned for tagging."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.padding import by_length, right_padded
from ..models.bert import BERTForTokenClassification
from ..models.classification import names_of_labels
from ..models.inference import infer
from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Tag:
    """A word of a text, text[start:end], and its label."""

    word: str
    label: str
    start: int
    end: int


def tag(
    model: BERTForTokenClassification, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 32
) -> list[list[Tag]]:
    """The words of each text with their labels. A word is a run of letters and digits, or a mark; its first piece tells.

    Texts of like length share a batch; of a text that is too long for the model the words that fit in get a label. Raises
    ValueError where the model has another head.
    """
    if isinstance(texts, str):
        raise TypeError("tag takes a list of texts: put a single one into brackets")
    if not isinstance(model, BERTForTokenClassification):
        raise ValueError(f"a {type(model).__name__} labels no words: fine-tune it with --task tagging")
    names = names_of_labels(model.config)
    words = [list(re.finditer(r"\w+|[^\w\s]", text)) for text in texts]
    rows, places = [], []
    for found in words:
        pieces = [tokenizer.encode(match[0], allow_special=False) for match in found]
        ids = [id for piece in pieces for id in piece]
        room = model.max_length - len(tokenizer.wrap([])[0])
        firsts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
        before = tokenizer.wrap([-1])[0].index(-1)
        rows.append(tokenizer.wrap(ids[:room])[0])
        places.append([before + first for first, piece in zip(firsts, pieces) if piece and first < room])
    tagged: list[list[Tag]] = [[] for _ in texts]
    for batch in by_length(rows, batch_size):
        tokens, mask = right_padded([rows[i] for i in batch], tokenizer.pad_id or 0)
        labels = infer(model, tokens, attention_mask=mask, real=mask).argmax(-1)
        for i, row in zip(batch, labels):
            tagged[i] = [
                Tag(match[0], names[str(row[place])], match.start(), match.end())
                for match, place in zip(words[i], places[i])
            ]
    return tagged
