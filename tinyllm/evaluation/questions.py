"""Answers that are in a text (SQuAD's files), and the likeliest of several answers (HellaSwag's and ARC's)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..data.examples import Example, padded
from ..data.files import DataError
from ..data.sentences import sentences
from ..data.squad import Question, read_squad
from ..data.tables import read_table
from ..models import BERTForQuestionAnswering, LanguageModel
from ..pipelines.question_answering import answer
from ..tokenizers import Tokenizer
from .intervals import Statistic, mean, share
from .labels import CHUNK
from .losses import OnBatch, in_batches, rows_at_once, token_losses
from .result import Prediction, Scored
from .settings import Settings


def evaluate_questions(
    model: BERTForQuestionAnswering, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """f1 and exact_match in percent, as SQuAD's script defines them. If some questions have no answer, the model gives one
    where its score is above 0, else always. The baseline answers with the first sentence of the context."""
    questions = read_squad(data, settings.encoding)[: settings.limit or None]
    threshold = None if all(one.answers for one in questions) else 0.0
    sizes: dict[str, Any] = {"batch_size": settings.batch_size, "length": settings.length, "threshold": threshold}
    sizes |= {"stride": settings.stride} if settings.stride else {}
    said: list[str] = []
    for group in in_batches(questions, CHUNK * settings.batch_size, on_batch):
        said += [one.text for one in answer(model, tokenizer, [(one.question, one.context) for one in group], **sizes)]
    first = [next(iter(sentences(one.context)), "") for one in questions]
    predictions = [
        Prediction([one.question, one.context], list(one.answers), text, metrics.squad_scores(text, one.answers)[1])
        for one, text in zip(questions, said)
    ]
    return Scored(
        "question", len(questions), answer_measures(said, questions), "the first sentence of the context",
        answer_measures(first, questions), predictions,
    )  # fmt: skip


def answer_measures(said: list[str], questions: list[Question]) -> dict[str, Statistic]:
    both = [metrics.squad_scores(text, one.answers) for text, one in zip(said, questions)]
    exact, f1 = zip(*both)
    return {"f1": mean(100 * np.array(f1)), "exact_match": mean(100 * np.array(exact))}


@dataclass(frozen=True)
class Choice:
    """What precedes the answers, the answers, and the number of the right one."""

    context: str
    answers: list[str]
    right: int


def evaluate_choice(
    model: LanguageModel, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """accuracy and acc_norm: the right answer has the largest log-probability; or the largest per byte of the answer.

    As lm-evaluation-harness has it (Gao et al.): an answer follows its context after a space, and both are encoded together.
    The baseline picks an answer at random.
    """
    asked = read_choices(data, settings.encoding)[: settings.limit or None]
    rows = [
        (i, example(tokenizer, one.context, text, model.max_length)) for i, one in enumerate(asked) for text in one.answers
    ]
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row][1].tokens))
    scores, size = np.zeros(len(rows)), rows_at_once(model, max(len(one.tokens) for _, one in rows), settings.batch_size)
    for group in in_batches(order, size, on_batch):
        losses, _ = token_losses(model, padded([rows[row][1] for row in group], tokenizer.pad_id or 0))
        scores[group] = -losses.sum(1)
    ends = np.cumsum([len(one.answers) for one in asked])[:-1]
    by_question = np.split(scores, ends)
    normed = [s / [max(len(text.encode("utf-8")), 1) for text in one.answers] for s, one in zip(by_question, asked)]
    chosen, chosen_normed = ([int(s.argmax()) for s in several] for several in (by_question, normed))
    right = [one.right for one in asked]
    predictions = [
        Prediction(
            one.context, one.answers[one.right], one.answers[best], float(s[one.right] - np.delete(s, one.right).max())
        )
        for one, best, s in zip(asked, chosen, by_question)
    ]
    chance = mean([1 / len(one.answers) for one in asked])
    return Scored(
        "question", len(asked),
        {"accuracy": share(np.equal(chosen, right)), "acc_norm": share(np.equal(chosen_normed, right))},
        "an answer at random", {"accuracy": chance, "acc_norm": chance}, predictions,
    )  # fmt: skip


def example(tokenizer: Tokenizer, context: str, text: str, longest: int) -> Example:
    """Context and answer, with the loss on the answer. A context that is too long loses its beginning."""
    context, space = context.rstrip(), " "
    begin = tokenizer.wrap([])[0][:1]  # LLaMA's <s>, OPT's </s>
    ids = tokenizer.encode(context + space + text, allow_special=False)
    before = len(tokenizer.encode(context, allow_special=False))
    tokens = np.array([*begin, *ids], np.int64)
    learned = np.arange(len(tokens)) >= max(len(begin) + before, 1)
    return Example(tokens[-(longest + 1) :], learned[-(longest + 1) :])


def is_choice(row: Mapping[str, Any]) -> bool:
    """Whether a row of a file is a question with answers to choose from."""
    return "endings" in row or "choices" in row or isinstance(row.get("question"), Mapping)


def read_choices(data: str | Path, encoding: str = "utf-8") -> list[Choice]:
    """The questions of a JSON (lines) file: HellaSwag's (ctx, endings, label), ARC's (question, choices, answerKey, both as
    AI2's files and Hugging Face's data sets have them), or {"question", "choices": [texts], "answer": number}.

    Raises DataError, which names the file and the line, for anything else.
    """
    table = read_table(data, encoding=encoding)
    found = []
    for i, row in enumerate(table.rows):
        try:
            one = hellaswag(row) if "endings" in row else multiple_choice(row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            one = None
        if one is None or not 0 <= one.right < len(one.answers) or len(one.answers) < 2:
            raise DataError(
                f"{table.where(i)}: it should have ctx, endings and label (HellaSwag), or question, choices and answerKey "
                f"(ARC), with two answers or more; it has {', '.join(row)}"
            )
        found.append(one)
    return found


def hellaswag(row: Mapping[str, Any]) -> Choice:
    """Activity, context and endings, cleaned as lm-evaluation-harness does."""
    context = f"{row['ctx_a']} {row['ctx_b'].capitalize()}" if "ctx_a" in row and "ctx_b" in row else row["ctx"]
    if row.get("activity_label"):
        context = f"{row['activity_label']}: {context}"
    return Choice(cleaned(context), [cleaned(text) for text in row["endings"]], int(row["label"]))


def cleaned(text: str) -> str:
    """WikiHow's text without the marks of its pages, [title] and the like."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def multiple_choice(row: Mapping[str, Any]) -> Choice:
    """A question with choices in one of ARC's two forms, or with a plain list."""
    question = row["question"]
    if isinstance(question, Mapping):  # AI2's: {"stem", "choices": [{"text", "label"}]}
        texts = [one["text"] for one in question["choices"]]
        names = [str(one["label"]) for one in question["choices"]]
        question = question["stem"]
    elif isinstance(row["choices"], Mapping):  # Hugging Face's: {"text": [...], "label": [...]}
        texts, names = list(row["choices"]["text"]), [str(name) for name in row["choices"]["label"]]
    else:
        texts, names = list(row["choices"]), [str(i) for i in range(len(row["choices"]))]
    answer = next(row[name] for name in ("answerKey", "answer", "label", "gold") if name in row)
    return Choice(f"Question: {question}\nAnswer:", texts, names.index(str(answer)))
