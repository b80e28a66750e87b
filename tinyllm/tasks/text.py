"""The next token of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..data import Batches, Source, cached_tokens, full_pass, open_source
from ..data.parts import Parts, text_parts
from ..generation.decoding import stream
from ..models import Model
from ..tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer, TokenizerError
from ..training.config import TrainConfig
from ..training.data import Data, later
from .task import Task, lasting, learned_or_loaded, listed

LEARN_BPE_FROM = 20_000_000  # characters: more text does not change the merges for the better
PROMPT_WINDOW = 400  # tokens in which a paragraph is looked for that a sample can begin with


@dataclass
class TextTask(Task):
    """The next token of a text: what GPT, Llama and OPT are trained on."""

    # Data
    data: list[str] = field(default_factory=lambda: ["stdlib:docs"])  # file, folder, data set, stdlib:docs, stdlib:code
    tokenizer: str = "char"  # a token a character: char; a byte: bytes; N learned from the data: bpe:N; or a path
    val_fraction: float = 0.1  # the part of the data, its end, that is held out
    length: int | None = None  # tokens in a training window; the longest that the model takes if not given
    sample_tokens: int = 80  # tokens of each sample that the model writes at an evaluation; 0 writes none
    sample_prompt: str | None = None  # what a sample begins with; three beginnings from the held-out text if not given
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16

    documents: ClassVar = True
    sets: ClassVar = ("vocab_size", "eos_token_id", "pad_token_id")  # of the model's configuration: no options

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [lasting(name) for name in listed(self.data)]

    def source(self, names: Sequence[str] | None = None) -> Source:
        """The documents of these data, or of those to learn from."""
        sources = [open_source(name, encoding=self.encoding) for name in (self.data if names is None else names)]
        return sources[0] if len(sources) == 1 else Joined(sources)

    def test_source(self) -> Source | None:
        """The documents of the test data, if there are any."""
        return self.source(self.test_data) if self.test_data else None

    def make_tokenizer(self) -> Tokenizer:
        return tokenizer_named(self.tokenizer, self.source(), 1 - self.test_fraction)

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.length or model.max_length
        if length > model.max_length:
            raise ValueError(f"length {length} is more than this model takes, {model.max_length}")
        source, test = self.source(), self.test_source()
        parts = tokens_in_parts(source, test, tokenizer, self.fractions)
        prompts = prompts_of(parts.validation, tokenizer) if self.sample_prompt is None else [self.sample_prompt]
        try:
            tokenizer.encode(self.sample_prompt or "")
        except TokenizerError as error:
            raise ValueError(f"sample_prompt: {error}") from None

        def measured(part: np.ndarray) -> dict[str, Any]:
            return {"held_out": lambda: full_pass(part, config.batch_size, length)}

        return Data(
            batches=Batches(parts.learned, config.batch_size, length, config.seed),
            **measured(parts.validation),
            test=later(measured, parts.test),
            tokenizer=tokenizer,
            fingerprint=fingerprint(source, test),
            sample=(lambda model: self.sample(model, tokenizer, prompts)) if self.sample_tokens else None,
            notes=source.notes,
        )

    def sample(self, model: Model, tokenizer: Tokenizer, prompts: list[str]) -> str:
        """Return what the model writes after each prompt, under a heading. The seed is always the same, so that a reader
        sees the model learn."""
        samples = []
        for i, prompt in enumerate(prompts):
            new = stream(model, tokenizer, prompt, self.sample_tokens, temperature=0.8, top_k=40, seed=0)
            text = whole_lines(prompt + "".join(new))
            samples.append(f"sample {i + 1} of {len(prompts)}: {prompt.strip()}\n{text}")
        return "\n\n".join(samples)


def whole_lines(text: str) -> str:
    """Return the text without the line that its end cuts, unless that is the better half of it."""
    end = text.rfind("\n")
    return text[:end].rstrip() if end > len(text) / 2 else text


def tokens_in_parts(
    source: Source, test: Source | None, tokenizer: Tokenizer, fractions: tuple[float, float]
) -> Parts[np.ndarray]:
    """The tokens of a text in three parts (text_parts)."""
    end = tokenizer.eos_id
    test_tokens = None if test is None else cached_tokens(test, tokenizer, end)
    return text_parts(cached_tokens(source, tokenizer, end), test_tokens, fractions, end)


def fingerprint(source: Source, test: Source | None) -> str:
    """The same for the same text and the same test data."""
    return source.fingerprint() if test is None else f"{source.fingerprint()}+{test.fingerprint()}"


def prompts_of(held_out: np.ndarray, tokenizer: Tokenizer, count: int = 3) -> list[str]:
    """Return up to `count` different beginnings of paragraphs, from equal parts of the held-out tokens (N,)."""
    prompts = []
    for part in np.array_split(held_out, count):
        ids = part[:PROMPT_WINDOW].tolist()
        if tokenizer.eos_id in ids:
            end = ids.index(tokenizer.eos_id)
            ids = ids[end + 1 :] or ids[:end]
        prompts.append(first_words(tokenizer.decode(ids)))
    return [prompt for prompt in dict.fromkeys(prompts) if prompt] or [tokenizer.decode(held_out[:1].tolist())]


def first_words(text: str) -> str:
    """Return the first three words after the first empty line; else after the first line end, or the first space. Text
    without spaces gives its first ten characters."""
    for end in ("\n\n", "\n", " "):
        if rest := text.partition(end)[2].strip():
            return " ".join(rest.split(maxsplit=3)[:3])[:30]
    return text[:10]


def tokenizer_named(name: str, source: Source, part: float = 1.0) -> Tokenizer:
    """The tokenizer of a fresh decoder: char, bytes, N tokens learned from this part of the texts: bpe:N; or the one at a
    path. char has every character of all texts."""
    if name == "bytes":
        return ByteTokenizer()
    if name == "char":
        return CharacterTokenizer.train(text for text, _ in source.pieces())
    return learned_or_loaded(name, "bpe", lambda size: BPETokenizer.train(beginning(source, part), size), ("char", "bytes"))


class Joined(Source):
    """Several sources, one behind the other."""

    def __init__(self, sources: list[Source]):
        self.sources = sources
        self.name = " + ".join(source.name for source in sources)
        self.notes = "\n".join(source.notes for source in sources if source.notes)

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for source in self.sources:
            yield from source.pieces()

    def fingerprint(self) -> str:
        return "+".join(source.fingerprint() for source in self.sources)


def beginning(source: Source, part: float = 1.0) -> Iterator[str]:
    """The first LEARN_BPE_FROM characters, at most this part of all: a tokenizer does not learn from the test part."""
    room = LEARN_BPE_FROM if part == 1 else min(LEARN_BPE_FROM, int(part * sum(len(text) for text, _ in source.pieces())))
    for text, _ in source.pieces():
        yield text[:room]
        room -= len(text)
        if room <= 0:
            return
