"""The next token of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..data import Batches, Source, cached_tokens, full_pass, open_source, split
from ..generation.decoding import stream
from ..models import Model
from ..tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer, TokenizerError
from ..training.config import TrainConfig
from ..training.data import Data
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
        self.data = [lasting(name) for name in listed(self.data)]

    def source(self) -> Source:
        sources = [open_source(name, encoding=self.encoding) for name in self.data]
        return sources[0] if len(sources) == 1 else Joined(sources)

    def make_tokenizer(self) -> Tokenizer:
        return tokenizer_named(self.tokenizer, self.source())

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.length or model.max_length
        if length > model.max_length:
            raise ValueError(f"length {length} is more than this model takes, {model.max_length}")
        source = self.source()
        tokens = cached_tokens(source, tokenizer, tokenizer.eos_id)
        train, held_out = split(tokens, self.val_fraction, tokenizer.eos_id)
        prompts = prompts_of(held_out, tokenizer) if self.sample_prompt is None else [self.sample_prompt]
        try:
            tokenizer.encode(self.sample_prompt or "")
        except TokenizerError as error:
            raise ValueError(f"sample_prompt: {error}") from None
        return Data(
            batches=Batches(train, config.batch_size, length, config.seed),
            held_out=lambda: full_pass(held_out, config.batch_size, length),
            tokenizer=tokenizer,
            fingerprint=source.fingerprint(),
            sample=(lambda model: self.sample(model, tokenizer, prompts)) if self.sample_tokens else None,
            notes=source.notes,
        )

    def sample(self, model: Model, tokenizer: Tokenizer, prompts: list[str]) -> str:
        """Return what the model writes after each prompt, under a heading. The seed is always the same, so that a reader
        sees the model learn."""
        samples = []
        for i, prompt in enumerate(prompts):
            new = stream(model, tokenizer, prompt, self.sample_tokens, temperature=0.5, top_k=50, top_p=0.9, seed=0)
            samples.append(f"sample {i + 1} of {len(prompts)}: {prompt.strip()}\n{prompt}{''.join(new)}")
        return "\n\n".join(samples)


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


def tokenizer_named(name: str, source: Source) -> Tokenizer:
    """The tokenizer of a fresh decoder: char, bytes, N tokens learned from these texts: bpe:N; or the one at a path."""
    if name == "bytes":
        return ByteTokenizer()
    if name == "char":
        return CharacterTokenizer.train(text for text, _ in source.pieces())
    return learned_or_loaded(name, "bpe", lambda size: BPETokenizer.train(beginning(source), size), ("char", "bytes"))


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


def beginning(source: Source) -> Iterator[str]:
    """The first LEARN_BPE_FROM characters."""
    room = LEARN_BPE_FROM
    for text, _ in source.pieces():
        yield text[:room]
        room -= len(text)
        if room <= 0:
            return
