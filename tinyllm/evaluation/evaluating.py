"""tinyllm.evaluate: a trained model measured on a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ..checkpoints.loading import load
from ..checkpoints.runs import task_options
from ..data.in_memory import stored
from ..data.sources import TEXTS_OF
from ..data.tables import table_kind
from ..models import Model
from ..tokenizers import Tokenizer
from .choosing import task_for
from .labels import evaluate_classification, evaluate_tagging
from .language import evaluate_text
from .losses import OnBatch
from .masked import evaluate_masked, evaluate_spans
from .questions import evaluate_choice, evaluate_questions
from .result import Evaluation, Scored
from .settings import Settings
from .writing import evaluate_chat, evaluate_pairs

TASKS: dict[str, Callable[..., Scored]] = {
    "text": evaluate_text,
    "masked": evaluate_masked,
    "spans": evaluate_spans,
    "classification": evaluate_classification,
    "tagging": evaluate_tagging,
    "qa": evaluate_questions,
    "translation": evaluate_pairs,
    "summarization": evaluate_pairs,
    "completion": evaluate_pairs,
    "text2text": evaluate_pairs,
    "chat": evaluate_chat,
    "choice": evaluate_choice,
}
PLAIN = ("text", "masked", "spans")  # tasks whose data are plain text


def evaluate(
    model: Any,
    data: Any,
    *,
    tokenizer: Tokenizer | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    on_batch: OnBatch | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a trained model on labelled data or on a text.

    model: a path, which tinyllm.load reads to this device and dtype; a model with its `tokenizer`; or (model, tokenizer),
    as tinyllm.load and tinyllm.finetune give them. data: a file in a form that the task is trained on, a data set by name,
    or what Python holds (a DataFrame, a list of dicts). settings: those of evaluation.settings.Settings, such as
    task="text", stride=512. on_batch: called with the number of examples that are done and that of all.

    Returns an Evaluation: n, measures[name] with value, low and high, and baseline in the same form. Shares are from 0 to 1.
    BLEU, chrF and SQuAD's f1 and exact_match are in percent. Losses are in nats a token, bits_per_byte in bits. ValueError
    if the model cannot be evaluated for the task, or the data do not fit it.
    """
    options = Settings(**settings)
    if isinstance(model, (str, Path)) and options.second_column is None:  # a model of pairs gets pairs
        options.second_column = task_options(Path(model)).get("second_column")
    model, tokenizer = opened(model, tokenizer, device, dtype)
    with stored({"data": data}, documents=False) as (named, _):
        name = str(named["data"])
        task = task_for(model, tokenizer, name, options)
        if task in PLAIN and table_kind(Path(name)) and Path(name).exists():
            name = TEXTS_OF + name  # each row is a document
        scored = TASKS[task](model, tokenizer, name, dataclasses.replace(options, task=cast(Any, task)), on_batch)
    return Evaluation.of(task, scored, options.resamples, options.seed)


def opened(model: Any, tokenizer: Tokenizer | None, device: str, dtype: str) -> tuple[Model, Tokenizer]:
    """The model and its tokenizer."""
    name = type(model).__name__
    if isinstance(model, (str, Path)):
        name = str(model)
        model, tokenizer = load(model, device, dtype)
    elif not isinstance(model, Model):
        model, tokenizer = model
    if tokenizer is None:
        raise ValueError(
            f"{name} comes without a tokenizer, and data are texts: pass one, tinyllm.evaluate(..., tokenizer=...)"
        )
    return model, tokenizer
