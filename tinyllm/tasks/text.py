"""The next token of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..data import Batches, Source, cached_tokens, full_pass, open_source, split
from ..generation.decoding import stream
from ..models import Model
from ..tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer
from ..tokenizers.files import TokenizerError
from ..training.config import TrainConfig
from ..training.data import Data
from .task import Task, lasting, learned_or_loaded, listed

LEARN_BPE_FROM = 20_000_000  # characters: more text does not change the merges for the better


@dataclass
class TextTask(Task):
    """The next token of a text: what GPT, Llama and OPT are trained on."""

    # Data
    data: list[str] = field(default_factory=lambda: ["stdlib"])  # text file, folder, data set's name, stdlib, stdlib:docs
    tokenizer: str = "char"  # a token a character: char; a byte: bytes; N learned from the data: bpe:N; or a path
    val_fraction: float = 0.1  # the part of the data, its end, that is held out
    length: int | None = None  # tokens in a training window; the longest that the model takes if not given
    sample_tokens: int = 200  # that the model writes at each evaluation; 0 for none
    sample_prompt: str = "\n"  # what it begins them with; the text's first character if the text has no line end
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
        prompt = known_prompt(tokenizer, self.sample_prompt, tokens)
        return Data(
            batches=Batches(train, config.batch_size, length, config.seed),
            held_out=lambda: full_pass(held_out, config.batch_size, length),
            tokenizer=tokenizer,
            fingerprint=source.fingerprint(),
            sample=(lambda model: self.sample(model, tokenizer, prompt)) if self.sample_tokens else None,
            notes=source.notes,
        )

    def sample(self, model: Model, tokenizer: Tokenizer, prompt: str) -> str:
        """What the model writes now; with the same seed each time, so that one sees it learn."""
        new = stream(model, tokenizer, prompt, self.sample_tokens, temperature=0.6, top_k=200, seed=0)
        return prompt + "".join(new)


def known_prompt(tokenizer: Tokenizer, prompt: str, tokens: np.ndarray) -> str:
    """The prompt; if it is only white space, and the tokenizer does not know that, what the text begins with."""
    try:
        tokenizer.encode(prompt)
    except TokenizerError:
        if prompt.strip():
            raise
        return tokenizer.decode(tokens[:1].tolist())
    return prompt


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
