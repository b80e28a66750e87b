"""A text behind another, by a decoder: a summary, a sentence for a form, a reply, with the loss on it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..data import DataError
from ..data.examples import Example, ExampleBatches, examples_pass
from ..data.made import FUNCTIONS
from ..data.text import Texts
from ..data.text_pairs import Pairs
from ..pipelines.text2text import Use, prompt
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Data, later
from .pairs import Mixture, PairData, PairTask, spread
from .task import Task
from .text import tokenizer_named


@dataclass
class CompletionTask(PairTask):
    """Pairs of texts, learned as a prompt (prefix, source, suffix) and what follows on it."""

    # Data
    data: list[str] = field(default_factory=lambda: [FUNCTIONS])  # tables of two columns; functions, forms or replies
    suffix: str = "\n=> "  # stands between a source and its target
    tokenizer: str = "bpe:2048"  # of a fresh model: char, bytes, N learned from the data bpe:N; or a path
    max_source: int = 80  # tokens of a source; what is longer loses its end
    max_target: int = 30  # tokens of a target
    label_smoothing: float = 0.0  # the share of a target's probability that is spread over all tokens
    beams: int = 1  # that the trained model searches with; evaluations on the way take the likeliest token

    help: ClassVar = "a text for another: a summary, a sentence for a form, a reply; measured by ROUGE and BLEU"
    sets: ClassVar = ("vocab_size", "eos_token_id", "pad_token_id", "num_labels")
    values: ClassVar = {
        "batch_size": 16, "accumulate": 1, "lr": 5e-4, "warmup": 100, "schedule": "cosine", "steps": 1500, "eval_batches": 0,
    }  # fmt: skip
    measures: ClassVar[tuple[str, ...]] = ("bleu", "rouge1", "rouge2", "rougeL")
    best: ClassVar = "rougeL"
    name: ClassVar = "summarization"  # by which tinyllm summarize finds it
    use: ClassVar = "Let it write: tinyllm summarize {out} --file text.txt"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cap:
            raise DataError("cap is for encoder-decoders: here each pair comes once an epoch")

    def name_of(self, i: int) -> str:
        return self.name if i == 0 else f"{self.name}_{i + 1}"

    def use_for(self, i: int) -> Use:
        return dataclasses.replace(super().use_for(i), suffix=self.suffix)

    def make_tokenizer(self) -> Tokenizer:
        texts: list[str] = []
        for pairs, _ in self.parts:
            texts += [part for pair in zip(pairs.sources, pairs.targets) for part in pair]
        return tokenizer_named(self.tokenizer, Texts("the pairs", texts))

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return Task.model_fields(self, tokenizer)

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        between = len(prompt(tokenizer, "", self.use_for(0)))
        if (length := between + self.max_source + self.max_target) > model.max_length + 1:
            raise ValueError(
                f"max_source, max_target and what stands between need {length} tokens together, and this model takes "
                f"{model.max_length}"
            )

        def examples(part: Mixture) -> list[Example]:
            return [one for i, pairs in enumerate(part.data) for one in self.examples(tokenizer, pairs, self.use_for(i))]

        def measured(part: Mixture) -> dict[str, Any]:
            rows = examples(part)
            return {"held_out": lambda: examples_pass(rows, config.batch_size)}

        shown = [pairs.grouped() for pairs in self.divided.validation.data]
        shown = [pairs.take(spread(len(pairs), self.eval_texts)) for pairs in shown]
        return PairData(
            batches=ExampleBatches(examples(self.divided.learned), config.batch_size, config.seed),
            **measured(self.divided.validation),
            test=later(lambda part: {**measured(part), **self.shown_all(part)}, self.divided.test),
            tokenizer=tokenizer,
            **self.data_fields(tokenizer, shown),
        )

    def examples(self, tokenizer: Tokenizer, pairs: Pairs, use: Use) -> Iterable[Example]:
        """Prompt and target, with the loss on the target and the token that ends it."""
        if tokenizer.eos_id is None:
            raise ValueError("this tokenizer has no token that ends a text, so that no end is learned: take bpe:N")
        for source, target in zip(pairs.sources, pairs.targets):
            before = prompt(tokenizer, source, use)
            after = [*tokenizer.encode(target, allow_special=False)[: use.max_length - 1], tokenizer.eos_id]
            learned = np.arange(len(before) + len(after)) >= len(before)
            yield Example(np.array(before + after, np.int64), learned)
