"""Texts labelled by a classifier: BERT's, or that of a decoder.

model, tokenizer = tinyllm.load("runs/spam")
for label, p in labelled(model, tokenizer, ["You have won!"]): ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data.padding import by_length, right_padded
from ..generation.options import require_whole
from ..generation.sampling import softmax
from ..models import BERTForSequenceClassification, Model
from ..models.classification import SequenceClassifier, names_of_labels
from ..models.inference import infer
from ..tokenizers import Tokenizer


def labelled(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], seconds: Sequence[str] | None = None, **options: Any
) -> list[tuple[str, float]]:
    """The likeliest label of each text, and its probability; arguments are those of `classify`."""
    names = label_names(model)
    chosen = classify(model, tokenizer, texts, seconds, **options)
    return [(names[i], float(p[i])) for p, i in zip(chosen, chosen.argmax(1))]


def classify(
    model: Model,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    on_batch: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """The probability of each label for each text -> (N, labels), in the model's dtype.

    seconds: the second text of each pair, for a BERT that was trained on pairs. Texts of like length share a batch.
    max_length: longer texts are cut there, special tokens included (None: at the model's own limit). on_batch: called with
    the number of texts that are done. ValueError where the model is no classifier, or a text is empty. FloatingPointError,
    which names the layer, if the model gives NaN or infinite numbers. Dropout is off, whatever the model's mode.
    """
    label_names(model)
    if isinstance(texts, str) or isinstance(seconds, str):
        raise TypeError("classify takes a list of texts: put a single one into brackets")
    if seconds is not None and len(seconds) != len(texts):
        raise ValueError(f"there are {len(texts)} texts and {len(seconds)} second texts")
    if seconds is not None and isinstance(model, SequenceClassifier):
        raise ValueError(f"{type(model).__name__} labels single texts: pairs are for BERT")
    if max_length is not None:
        require_whole("max_length", max_length, 1, "a whole number, 1 or more, or None")
    limit = min(max_length or model.max_length, model.max_length)  # type: ignore[attr-defined]
    rows = [row_of(tokenizer, text, None if seconds is None else seconds[i], limit) for i, text in enumerate(texts)]
    if empty := [i + 1 for i, (ids, _) in enumerate(rows) if not ids]:
        raise ValueError(f"text {empty[0]} is empty: there is nothing to label")
    probabilities, done = np.zeros((len(rows), model.config.num_labels), model.dtype), 0
    for batch in by_length([ids for ids, _ in rows], batch_size):
        tokens, mask = right_padded([rows[i][0] for i in batch], tokenizer.pad_id or 0)
        inputs: dict[str, Any] = {"attention_mask": mask}
        if not isinstance(model, SequenceClassifier):
            inputs["token_types"] = right_padded([rows[i][1] for i in batch], 0)[0]
        probabilities[batch] = softmax(infer(model, tokens, **inputs))
        done += len(batch)
        if on_batch is not None:
            on_batch(done)
    return probabilities


def label_names(model: Model) -> list[str]:
    """The names of a classifier's labels; ValueError where the model is none."""
    if not isinstance(model, (SequenceClassifier, BERTForSequenceClassification)):
        raise ValueError(
            f"{type(model).__name__} does not label texts: fine-tune it first, tinyllm finetune KIND --task classification"
        )
    names = names_of_labels(model.config)
    return [names[str(i)] for i in range(model.config.num_labels)]


def row_of(tokenizer: Tokenizer, text: str, second: str | None, length: int) -> tuple[list[int], list[int]]:
    """A text's tokens, or a pair's, with the model's special ones around them, at most `length` in all; and their types."""
    pieces = [tokenizer.encode(one, allow_special=False) for one in (text, second) if one is not None]
    room = length - len(tokenizer.wrap(*([] for _ in pieces))[0])
    return tokenizer.wrap(*cut(room, *pieces))


def cut(room: int, first: list[int], second: list[int] | None = None) -> list[list[int]]:
    """One text or two with at most `room` tokens in all: of the two the longer one loses its end first."""
    if second is None:
        return [first[: max(room, 0)]]
    n = min(len(first), max(room - len(second), room // 2, 0))
    return [first[:n], second[: max(room - n, 0)]]
