"""A label for each text, or for each of its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .. import kernels, metrics
from ..data.batches import IGNORED
from ..data.encoder_rows import EncoderRow, rows_pass
from ..data.files import DataError
from ..data.labelled import Labelled, read_labelled
from ..data.padding import longest_first
from ..data.parts import Parts, three_parts
from ..data.tagged import NOTES, Tagged, parts, read_tagged
from ..data.word_rows import WordRow, word_rows
from ..kernels.device import to_host
from ..layers import without_dropout
from ..pipelines.text_classification import row_of
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, Data, later
from .encoder import EncoderTask
from .labelled import LabelData, LabelledTexts


@dataclass
class SequenceTask(LabelledTexts, EncoderTask):
    """A label for each text, or for each pair of texts."""

    second_column: str | None = None  # where a second text stands, if each label is one of a pair

    help: ClassVar = "a label for each text, or pair of texts"
    model: ClassVar = "BERTForSequenceClassification"

    def read(self, name: str, names: Sequence[str] | None) -> Labelled:
        columns = (self.text_column, self.label_column, self.second_column)
        return read_labelled(name, *columns, names, self.delimiter, self.encoding)

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.row_length(model)
        learned = [*text_rows(tokenizer, self.divided.learned, length)]

        def measured(part: Labelled) -> dict[str, Any]:
            rows = [*text_rows(tokenizer, part, length)]
            return {"held_out": lambda: rows_pass(rows, config.batch_size, tokenizer.pad_id or 0), "shown": part}

        return LabelData(
            batches=self.batches(learned, tokenizer, config),
            **measured(self.divided.validation),
            test=later(measured, self.divided.test),
            tokenizer=tokenizer,
            length=length,
            **self.data_fields(),
        )


def text_rows(tokenizer: Tokenizer, part: Labelled, length: int) -> Iterable[EncoderRow]:
    """[CLS] text [SEP], or [CLS] text [SEP] second [SEP], of at most `length` tokens: the longer of the two is cut."""
    for i, (text, label) in enumerate(zip(part.texts, part.labels)):
        ids, types = row_of(tokenizer, text, None if part.seconds is None else part.seconds[i], length)
        yield EncoderRow(np.array(ids, np.int64), np.array(types, np.int64), np.array(label))


@dataclass
class TaggingTask(EncoderTask):
    """A label for each word of a text: names, dates, parts of speech."""

    # Data
    data: list[str] = field(default_factory=lambda: [NOTES])  # CoNLL, JSON lines with tokens and tags, or notes
    column: int = -1  # of a CoNLL file: where the tag stands, counted from 0, or from the end by -1

    help: ClassVar = "a label for each word: names, dates, parts of speech"
    unit: ClassVar = "word"
    model: ClassVar = "BERTForTokenClassification"
    use: ClassVar = 'Tag the words of a text: tinyllm tag {out} "a text"'

    @cached_property
    def divided(self) -> Parts[Tagged]:
        """What to learn from, to validate on, and to test on."""
        rows = read_tagged(self.data, self.column, encoding=self.encoding)

        def read(files: list[str]) -> Tagged | None:
            return read_tagged(files, self.column, rows.names, self.encoding) if files else None

        validation, test = read([self.val_data] if self.val_data else []), read(self.test_data)
        return three_parts(rows, validation, test, self.fractions, Tagged.keys, Tagged.take)

    @property
    def parts(self) -> tuple[Tagged, Tagged]:
        """(to learn from, held out)."""
        return self.divided.learned, self.divided.validation

    def texts(self) -> Iterable[str]:
        return [" ".join(words) for words in self.parts[0].words]

    def head_fields(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.parts[0].names))}

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.row_length(model)
        learned = tagged_rows(tokenizer, parts(self.divided.learned), length)

        def measured(part: Tagged) -> dict[str, Any]:
            rows = tagged_rows(tokenizer, part, length)
            return {
                "held_out": lambda: rows_pass(rows, config.batch_size, tokenizer.pad_id or 0),
                "rows": [rows[i] for i in longest_first(rows)],
                "true": part,
                "n": sum(map(len, part.words)),
            }

        return TagData(
            batches=self.batches(learned, tokenizer, config),
            **measured(self.divided.validation),
            test=later(measured, self.divided.test),
            tokenizer=tokenizer,
            fingerprint="+".join(part.fingerprint() for part in (*self.parts, self.divided.test) if part is not None),
            best="f1",
            unit=self.unit,
            notes=self.divided.notes,
        )


def tagged_rows(tokenizer: Tokenizer, part: Tagged, length: int) -> list[WordRow]:
    """[CLS] words [SEP] of at most `length` tokens; the first piece of each word has its label. DataError if there is
    none."""
    rows = word_rows(tokenizer, part.words, length, part.labels)
    if not rows:
        raise DataError(f"none of the {len(part)} texts has a word that this tokenizer has tokens for")
    return rows


@dataclass
class TagData(Data):
    """Measured by the words that have the right label, and by the F1 of whole names (metrics.tag_f1).

    rows: in the order of `held_out`; true: the held-out texts. A word without tokens counts as if the model said "O".
    """

    rows: Sequence[WordRow] = ()
    true: Tagged | None = None

    @without_dropout()
    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """loss, accuracy, f1 of the words in these batches."""
        assert self.true is not None
        names = [model.config.id2label[str(i)] for i in range(model.config.num_labels)]
        nothing = names.index("O") if "O" in names else -1
        said = [np.full(len(words), nothing) for words in self.true.words]
        unread = [np.zeros(len(words), bool) for words in self.true.words]
        for row in self.rows:
            unread[row.number][row.words] = True
        loss, count, texts = 0.0, 0, list[int]()
        rows = iter(self.rows)
        for tokens, targets, types, mask in batches:
            logits = model(tokens, token_types=types, attention_mask=mask)
            targeted = int(np.count_nonzero(targets != IGNORED))
            loss += kernels.cross_entropy_forward(logits, targets)[0] * targeted
            count += targeted
            for labels, row in zip(to_host(logits).argmax(-1), rows):
                said[row.number][row.words] = labels[row.places]
                unread[row.number][row.words] = False
                texts.append(row.number)
        both = [
            [
                (names[a] if a >= 0 else "", names[b])
                for a, b, left in zip(said[i], self.true.labels[i], unread[i])
                if not left
            ]
            for i in sorted(set(texts))
        ]
        right = sum(a == b for text in both for a, b in text)
        f1 = metrics.tag_f1([[a for a, _ in text] for text in both], [[b for _, b in text] for text in both], names)
        return {"loss": loss / count, "accuracy": right / sum(map(len, both)), "f1": f1}
