"""A label for each text, by a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..data.encoder_rows import EncoderBatches, rows_pass
from ..data.labelled import Labelled
from ..data.text import Texts
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, later
from .labelled import LabelData, LabelledTexts
from .labels import text_rows
from .task import Task
from .text import tokenizer_named

LONGEST = 128  # tokens of a text where `length` does not say


@dataclass
class ClassificationTask(LabelledTexts, Task):
    """A label for each text: what GPT, Llama and OPT learn with a head in place of their vocabulary."""

    length: int | None = None  # tokens of a text at most; what is longer is cut; 128 if not given
    tokenizer: str = "bpe:2048"  # of a fresh model: char, bytes, N learned from the data bpe:N; or a path

    sets: ClassVar = ("vocab_size", "eos_token_id", "pad_token_id", "num_labels")
    fresh: ClassVar = ("score.",)
    values: ClassVar = {
        "batch_size": 16, "accumulate": 1, "lr": 1e-3, "warmup": 50, "schedule": "linear", "min_lr": 0.0,
        "epochs": 4.0, "eval_every": 0, "eval_batches": 0, "patience": 3,
    }  # fmt: skip

    def make_tokenizer(self) -> Tokenizer:
        return tokenizer_named(self.tokenizer, Texts("the texts", self.texts()))

    def fitted(self, model: Any, tokenizer: Tokenizer) -> Any:
        if model.config.pad_token_id is None:  # by which transformers finds the last token of a row
            return model.with_config(pad_token_id=tokenizer.eos_id if tokenizer.pad_id is None else tokenizer.pad_id)
        return model

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> LabelData:
        length = self.length or min(LONGEST, model.max_length)
        if not 1 <= length <= model.max_length:
            raise ValueError(f"length {length} is not between 1 and what this model takes, {model.max_length}")
        learned = [*text_rows(tokenizer, self.divided.learned, length)]

        def measured(part: Labelled) -> dict[str, Any]:
            rows = [*text_rows(tokenizer, part, length)]
            return {
                "held_out": lambda: map(for_decoder, rows_pass(rows, config.batch_size, tokenizer.pad_id or 0)),
                "shown": part,
            }

        return LabelData(
            batches=LabelBatches(learned, tokenizer, config.batch_size, config.seed),
            **measured(self.divided.validation),
            test=later(measured, self.divided.test),
            tokenizer=tokenizer,
            length=length,
            **self.data_fields(),
        )


def for_decoder(batch: Batch) -> Batch:
    """A batch without the token types, that decoders do not have: tokens (B, T), labels (B,), attention_mask (B, T)."""
    tokens, labels, _, mask = batch
    return tokens, labels, mask


class LabelBatches(EncoderBatches):
    """Shuffled batches (tokens, labels, attention_mask), without end."""

    def at(self, position: int) -> Batch:
        return for_decoder(super().at(position))


class GPTClassification(ClassificationTask):
    model: ClassVar = "GPTForSequenceClassification"


class LlamaClassification(ClassificationTask):
    model: ClassVar = "LlamaForSequenceClassification"


class OPTClassification(ClassificationTask):
    model: ClassVar = "OPTForSequenceClassification"
