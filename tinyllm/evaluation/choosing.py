"""Which task a model is evaluated for: its class decides, and for decoders and encoder-decoders the form of the data."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from ..data.cldr import CLDR
from ..data.dialogues import ANSWERED, ASKED
from ..data.forms import MADE
from ..data.made import DATES, FUNCTIONS
from ..data.registry import DATASETS, find_dataset
from ..data.sentences import COPIES
from ..data.sources import TEXTS_OF
from ..data.tables import INPUTS, LABELS, TARGETS, TEXTS, Table, read_table, table_kind
from ..models import (
    BERT,
    T5,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    LanguageModel,
)
from ..models.classification import SequenceClassifier
from ..tokenizers import Tokenizer
from .questions import is_choice
from .settings import Settings

PAIRS = ("translation", "summarization", "completion", "text2text")
FITTING: list[tuple[Any, tuple[str, ...]]] = [  # the first that a model is an instance of
    ((SequenceClassifier, BERTForSequenceClassification), ("classification",)),
    (BERTForTokenClassification, ("tagging",)),
    (BERTForQuestionAnswering, ("qa",)),
    (BERT, ("masked",)),
    (T5, ("spans", *PAIRS)),
    (LanguageModel, ("text", *PAIRS, "chat", "choice")),
]


def task_for(model: Any, tokenizer: Tokenizer, data: str, settings: Settings) -> str:
    """The name of the task. ValueError if the model cannot be evaluated, or not for settings.task."""
    fitting = next((tasks for classes, tasks in FITTING if isinstance(model, classes)), ())
    if not fitting:
        raise ValueError(f"{type(model).__name__} has no head that could be evaluated: fine-tune it first, tinyllm finetune")
    if settings.task is not None:
        if settings.task not in fitting:
            raise ValueError(
                f"task is {settings.task}, and {type(model).__name__} can be evaluated for {', '.join(fitting)}: "
                "choose one of these, or give another model"
            )
        return settings.task
    if len(fitting) == 1:
        return fitting[0]
    form = form_of(data, settings)
    if form == "pairs":
        return pairs_task(model, tokenizer, settings)
    if form == "text":
        return fitting[0]
    if form not in fitting:
        raise ValueError(
            f"{data} holds data for the task {form}, and {type(model).__name__} can be evaluated for {', '.join(fitting)}: "
            "give other data, or another model"
        )
    return form


def pairs_task(model: Any, tokenizer: Tokenizer, settings: Settings) -> str:
    """The task of a model on pairs of texts: the one that it was trained for. A decoder that knows none replies if it has a
    chat template, else it completes."""
    params = getattr(model.config, "task_specific_params", None) or {}
    if isinstance(model, LanguageModel):
        return "completion" if params or tokenizer.chat_template is None or settings.source else "chat"
    for name, stem in (("translation", "transl"), ("summarization", "summar")):
        if params and all(key.startswith(stem) for key in params):
            return name
    return "text2text"


def form_of(data: str, settings: Settings) -> str:
    """ "text", "pairs", "chat" or "choice": what the columns of a table say; a file that is no table is plain text."""
    if settings.source or settings.target or data.startswith(COPIES) or data in (DATES, CLDR, FUNCTIONS, *MADE):
        return "pairs"
    name = data.partition(":")[0]
    if data.startswith(TEXTS_OF) or name == "stdlib" or Path(data).is_dir():
        return "text"
    if name in DATASETS and find_dataset(name).text is not None and name == data:
        return "text"
    if name not in DATASETS and not table_kind(Path(data)) and not settings.delimiter:
        return "text"
    return table_form(read_table(data, [*INPUTS, *TARGETS], settings.delimiter, settings.encoding))


def table_form(table: Table) -> str:
    row = table.rows[0]
    if "paragraphs" in row or isinstance(row.get("data"), list):
        return "qa"
    if is_choice(row):
        return "choice"
    if table.known(("messages", "conversations", "conversation", "turns")):
        return "chat"
    asked, answered = table.known(itertools.chain(INPUTS, ASKED)), table.known(itertools.chain(TARGETS, ANSWERED))
    if asked and answered and asked != answered or len(table.columns) == 2 and not table.known((*TEXTS, *LABELS)):
        return "pairs"
    return "text"
