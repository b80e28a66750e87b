"""Texts out of texts: an encoder-decoder's translations, summaries and answers, in batches of like lengths.

How a model is used for a task stays with its configuration, as Hugging Face's T5 has it:

    task_specific_params = {"translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 64, ...}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..generation.decoding import end_tokens, generate, tokens_without_text
from ..generation.options import require_number, require_whole
from ..generation.sessions import left_padded
from ..models import LanguageModel, Model
from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Use:
    """How a model is used for one task."""

    prefix: str = ""  # stands before each source
    max_source_length: int = 512  # tokens; a longer source loses its end
    max_length: int = 128  # tokens of the longest target
    num_beams: int = 1
    length_penalty: float = 1.0  # of the search; above 0 favours longer texts, below 0 shorter ones
    no_repeat_ngram_size: int = 0  # no n tokens in a row come twice; 0: they may
    early_stopping: bool = False
    suffix: str = ""  # stands behind each source: a decoder goes on from there

    def __post_init__(self) -> None:
        for name, least in {"max_source_length": 1, "max_length": 1, "num_beams": 1, "no_repeat_ngram_size": 0}.items():
            require_whole(name, getattr(self, name), least)
        require_number("length_penalty", self.length_penalty)

    @classmethod
    def of(cls, params: dict[str, Any]) -> Use:
        """The part of task_specific_params that is meant here."""
        return cls(**{field.name: params[field.name] for field in dataclasses.fields(cls) if field.name in params})


def use_of(model: Model, stem: str, task: str | None = None) -> Use:
    """How the model translates ("transl") or summarizes ("summar"): of the task named, or of its only one of that stem.

    ValueError where there are several, or none of that name. A model that says nothing of how it is used gets the text as
    it is.
    """
    if not hasattr(model, "decode") and not isinstance(model, LanguageModel):
        raise ValueError(f"{type(model).__name__} writes no texts: this needs a model that was trained on pairs of texts")
    params = getattr(model.config, "task_specific_params", None) or {}
    names = [task] if task is not None else [name for name in params if name.startswith(stem)]
    if task is not None and task not in params:
        raise ValueError(f"the model knows no task {task!r}: it has {', '.join(params) or 'none'}")
    if len(names) > 1:
        raise ValueError(f"the model has several such tasks: choose one with --task, of {', '.join(names)}")
    return Use.of(params[names[0]]) if names else Use()


def answers(
    model: Model,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    use: Use | None = None,
    batch_size: int = 32,
    on_batch: Callable[[int], Any] | None = None,
) -> list[str]:
    """What the model makes of each text. Texts of like lengths are computed together, and come back in their own order.

    on_batch: called with the number of texts that are done.
    """
    if isinstance(texts, str):
        raise TypeError("answers takes a list of texts: put a single one into brackets")
    require_whole("batch_size", batch_size, 1)
    use = use or Use()
    end = end_tokens(model, None, tokenizer)[:1]
    goes_on = isinstance(model, LanguageModel)  # a decoder continues its prompt; an encoder-decoder begins anew
    rows = [prompt(tokenizer, text, use) if goes_on else source(tokenizer, text, use, end) for text in texts]
    return written(model, tokenizer, rows, use, batch_size, on_batch=on_batch)


def written(
    model: Model,
    tokenizer: Tokenizer,
    rows: Sequence[list[int]],
    use: Use,
    batch_size: int = 32,
    ends: Sequence[int] = (),
    on_batch: Callable[[int], Any] | None = None,
) -> list[str]:
    """What the model writes for each row of tokens: a decoder after them, an encoder-decoder from them.

    ends: further tokens that end a text. on_batch: called with the number of rows that are done.
    """
    ends = [*dict.fromkeys([*ends, *end_tokens(model, None, tokenizer)])]
    never = tokens_without_text(model, tokenizer, ends)
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    made = [""] * len(rows)
    for first in range(0, len(order), batch_size):
        group = order[first : first + batch_size]
        tokens, mask = left_padded([rows[row] or [0] for row in group])
        result = generate(
            model, tokens, use.max_length, mask, num_beams=use.num_beams, length_penalty=use.length_penalty,
            no_repeat_ngram_size=use.no_repeat_ngram_size, early_stopping=use.early_stopping, eos_id=ends,
            suppress_tokens=never,
        )  # fmt: skip
        begins = tokens.shape[1] if isinstance(model, LanguageModel) else 1  # after the prompt, or the decoder's first token
        for row, ids in zip(group, result[:, begins:].tolist()):
            made[row] = tokenizer.decode(ids, skip_special_tokens=True).strip()
        if on_batch is not None:
            on_batch(first + len(group))
    return made


def source(tokenizer: Tokenizer, text: str, use: Use, end: list[int]) -> list[int]:
    """What an encoder reads: a text behind its prefix, with the end token."""
    return tokenizer.encode(use.prefix + text, allow_special=False)[: use.max_source_length - len(end)] + end


def prompt(tokenizer: Tokenizer, text: str, use: Use) -> list[int]:
    """What a decoder goes on with: a text between its prefix and its suffix."""
    begin = tokenizer.wrap([])[0][:1]  # LLaMA's <s>, OPT's </s>
    ids = tokenizer.encode(use.prefix + text, allow_special=False)[: use.max_source_length]
    return begin + ids + tokenizer.encode(use.suffix, allow_special=False)
