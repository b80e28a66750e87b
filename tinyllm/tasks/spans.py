"""Spans taken out of a text: what T5 is pretrained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..data.spans import Noise, SpanBatches, sentinel_ids, spans_pass
from ..generation.decoding import generate, tokens_without_text
from ..tokenizers import Tokenizer, UnigramTokenizer
from ..training.config import TrainConfig
from ..training.data import Data, later
from .task import Task, learned_or_loaded
from .text import TextTask, beginning, fingerprint, tokens_in_parts

SAMPLES = 3  # windows that are filled at each evaluation, to look at
SETS: tuple[str, ...] = (  # of the model's configuration: no options
    "vocab_size", "eos_token_id", "pad_token_id", "decoder_start_token_id", "model_type", "task_specific_params",
)  # fmt: skip


@dataclass
class SpanTask(Task):
    """What was taken out of a text, in spans of a few tokens."""

    # Data
    data: list[str] = field(default_factory=lambda: ["stdlib:docs"])  # text file, folder, data set's name, stdlib:docs
    tokenizer: str = "unigram:4096"  # N tokens learned from the data: unigram:N; or a path
    val_fraction: float = 0.1  # the part of the data, its end, that is held out
    length: int = 128  # tokens in a window of text
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    noise: float = 0.15  # the share of them that is taken out
    mean_span: float = 3.0  # how many of them in a row, in the mean

    help: ClassVar = "what was taken out of a text, in spans of a few tokens"
    documents: ClassVar = True
    sets: ClassVar = SETS
    use: ClassVar = (
        'Let it fill a gap: tinyllm generate {out} --prompt "Return the <extra_id_0> of the file." --temperature 0'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = self._text().data

    def _text(self) -> TextTask:
        return TextTask(self.data, test_data=self.test_data, encoding=self.encoding)

    def make_tokenizer(self) -> Tokenizer:
        return unigram(self.tokenizer, lambda: beginning(self._text().source(), 1 - self.test_fraction))

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return model_fields(tokenizer)

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        c = model.config
        noise = Noise(sentinel_ids(tokenizer), tokenizer.eos_id, c.decoder_start_token_id, self.noise, self.mean_span)
        source, test = self._text().source(), self._text().test_source()
        parts = tokens_in_parts(source, test, tokenizer, self.fractions)
        shown = next(spans_pass(parts.validation, SAMPLES, self.length, noise))

        def measured(part: np.ndarray) -> dict[str, Any]:
            return {"held_out": lambda: spans_pass(part, config.batch_size, self.length, noise)}

        return Data(
            batches=SpanBatches(parts.learned, config.batch_size, self.length, noise, config.seed),
            **measured(parts.validation),
            test=later(measured, parts.test),
            tokenizer=tokenizer,
            fingerprint=fingerprint(source, test),
            sample=lambda model: gaps_filled(model, tokenizer, noise, shown[0], shown[2]),
            targets=2,
            notes=source.notes,
        )


def unigram(name: str, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer that is meant: "unigram:N", N tokens learned from texts(); or the one at a path."""
    return learned_or_loaded(name, "unigram", lambda size: UnigramTokenizer.train(texts(), size))


def model_fields(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a tokenizer says of an encoder-decoder's configuration; ValueError where it cannot end or pad a text."""
    if tokenizer.eos_id is None or tokenizer.pad_id is None:
        raise ValueError("T5 needs a tokenizer with </s> and <pad>, as unigram:N and T5's own have them")
    pad = tokenizer.pad_id
    ends = {"eos_token_id": tokenizer.eos_id, "pad_token_id": pad, "decoder_start_token_id": pad}
    return {"vocab_size": tokenizer.vocab_size, **ends}


def gaps_filled(model: Any, tokenizer: Tokenizer, noise: Noise, source: np.ndarray, targets: np.ndarray) -> str:
    """Corrupted windows with what the model puts into the gaps, and what stood there: [written | taken out]."""
    never = tokens_without_text(model, tokenizer, [noise.end])
    written = generate(model, source, targets.shape[1] + 8, suppress_tokens=never)
    texts = []
    for row, *both in zip(source.tolist(), written.tolist(), targets.tolist()):
        spans = [spans_of(ids, noise) for ids in both]
        parts: list[str] = []
        left: list[int] = []
        for id in [*row, None]:
            if id is not None and id not in noise.sentinels and id != noise.end:
                left.append(id)
                continue
            parts.append(tokenizer.decode(left))
            left = []
            if id in noise.sentinels:
                parts.append("[" + " | ".join(tokenizer.decode(found.get(id, [])) for found in spans) + "]")
        texts.append(" ".join(filter(None, parts)))
    return "\n".join(texts)


def spans_of(ids: list[int], noise: Noise) -> dict[int, list[int]]:
    """What a target says of each gap: sentinel -> the tokens behind it."""
    found: dict[int, list[int]] = {}
    span: list[int] = []
    for id in ids:
        if id == noise.end:
            break
        if id in noise.sentinels:
            span = found.setdefault(id, [])
        elif id != noise.start:
            span.append(id)
    return found
