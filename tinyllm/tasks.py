"""What can be trained: for each kind of model its data, its presets, and what they are learned for.

A new kind is an entry of KINDS; data of another sort is a dataclass like TextTask, whose fields become options.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from .data import DATASETS, Batches, Source, cached_tokens, full_pass, open_source, split
from .models import Model
from .tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer, load
from .trainer import Data, TrainConfig

LEARN_BPE_FROM = 20_000_000  # characters: more text does not change the merges for the better


@dataclass
class Kind:
    """What `tinyllm train KIND` trains."""

    help: str
    model: str  # its class in MODELS
    task: type[TextTask]
    presets: dict[str, dict[str, Any]]  # name -> values of options, for a fresh model; the first is the default
    finetune: dict[str, Any]  # values of options where a trained model goes on
    together: dict[str, tuple[str, ...]] = field(default_factory=dict)  # option -> the configuration's fields that it sets


@dataclass
class TextTask:
    """The next token of a text: what GPT, Llama and OPT are trained on."""

    # Data
    data: list[str] = field(default_factory=lambda: ["stdlib"])  # text file, folder, data set's name, stdlib, stdlib:docs
    tokenizer: str = "char"  # a token a character: char; a byte: bytes; N learned from the data: bpe:N; or a path
    val_fraction: float = 0.1  # the part of the data, its end, that is held out
    length: int | None = None  # tokens in a training window; the longest that the model takes if not given
    sample_tokens: int = 200  # that the model writes at each evaluation; 0 for none
    sample_prompt: str = "\n"  # what it begins them with

    sets: ClassVar = ("vocab_size", "eos_token_id", "pad_token_id")  # of the model's configuration: no options

    def __post_init__(self) -> None:
        names = [self.data] if isinstance(self.data, (str, Path)) else self.data
        self.data = [_lasting(name) for name in names]

    def source(self) -> Source:
        sources = [open_source(name) for name in self.data]
        return sources[0] if len(sources) == 1 else Joined(sources)

    def make_tokenizer(self) -> Tokenizer:
        if self.tokenizer == "bytes":
            return ByteTokenizer()
        if self.tokenizer == "char":
            return CharacterTokenizer.train(text for text, _ in self.source().pieces())
        kind, _, size = self.tokenizer.partition(":")
        if kind == "bpe":
            if not size.isdecimal():
                raise ValueError(f"tokenizer {self.tokenizer!r}: how many tokens? bpe:4096 has 4096")
            return BPETokenizer.train(_beginning(self.source()), int(size))
        if not Path(self.tokenizer).exists():
            raise ValueError(f"tokenizer {self.tokenizer!r}: it is neither char, bytes nor bpe:N, and no such path exists")
        return load(self.tokenizer)

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """What the data say of the model's configuration."""
        return {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        """The batches for this model."""
        length = self.length or model.max_length
        if length > model.max_length:
            raise ValueError(f"length {length} is more than this model takes, {model.max_length}")
        source = self.source()
        tokens = cached_tokens(source, tokenizer, tokenizer.eos_id)
        train, held_out = split(tokens, self.val_fraction, tokenizer.eos_id)
        return Data(
            batches=Batches(train, config.batch_size, length, config.seed),
            held_out=lambda: full_pass(held_out, config.batch_size, length),
            tokenizer=tokenizer,
            fingerprint=source.fingerprint(),
            sample=(lambda model: self.sample(model, tokenizer)) if self.sample_tokens else None,
        )

    def sample(self, model: Model, tokenizer: Tokenizer) -> str:
        """What the model writes now; with the same seed each time, so that one sees it learn."""
        from .generate import stream

        new = stream(model, tokenizer, self.sample_prompt, self.sample_tokens, temperature=0.6, top_k=200, seed=0)
        return self.sample_prompt + "".join(new)


class Joined(Source):
    """Several sources, one behind the other."""

    def __init__(self, sources: list[Source]):
        self.sources = sources
        self.name = " + ".join(source.name for source in sources)

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for source in self.sources:
            yield from source.pieces()

    def fingerprint(self) -> str:
        return "+".join(source.fingerprint() for source in self.sources)


def _lasting(name: str | Path) -> str:
    """The name of data as a run keeps it: a path in full, since it may be resumed from another folder."""
    is_name = isinstance(name, str) and (name.partition(":")[0] == "stdlib" or name in DATASETS)
    return str(name) if is_name or not Path(name).exists() else str(Path(name).resolve())


def _beginning(source: Source) -> Iterator[str]:
    """The first LEARN_BPE_FROM characters."""
    room = LEARN_BPE_FROM
    for text, _ in source.pieces():
        yield text[:room]
        room -= len(text)
        if room <= 0:
            return


# nanoGPT's settings for small models, and those of a model that trains in some two minutes on two cores
SMALL = {"betas": (0.9, 0.99), "weight_decay": 0.1, "clip": 1.0, "warmup": 100, "eval_every": 250, "eval_batches": 20}
QUICK = {**SMALL, "tokenizer": "bpe:1024", "batch_size": 12, "steps": 1500, "lr": 3e-3}
# as nanoGPT goes on from GPT-2's weights
FINETUNE = {
    "batch_size": 1, "accumulate": 32, "steps": 100, "lr": 3e-5, "schedule": "constant", "warmup": 10,
    "eval_every": 25, "eval_batches": 20,
}  # fmt: skip
KINDS = {
    "gpt": Kind(
        help="GPT-2 (Radford et al. 2019): writes text, a token at a time.",
        model="GPT",
        task=TextTask,
        together={"dropout": ("embd_pdrop", "attn_pdrop", "resid_pdrop")},
        presets={
            # some two minutes on two cores: 0.9 million parameters, pieces of words
            "quick": {
                **QUICK, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 128, "bias": False, "dropout": 0.0,
            },
            # nanoGPT's configuration for a laptop: 0.8 million parameters
            "nano": {
                **SMALL, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 64, "bias": False, "dropout": 0.0,
                "batch_size": 12, "steps": 2000, "lr": 1e-3,
            },
            # nanoGPT's "baby" for a GPU: 10.6 million parameters
            "baby": {
                **SMALL, "n_layer": 6, "n_head": 6, "n_embd": 384, "n_positions": 256, "bias": False, "dropout": 0.2,
                "batch_size": 64, "steps": 5000, "lr": 1e-3,
            },
            # GPT-2 small, 124 million parameters, trained as nanoGPT does
            "gpt2": {
                "dropout": 0.0, "tokenizer": "bpe:50257", "batch_size": 12, "accumulate": 40, "steps": 600_000,
                "lr": 6e-4, "warmup": 2000, "betas": (0.9, 0.95), "eval_every": 1000, "eval_batches": 200,
            },
        },
        finetune=FINETUNE,
    ),
    "llama": Kind(
        help="LLaMA (Touvron et al. 2023): writes text, as most open models do today.",
        model="Llama",
        task=TextTask,
        presets={
            # some two minutes on two cores: 0.9 million parameters, two query heads to each key/value head
            "quick": {
                **QUICK, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128,
                "intermediate_size": 352, "max_position_embeddings": 128, "tie_word_embeddings": True,
            },
            # llama2.c's model of 15 million parameters, which tells small stories
            "stories15M": {
                **SMALL, "tokenizer": "bpe:4096", "num_hidden_layers": 6, "num_attention_heads": 6, "hidden_size": 288,
                "intermediate_size": 768, "max_position_embeddings": 256, "tie_word_embeddings": True,
                "batch_size": 32, "steps": 20_000, "lr": 5e-4, "betas": (0.9, 0.95), "warmup": 1000,
            },
        },
        finetune=FINETUNE,
    ),
    "opt": Kind(
        help="OPT (Zhang et al. 2022): GPT-3's network in the open; to pretrain and fine-tune.",
        model="OPT",
        task=TextTask,
        presets={
            # some two minutes on two cores: 0.9 million parameters
            "quick": {
                **QUICK, "num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 128, "ffn_dim": 512,
                "max_position_embeddings": 128, "dropout": 0.0,
            },
            # OPT-125M
            "125m": {
                "tokenizer": "bpe:50265", "batch_size": 8, "accumulate": 60, "steps": 600_000, "lr": 6e-4, "warmup": 2000,
                "betas": (0.9, 0.95), "schedule": "linear", "eval_every": 1000, "eval_batches": 200,
            },
        },
        finetune=FINETUNE,
    ),
}  # fmt: skip
