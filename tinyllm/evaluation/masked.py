"""BERT on plain text: how well it guesses hidden tokens, and T5: how well it writes what was taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.batches import IGNORED
from ..data.masking import MaskedPairs, Sentences
from ..data.sources import open_source
from ..data.spans import Noise, sentinel_ids, spans_pass
from ..models import BERT, T5
from ..models.inference import has_likeliest, infer
from ..tokenizers import Tokenizer
from .intervals import Statistic, share
from .language import stream
from .losses import OnBatch, frequency_losses, loss_measures, losses_of, rows_at_once, token_losses
from .result import Prediction, Scored
from .settings import Settings

WINDOW = 128  # tokens in a window of T5, where `length` does not say


def evaluate_masked(
    model: BERT, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """loss, perplexity and accuracy of hidden tokens. Each passage is read once, with tokens hidden as in pretraining
    (data/masking.py), always the same ones."""
    length = settings.length or model.max_length
    if not 8 <= length <= model.max_length:
        raise ValueError(f"length is {length}, and must be from 8 to what this model takes, {model.max_length} tokens")
    text = Sentences.of(open_source(data, quiet=True, encoding=settings.encoding), tokenizer, longest=length - 2)
    size = rows_at_once(model, length, settings.batch_size)
    rows = MaskedPairs(text, tokenizer, size, length, pairs=False, share=settings.masked)
    count = min(rows.count, settings.limit or rows.count)
    kept: list[list[np.ndarray]] = [[], [], []]  # losses, guesses, targets
    predictions = []
    for first in range(0, count, size):
        tokens, right, types, mask = rows.padded([rows.row(i, 0) for i in range(first, min(first + size, count))])
        hidden = right != IGNORED
        options: dict[str, Any] = {"token_types": types, "attention_mask": mask, "forward": at(model)}
        logits = infer(model, hidden, tokens, is_right=has_likeliest, **options)  # (M, V), row after row
        ends = np.cumsum(hidden.sum(1))[:-1]
        parts = [np.split(part, ends) for part in (losses_of(logits, right[hidden]), logits.argmax(-1), right[hidden])]
        for row, real, *of_row in zip(tokens, mask, *parts):
            predictions.append(_prediction(tokenizer, row[real], *of_row))
        for several, part in zip(kept, parts):
            several += part
        if on_batch is not None:
            on_batch(min(first + size, count), count)
    return scored("hidden token", kept, predictions, {"length": length, "masked": settings.masked})


def scored(unit: str, kept: Sequence[Sequence[np.ndarray]], predictions: list[Prediction], notes: dict[str, Any]) -> Scored:
    """kept: losses, guesses and targets, in parts. The baseline knows how frequent each target is."""
    losses, guesses, targets = (np.concatenate(parts) for parts in kept)
    values, counts = np.unique(targets, return_counts=True)
    plain = hidden_measures(frequency_losses(targets), targets == values[counts.argmax()])
    found = hidden_measures(losses, guesses == targets)
    return Scored(unit, len(targets), found, f"frequencies of the {unit}s", plain, predictions, notes)


def at(model: BERT) -> Any:
    """model.at without the next sentence."""
    return lambda *inputs, **options: model.at(*inputs, **options)[0]


def hidden_measures(losses: np.ndarray, right: np.ndarray) -> dict[str, Statistic]:
    return {**loss_measures(losses, np.ones(len(losses))), "accuracy": share(right)}


def _prediction(
    tokenizer: Tokenizer, row: np.ndarray, loss: np.ndarray, guess: np.ndarray, target: np.ndarray
) -> Prediction:
    right, said = ([tokenizer.id_to_token(id) for id in ids.tolist()] for ids in (target, guess))
    return Prediction(tokenizer.decode(row.tolist()), right, said, -float(loss.mean()))


def evaluate_spans(
    model: T5, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """loss, perplexity and accuracy of the tokens that were taken out of windows of a text, always the same (data/spans.py).

    Less than a window at the end of the text is left out.
    """
    config = model.config
    end = tokenizer.eos_id if tokenizer.eos_id is not None else config.eos_token_id
    noise = Noise(sentinel_ids(tokenizer), end, config.decoder_start_token_id, settings.masked)
    length = settings.length or WINDOW
    texts = list(open_source(data, quiet=True, encoding=settings.encoding))
    tokens = stream(tokenizer, texts)
    tokens = tokens[: settings.limit * length] if settings.limit else tokens
    kept: list[list[np.ndarray]] = [[], [], []]  # losses, guesses, targets
    predictions = []
    total = len(tokens) // length
    for batch in spans_pass(tokens, rows_at_once(model, length, settings.batch_size), length, noise):
        found, likeliest = token_losses(model, batch)
        for source, row, said, right in zip(batch[0], found, likeliest, batch[2]):
            read, wanted, given = (tokenizer.decode(ids.tolist()) for ids in (source, right, said))
            predictions.append(Prediction(read, wanted, given, -float(row.mean())))
        for several, part in zip(kept, (found, likeliest, batch[2])):
            several.append(part.ravel())
        if on_batch is not None:
            on_batch(len(predictions), total)
    return scored("target token", kept, predictions, {"length": length, "masked": settings.masked})
