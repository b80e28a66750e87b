"""Answers that stand in a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from .. import kernels, metrics
from ..data.encoder_rows import rows_pass
from ..data.padding import longest_first
from ..data.parts import Parts, taken, three_parts
from ..data.squad import TOWNS, Question, Window, fingerprint, read_squad, windows
from ..files import atomic_file
from ..kernels.device import to_host
from ..layers import without_dropout
from ..pipelines.question_answering import Answer, best_answers, span_logits
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, Data, later
from .encoder import EncoderTask

PREDICTIONS, ODDS = "predictions.json", "null_odds.json"


@dataclass
class AnswersTask(EncoderTask):
    """Where in a text the answer to a question stands."""

    # Data
    data: list[str] = field(default_factory=lambda: [TOWNS])  # files in SQuAD's JSON, of version 1.1 or 2.0, or towns
    stride: int = 128  # a text longer than a row is read in windows, each so many tokens further on
    measure: Literal["f1", "exact"] = "f1"  # says which model is the best, from 0 to 100

    help: ClassVar = "where in a text the answer to a question stands"
    unit: ClassVar = "question"
    model: ClassVar = "BERTForQuestionAnswering"
    use: ClassVar = 'Ask it: tinyllm answer {out} --question "Who lives there?" --context text.txt'
    longest: ClassVar = 384

    @cached_property
    def divided(self) -> Parts[list[Question]]:
        """What to learn from, to validate on, and to test on: questions on one paragraph stay together."""

        def read(files: list[str]) -> list[Question]:
            return [question for name in files for question in read_squad(name, self.encoding)]

        validation, test = read([self.val_data] if self.val_data else []) or None, read(self.test_data) or None
        return three_parts(
            read(self.data), validation, test, self.fractions, lambda part: [question.context for question in part], taken
        )

    @property
    def parts(self) -> tuple[list[Question], list[Question]]:
        """(to learn from, held out)."""
        return self.divided.learned, self.divided.validation

    def texts(self) -> Iterable[str]:
        contexts = dict.fromkeys(question.context for question in self.parts[0])
        return [*contexts, *(question.question for question in self.parts[0])]

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.row_length(model)
        learned, questions = self.parts
        rows = windows(tokenizer, questions, length, self.stride)

        def measured(part: list[Question], rows: list[Window]) -> dict[str, Any]:
            return {
                "held_out": lambda: rows_pass(rows, config.batch_size, tokenizer.pad_id or 0),
                "rows": [rows[i] for i in longest_first(rows)],
                "questions": part,
                "n": len(part),
            }

        return AnswersData(
            batches=self.batches(windows(tokenizer, learned, length, self.stride), tokenizer, config),
            **measured(questions, rows),
            test=later(lambda part: measured(part, windows(tokenizer, part, length, self.stride)), self.divided.test),
            tokenizer=tokenizer,
            fingerprint="+".join(fingerprint(part) for part in (*self.parts, self.divided.test) if part is not None),
            best=self.measure,
            report=lambda model, path: write_predictions(model, tokenizer, rows, questions, path),
            unit=self.unit,
            notes=self.divided.notes,
        )


@dataclass
class AnswersData(Data):
    """Measured by exact match and F1 as SQuAD's script defines them, in percent; rows: in the order of `held_out`."""

    rows: list[Window] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    @without_dropout()
    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """loss, exact, f1; where some questions have no answer also the best of these over all thresholds for giving none.

        Of a question the windows that are among the batches are read.
        """
        loss, logits, targets = 0.0, [], 0
        for tokens, spans, types, mask in batches:
            y = model(tokens, token_types=types, attention_mask=mask)  # (B, T, 2)
            loss += kernels.cross_entropy_forward(y.transpose(0, 2, 1), spans)[0] * len(spans)
            logits += [values[real].astype(np.float64) for values, real in zip(to_host(y), mask)]
            targets += len(spans)
        rows = self.rows[: len(logits)]
        answers = best_answers(rows, logits, [question.context for question in self.questions])
        asked = sorted({row.number for row in rows})
        return {"loss": loss / targets, **scores([self.questions[i] for i in asked], [answers[i] for i in asked])}


def scores(questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, float]:
    """exact and f1 in percent. Where some questions have no answer, an answer is given where its score is above 0, and
    best_exact and best_f1 are what the best thresholds would give."""
    references = {question.id: question.answers for question in questions}
    said, some = given_answers(questions, answers)
    measured = metrics.squad(said, references)
    if some:
        texts = {q.id: a.text for q, a in zip(questions, answers)}
        measured |= metrics.squad(texts, references, {q.id: -a.score for q, a in zip(questions, answers)})
        measured |= metrics.squad(said, references)
    return {name: measured[name] for name in ("exact", "f1", "best_exact", "best_f1") if name in measured}


def given_answers(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[dict[str, str], bool]:
    """id -> what is answered, "" where the score says that there is no answer; and whether some questions have none, without
    which there always is an answer."""
    some = not all(question.answers for question in questions)
    return {q.id: a.text if a.score > 0 or not some else "" for q, a in zip(questions, answers)}, some


def write_predictions(
    model: Any, tokenizer: Tokenizer, rows: Sequence[Window], questions: Sequence[Question], path: Path
) -> None:
    """What SQuAD's scripts read: {id: text} in predictions.json, {id: how sure that there is none} in null_odds.json."""
    answers = best_answers(rows, span_logits(model, rows, pad=tokenizer.pad_id or 0), [q.context for q in questions])
    said, _ = given_answers(questions, answers)
    odds = {q.id: -a.score for q, a in zip(questions, answers)}
    for name, content in ((PREDICTIONS, said), (ODDS, odds)):
        with atomic_file(path / name) as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8"))
