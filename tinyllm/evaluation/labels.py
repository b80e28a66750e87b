"""Classifiers of texts and of words, on labelled files."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import metrics
from ..data.files import DataError
from ..data.labelled import read_labelled
from ..data.tagged import Tagged, read_tagged
from ..models import BERTForTokenClassification, Model
from ..models.classification import names_of_labels
from ..pipelines.text_classification import classify, label_names
from ..pipelines.token_classification import tag
from ..tokenizers import Tokenizer
from .intervals import Statistic, f1_of, macro_f1_of, mean, share
from .losses import OnBatch, in_batches
from .result import Prediction, Scored
from .settings import Settings

BINS = 15  # of the calibration error, as Guo et al. 2017 have it
CHUNK = 8  # batches that are sorted by length together


def evaluate_classification(
    model: Model, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """accuracy, f1, macro_f1, f1 of each class, loss and calibration_error of a classifier; notes: the confusion matrix."""
    names = settings.labels or label_names(model)
    if len(names) != len(label_names(model)):
        raise ValueError(
            f"labels has {len(names)} names, and the model has {len(label_names(model))} labels: name each once"
        )
    columns = settings.text_column, settings.label_column, settings.second_column
    try:
        part = read_labelled(data, *columns, names, settings.delimiter, settings.encoding)
    except DataError as error:
        if "has the label" not in str(error):
            raise
        raise DataError(
            f"{error}. The model has the labels {', '.join(names)}: where the file has other names for them, give these in "
            "the model's order, --labels A --labels B"
        ) from None
    if settings.limit:
        part = part.take(np.arange(len(part)) < settings.limit)
    sizes: dict[str, Any] = {"batch_size": settings.batch_size, "max_length": settings.length}
    report = None if on_batch is None else lambda done: on_batch(done, len(part))
    p = classify(model, tokenizer, part.texts, part.seconds, on_batch=report, **sizes).astype(np.float64)
    shares = np.bincount(part.labels, minlength=len(names)) / len(part)  # what a majority classifier knows
    said = p.argmax(1)
    predictions = [
        Prediction(
            text if part.seconds is None else [text, part.seconds[i]], names[part.labels[i]], names[said[i]],
            float(np.log(max(p[i, part.labels[i]], 1e-300))),
        )
        for i, text in enumerate(part.texts)
    ]  # fmt: skip
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (part.labels, said), 1)
    return Scored(
        "text", len(part), class_measures(p, part.labels, names), f"always {names[shares.argmax()]}",
        class_measures(np.broadcast_to(shares, p.shape), part.labels, names), predictions,
        {"labels": names, "confusion": confusion.tolist()},
    )  # fmt: skip


def class_measures(p: np.ndarray, targets: np.ndarray, names: list[str]) -> dict[str, Statistic]:
    """The measures of probabilities p (N, labels) against targets (N,). f1 is that of the second of two labels; of
    more it is macro_f1, the mean over those that occur."""
    said = p.argmax(1)
    counts = overlaps(said, targets, len(names))  # (N, labels, 3)
    macro = Statistic(counts.reshape(len(p), -1), macro_f1_of)
    f1 = Statistic(counts[:, 1], f1_of) if len(names) == 2 else macro
    right = np.log(np.maximum(p[np.arange(len(p)), targets], 1e-300))
    return {
        "accuracy": share(said == targets),
        "f1": f1,
        "macro_f1": macro,
        **{f"f1:{name}": Statistic(counts[:, i], f1_of) for i, name in enumerate(names)},
        "loss": mean(-right),
        "calibration_error": calibration(p.max(1), said == targets),
    }


def overlaps(said: np.ndarray, targets: np.ndarray, labels: int) -> np.ndarray:
    """For each example and label whether both have it, the prediction, the target: (N, labels, 3) float64."""
    ours, theirs = (which[:, None] == np.arange(labels) for which in (said, targets))
    return np.stack([ours & theirs, ours, theirs], -1).astype(np.float64)


def calibration(confidence: np.ndarray, right: np.ndarray) -> Statistic:
    """The expected calibration error (Guo et al. 2017, equation 3): sum over bins of |right - confidence| / N, each summed
    over the examples whose confidence is in the bin; BINS bins of equal width, (0, 1/15], (1/15, 2/15], ..."""
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    rows = np.zeros((len(confidence), BINS + 1))
    rows[np.arange(len(confidence)), bins] = right - confidence
    rows[:, BINS] = 1
    return Statistic(rows, lambda sums: float(np.abs(sums[:BINS]).sum() / sums[BINS]))


def evaluate_tagging(
    model: BERTForTokenClassification, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """f1 of whole names as seqeval counts them, over all and of each kind, macro_f1 over kinds, and accuracy of words."""
    known = names_of_labels(model.config)
    names = settings.labels or [known[str(i)] for i in range(len(known))]
    ours = dict(zip([known[str(i)] for i in range(len(known))], names))
    part = read_tagged([data], settings.column, names, settings.encoding)
    count = min(len(part), settings.limit or len(part))
    said: list[list[str]] = []
    for texts in in_batches(part.words[:count], CHUNK * settings.batch_size, on_batch):
        tagged = tag(model, tokenizer, texts, settings.batch_size)
        said += [[ours[one.label] if one.label is not None else "" for one in words] for words in tagged]
    true = [[names[label] for label in labels] for labels in part.labels[:count]]
    labels, counts = np.unique([label for text in true for label in text], return_counts=True)
    usual = str(labels[counts.argmax()])
    plain = [[usual] * len(text) for text in true]
    predictions = [
        Prediction(words, right, given, sum(a == b for a, b in zip(given, right)) / len(right))
        for words, right, given in zip(part.words, true, said)
    ]
    return Scored(
        "text", count, tag_measures(said, true, part), f"every word {usual}", tag_measures(plain, true, part), predictions
    )


def tag_measures(said: list[list[str]], true: list[list[str]], part: Tagged) -> dict[str, Statistic]:
    """The measures of labels by text and word."""
    spans = [
        [metrics.tag_spans(text, {*part.names, *(label for one in side for label in one)}) for text in side]
        for side in (said, true)
    ]
    kinds = sorted({kind for side in spans for text in side for kind, *_ in text})
    counts = np.zeros((len(true), len(kinds), 3))
    for i, (ours, theirs) in enumerate(zip(*spans)):
        for j, kind in enumerate(kinds):
            found, right = ({span for span in side if span[0] == kind} for side in (ours, theirs))
            counts[i, j] = len(found & right), len(found), len(right)
    right_words = [sum(a == b for a, b in zip(*texts)) for texts in zip(said, true)]
    return {
        "f1": Statistic(counts.sum(1), f1_of),
        "macro_f1": Statistic(counts.reshape(len(true), -1), macro_f1_of),
        **{f"f1:{kind}": Statistic(counts[:, j], f1_of) for j, kind in enumerate(kinds)},
        "accuracy": mean(right_words, [len(text) for text in true]),
    }
