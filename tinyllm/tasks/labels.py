"""A label for each text, or for each of its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .. import kernels, metrics
from ..data.batches import IGNORED
from ..data.encoder_rows import EncoderRow
from ..data.labelled import Labelled, read_labelled
from ..data.tagged import NOTES, Tagged, read_tagged
from ..kernels.device import to_host
from ..pipelines.text_classification import row_of
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, Data
from .encoder import EncoderTask
from .labelled import LabelData, LabelledTexts


@dataclass
class SequenceTask(LabelledTexts, EncoderTask):
    """A label for each text, or for each pair of texts."""

    second_column: str | None = None  # where a second text stands, if each label is one of a pair

    help: ClassVar = "a label for each text, or pair of texts"
    model: ClassVar = "BERTForSequenceClassification"

    def read(self, name: str, names: Sequence[str] | None) -> Labelled:
        return read_labelled(name, self.text_column, self.label_column, self.second_column, names)

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.row_length(model)
        learned, held_out = ([*text_rows(tokenizer, part, length)] for part in self.parts)
        return LabelData(**self.batches(learned, held_out, tokenizer, config), **self.data_fields(), length=length)


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
    use: ClassVar = 'Tag the words of a text: tinyllm.tag(*tinyllm.load("{out}"), ["a text"])'

    @cached_property
    def parts(self) -> tuple[Tagged, Tagged]:
        """(to learn from, held out)."""
        learned = read_tagged(self.data, self.column)
        if self.val_data:
            return learned, read_tagged([self.val_data], self.column, learned.names)
        return learned.split(self.val_fraction)

    def texts(self) -> Iterable[str]:
        return [" ".join(words) for words in self.parts[0].words]

    def head_fields(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.parts[0].names))}

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.row_length(model)
        learned, held_out = ([*tagged_rows(tokenizer, part, length)] for part in self.parts)
        return TagData(
            **self.batches(learned, held_out, tokenizer, config),
            fingerprint="+".join(part.fingerprint() for part in self.parts),
            best="f1",
        )


def tagged_rows(tokenizer: Tokenizer, part: Tagged, length: int) -> Iterable[EncoderRow]:
    """[CLS] words [SEP] of at most `length` tokens; the first piece of each word has its label (Devlin et al. 2019, 5.3)."""
    for words, labels in zip(part.words, part.labels):
        pieces = [tokenizer.encode(word, allow_special=False) for word in words]
        ids = [id for piece in pieces for id in piece][: length - len(tokenizer.wrap([])[0])]
        if not ids:
            continue
        target = [l if i == 0 else IGNORED for piece, l in zip(pieces, labels) for i in range(len(piece))]
        tokens, types = tokenizer.wrap(ids)
        places = tokenizer.wrap([-1] * len(ids))[0]
        targets = np.full(len(tokens), IGNORED)
        targets[np.array(places) == -1] = target[: len(ids)]
        yield EncoderRow(np.array(tokens), np.array(types), targets)


class TagData(Data):
    """Measured by the words that have the right label, and by the F1 of whole names where labels are B-, I-, O."""

    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """loss, accuracy, f1."""
        names = [model.config.id2label[str(i)] for i in range(model.config.num_labels)]
        loss, said, true = 0.0, [], []
        for tokens, labels, types, mask in batches:
            logits = model(tokens, types, mask)
            loss += kernels.cross_entropy_forward(logits, labels)[0] * np.count_nonzero(labels != IGNORED)
            for row, target in zip(to_host(logits).argmax(-1), labels):
                said.append([names[label] for label in row[target != IGNORED]])
                true.append([names[label] for label in target[target != IGNORED]])
        words = sum(map(len, true))
        right = sum(a == b for row in zip(said, true) for a, b in zip(*row))
        return {"loss": loss / words, "accuracy": right / words, "f1": metrics.tag_f1(said, true)}
