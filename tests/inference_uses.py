"""Every function that only uses a model, with a tiny model for each: what the tests of modes and of NaN go through."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import tinyllm
from tinyllm.data.encoder_rows import rows_pass
from tinyllm.data.squad import Question, windows
from tinyllm.data.tagged import Tagged
from tinyllm.data.word_rows import WordRow
from tinyllm.generation import chat, encoded
from tinyllm.kernels.device import to_host
from tinyllm.layers import Dropout
from tinyllm.models import MODELS
from tinyllm.pipelines.extraction import extracts
from tinyllm.pipelines.text2text import Use, answers
from tinyllm.tasks.answers import AnswersData
from tinyllm.tasks.labelled import LabelData
from tinyllm.tasks.labels import TagData
from tinyllm.tasks.masked import MaskedData
from tinyllm.tokenizers import ByteTokenizer, WordPieceTokenizer
from tinyllm.training.data import Data

BYTES, CHAT = ByteTokenizer(), ByteTokenizer()
chat.extend(tinyllm.GPT.tiny(vocab_size=400), CHAT)
V = CHAT.vocab_size  # a few more than BYTES has
TEXTS = ["the [MASK] run is open", "a [MASK]"]
WORDS = WordPieceTokenizer.train(["the first run of a model is open"] * 4, 60)
PROMPTS = ["Once", "In the beginning"]
USE = Use(max_source_length=20, max_length=8)
BERT_SIZES = {"vocab_size": WORDS.vocab_size, "max_position_embeddings": 32, "id2label": {"0": "O", "1": "B-X", "2": "I-X"}}
SIZES: dict[str, dict[str, Any]] = {
    "GPT": {"vocab_size": V, "n_positions": 64, "tie_word_embeddings": False},
    "GPTForSequenceClassification": {"vocab_size": V, "n_positions": 64},
    "Llama": {"vocab_size": V, "max_position_embeddings": 64},
    "T5": {"vocab_size": V, "eos_token_id": 1, "pad_token_id": 0},
}


def model_for(kind: str, seed: int = 5) -> Any:
    """A tiny model with weights of order one, and dropout wherever it has a Dropout layer."""
    model = MODELS[kind][0].tiny(**SIZES.get(kind, BERT_SIZES))
    model.flat.data += np.random.default_rng(seed).standard_normal(model.flat.size).astype(np.float32)
    for layer in model.layers():
        if isinstance(layer, Dropout):
            layer.p = 0.5
    return model


@functools.cache
def assistant() -> Any:
    return tinyllm.GPT.tiny(**SIZES["GPT"])


def talk(model: Any) -> list[str]:
    return list(chat.Chat(model, CHAT, max_new_tokens=6).reply("Hello"))


def batch_of(model: Any, random: np.random.Generator | None = None) -> tuple[Any, ...]:
    """Random inputs and targets: what the loss of a GPT, a Llama or a T5 is called with."""
    random = random or np.random.default_rng(0)
    return tuple(random.integers(2, 13, (3 if isinstance(model, tinyllm.T5) else 2, 2, 7)))


def measured(data: Any, model: Any) -> list[float]:
    return list(data.evaluate(model, [batch_of(model)]).values())


def measured_on(data: Any, model: Any, highest: int, *shape: int) -> list[float]:
    """A BERT, on random targets of this shape."""
    random = np.random.default_rng(0)
    tokens, targets = random.integers(5, 13, (4, 7)), random.integers(0, highest, shape)
    return list(data.evaluate(model, [(tokens, targets, np.zeros_like(tokens), np.ones((4, 7), bool))]).values())


def tags_measured(model: Any) -> list[float]:
    """A BERT that labels words, on four texts of five words, each a token."""
    random = np.random.default_rng(0)
    tokens, labels = random.integers(5, 13, (4, 7)), random.integers(0, 3, (4, 5))
    targets = np.pad(labels, ((0, 0), (1, 1)), constant_values=-100)
    places, types = np.arange(5), np.zeros(7, np.int64)
    rows = [WordRow(row, types, target, i, places, places + 1) for i, (row, target) in enumerate(zip(tokens, targets))]
    names = [model.config.id2label[str(i)] for i in range(model.config.num_labels)]
    true = Tagged([["word"] * 5] * 4, labels.tolist(), names)
    batch = (tokens, targets, np.zeros_like(tokens), np.ones((4, 7), bool))
    return list(TagData(None, list, rows=rows, true=true).evaluate(model, [batch]).values())


def evaluated(model: Any, tokenizer: Any, row: dict[str, str]) -> list[float]:
    """The measures of a model on one example."""
    found = tinyllm.evaluate((model, tokenizer), [row], resamples=1, max_length=6)
    return [one.value for one in found.measures.values()]


def tokens_of(model: Any) -> np.ndarray:
    return np.array([[5, 6, 7], [8, 9, 4]])


# name -> (kind of model, what is called with the model)
USES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "generate": ("GPT", lambda m: tinyllm.generate(m, tokens_of(m), 6)),
    "generate without the cache": ("Llama", lambda m: tinyllm.generate(m, tokens_of(m), 6, use_cache=False)),
    "generate with draws": ("Llama", lambda m: tinyllm.generate(m, tokens_of(m), 6, temperature=1.0, seed=1)),
    "generate with beams": ("GPT", lambda m: tinyllm.generate(m, tokens_of(m), 6, num_beams=3)),
    "generate with an assistant": ("GPT", lambda m: tinyllm.generate(m, [[5, 6]], 6, assistant_model=assistant())),
    "assist": ("GPT", lambda m: tinyllm.generate(assistant(), [[5, 6]], 6, assistant_model=m, temperature=1.0, seed=1)),
    "stream": ("GPT", lambda m: list(tinyllm.stream(m, BYTES, "Once", 6))),
    "complete": ("GPT", lambda m: tinyllm.complete(m, BYTES, PROMPTS, 6)),
    "chat": ("GPT", talk),
    "T5 generate": ("T5", lambda m: tinyllm.generate(m, tokens_of(m), 6)),
    "T5 generate with beams": ("T5", lambda m: tinyllm.generate(m, tokens_of(m), 6, num_beams=2)),
    "T5 complete": ("T5", lambda m: tinyllm.complete(m, BYTES, PROMPTS, 6)),
    "T5 stream": ("T5", lambda m: list(tinyllm.stream(m, BYTES, "Once", 6))),
    "translate": ("T5", lambda m: answers(m, BYTES, PROMPTS, USE)),
    "translate by a decoder": ("GPT", lambda m: answers(m, BYTES, PROMPTS, dataclasses.replace(USE, num_beams=2))),
    "extract": ("T5", lambda m: extracts(m, BYTES, ["One is here. Two is there."], USE)),
    "extract by a decoder": ("GPT", lambda m: extracts(m, BYTES, ["One is here. Two is."], USE)),
    "classify": ("BERTForSequenceClassification", lambda m: tinyllm.classify(m, WORDS, TEXTS)),
    "classify by a decoder": ("GPTForSequenceClassification", lambda m: tinyllm.classify(m, BYTES, TEXTS)),
    "fill_mask": ("BERT", lambda m: tinyllm.fill_mask(m, WORDS, TEXTS)),
    "tag": ("BERTForTokenClassification", lambda m: tinyllm.tag(m, WORDS, TEXTS)),
    "answer": ("BERTForQuestionAnswering", lambda m: tinyllm.answer(m, WORDS, [("the first", "a model is open")])),
    "evaluate on a text": ("GPT", lambda m: evaluated(m, BYTES, {"text": "Once upon a time."})),
    "evaluate on hidden words": ("BERT", lambda m: evaluated(m, WORDS, {"text": "the first run of a model is open"})),
    "evaluate on pairs": ("T5", lambda m: evaluated(m, BYTES, {"source": "One is here.", "target": "Two"})),
    "sentence_embeddings": ("BERTEncoder", lambda m: tinyllm.sentence_embeddings(m, WORDS, TEXTS)),
}
# these measure a model, and may give NaN: training says so in its own way
MEASURES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "last_hidden_state": ("BERT", lambda m: to_host(m.last_hidden_state([[1, 2, 3]]))),
    "encoded": ("T5", lambda m: [a for pair in encoded(m, tokens_of(m))._source.values() for a in pair]),
    "Data": ("GPT", lambda m: measured(Data(None, list), m)),
    "LabelData": ("BERTForSequenceClassification", lambda m: measured_on(LabelData(None, list), m, 3, 4)),
    "TagData": ("BERTForTokenClassification", lambda m: tags_measured(m)),
    "MaskedData": ("BERT", lambda m: measured_on(MaskedData(None, list), m, 13, 4, 7)),
    "AnswersData": ("BERTForQuestionAnswering", lambda m: list(SPANS.evaluate(m, rows_pass(SPANS.rows, 2)).values())),
}
ASKED = [Question("0", "the first", "a model is open", ("is",), (8,))]
SPANS = AnswersData(None, list, rows=windows(WORDS, ASKED, 32), questions=ASKED)
