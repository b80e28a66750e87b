"""Hidden words and the next sentence: what BERT is pretrained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .. import kernels
from ..data.batches import IGNORED
from ..data.masking import MaskedPairs, Sentences
from ..kernels.device import to_host
from ..layers import without_dropout
from ..pipelines.mask_filling import fill_mask
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, Data, later
from .encoder import wordpiece
from .task import Task
from .text import TextTask, beginning, fingerprint

SAMPLES = 4  # sentences with a gap that are shown at each evaluation


@dataclass
class MaskedTask(Task):
    """Hidden words and the next sentence, of the documents of a text."""

    # Data
    data: list[str] = field(default_factory=lambda: ["stdlib:docs"])  # text file, folder, data set's name, stdlib:docs
    tokenizer: str = "wordpiece:4096"  # N tokens learned from the data: wordpiece:N; or a path
    val_fraction: float = 0.1  # the part of the data, its end, that is held out
    length: int | None = None  # tokens in a row; the most that the model takes if not given
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    masked: float = 0.15  # the share of the tokens that are to be guessed
    whole_words: bool = False  # all pieces of a word are hidden together

    help: ClassVar = "hidden words and the next sentence, from plain text"
    documents: ClassVar = True
    sets: ClassVar = ("vocab_size", "pad_token_id", "num_labels", "pooler")
    use: ClassVar = 'Let it fill a gap: tinyllm fill-mask {out} "The [MASK] of the file."'

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = self._text().data

    def _text(self) -> TextTask:
        return TextTask(self.data, test_data=self.test_data, encoding=self.encoding)

    def make_tokenizer(self) -> Tokenizer:
        return wordpiece(self.tokenizer, beginning(self._text().source(), 1 - self.test_fraction))

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.length or model.max_length
        if not 8 <= length <= model.max_length:
            raise ValueError(f"length {length} is not between 8 and what this model takes, {model.max_length}")
        source, test_source = self._text().source(), self._text().test_source()
        longest, test = (length - 3) // 2, None
        text = Sentences.of(source, tokenizer, longest)
        if test_source:
            test = Sentences.of(test_source, tokenizer, longest)
        elif self.test_fraction:
            text, test = text.split(self.test_fraction)
        learned, held_out = text.split(self.val_fraction / (1 - self.test_fraction))

        def pairs(part: Sentences) -> MaskedPairs:
            return MaskedPairs(
                part, tokenizer, config.batch_size, length, config.seed, model.config.next_sentence, self.masked,
                self.whole_words,
            )  # fmt: skip

        kept = pairs(held_out)
        gaps = list(gapped(kept))
        return MaskedData(
            batches=pairs(learned),
            held_out=kept.one_pass,
            test=later(lambda part: {"held_out": pairs(part).one_pass}, test),
            tokenizer=tokenizer,
            fingerprint=fingerprint(source, test_source),
            sample=lambda model: filled(model, tokenizer, gaps),
            notes=source.notes,
        )


class MaskedData(Data):
    """Measured by the share of hidden words that are guessed, and of pairs whose kind is told."""

    @without_dropout()
    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """loss, masked_accuracy, and where pairs are learned next_accuracy."""
        loss, words, right = 0.0, 0, 0
        pairs, told, next_loss = 0, 0, 0.0
        for tokens, targets, types, mask, *follows in batches:
            hidden = targets != IGNORED
            logits, next_logits = model.at(hidden, tokens, token_types=types, attention_mask=mask)
            loss += kernels.cross_entropy_forward(logits, targets[hidden])[0] * len(logits)
            right += int((to_host(logits).argmax(-1) == targets[hidden]).sum())
            words += len(logits)
            if follows:
                next_loss += kernels.cross_entropy_forward(next_logits, follows[0])[0] * len(tokens)
                told += int((to_host(next_logits).argmax(-1) == follows[0]).sum())
                pairs += len(tokens)
        measured = {"loss": loss / words + next_loss / max(pairs, 1), "masked_accuracy": right / words}
        return measured | ({"next_accuracy": told / pairs} if pairs else {})


def gapped(held_out: MaskedPairs) -> Iterator[str]:
    """Sentences of the held-out text with a gap in each."""
    text, tokenizer = held_out.text, held_out.tokenizer
    fit = np.flatnonzero((np.diff(text.starts) >= 6) & (np.diff(text.starts) <= 24))
    for i in fit[:: max(1, len(fit) // SAMPLES)][:SAMPLES].tolist():
        ids = text[i : i + 1].tolist()
        ids[len(ids) // 2] = tokenizer.mask_id
        yield tokenizer.decode(ids)


def filled(model: Any, tokenizer: Tokenizer, texts: list[str]) -> str:
    """What the model puts into the first gap of each text, a line for each."""
    lines = []
    for text, (words, *_) in zip(texts, fill_mask(model, tokenizer, texts, top_k=3) if texts else []):
        lines.append(f"{text}   {', '.join(f'{word.token} {word.probability:.0%}' for word in words)}")
    return "\n".join(lines)
