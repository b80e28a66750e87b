"""What BERT's tasks share: where the tokenizer of a fresh model comes from, and the data of fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..data.encoder_rows import EncoderBatches, EncoderRow
from ..tokenizers import Tokenizer, WordPieceTokenizer
from ..training.config import TrainConfig
from .task import Task, lasting, learned_or_loaded, listed


def wordpiece(name: str, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that is meant: "wordpiece:N", N tokens learned from these texts; or the one at a path."""
    return learned_or_loaded(name, "wordpiece", lambda size: WordPieceTokenizer.train(texts, size))


@dataclass
class EncoderTask(Task):
    """A task that BERT is fine-tuned for: labelled data, and a part of it or a file of its own to measure on."""

    # Data
    data: list[str] = field(default_factory=list)  # files to learn from; several are joined
    val_data: str | None = None  # a file to measure on; a part of the data if not given
    val_fraction: float = 0.1  # which part
    length: int | None = None  # tokens in a row at most; what is longer is cut
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    hidden_words: float = 0.0  # the share of words that become [MASK] in training, others each time: against overfitting
    tokenizer: str = "wordpiece:4096"  # of a fresh model: N tokens learned from the data, wordpiece:N; or a path

    sets: ClassVar = ("vocab_size", "pad_token_id", "num_labels", "next_sentence", "pooler")
    fresh: ClassVar = ("head.",)
    values: ClassVar = {"epochs": 4.0, "eval_every": 0, "eval_batches": 0, "patience": 3}
    longest: ClassVar = 128  # tokens in a row where `length` does not say

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [lasting(name) for name in listed(self.data)]
        self.val_data = self.val_data and lasting(self.val_data)

    def texts(self) -> Iterable[str]:
        """What a fresh tokenizer learns from."""
        raise NotImplementedError

    def make_tokenizer(self) -> Tokenizer:
        return wordpiece(self.tokenizer, self.texts())

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id, "next_sentence": False}

    def row_length(self, model: Any) -> int:
        length = self.length or min(self.longest, model.max_length)
        if not 4 <= length <= model.max_length:
            raise ValueError(f"length {length} is not between 4 and what this model takes, {model.max_length}")
        return length

    def batches(self, rows: Sequence[EncoderRow], tokenizer: Tokenizer, config: TrainConfig) -> EncoderBatches:
        """The batches of the rows to learn from."""
        return EncoderBatches(rows, tokenizer, config.batch_size, config.seed, self.hidden_words)
