"""`tinyllm embed MODEL TEXT ...`: a vector for each text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..checkpoints.loading import load
from ..files import atomic_file
from ..models.bert import BERTBase
from ..pipelines.embeddings import sentence_embeddings
from .inputs import FromFile, texts_of
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice, FromFile):
    model: Path  # a BERT: a training run, a saved model, or a Hugging Face directory
    text: list[str]  # texts to embed

    # Output
    out: Path | None = None  # a .npy file for the vectors, a row for each text; printed if not given
    normalize: bool = True  # scale each vector to length 1, so that a product is a cosine
    max_length: int | None = None  # longer texts are cut at so many tokens; at the model's own limit if not given
    batch_size: int = 32  # so many texts are computed together

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}, and must be 1 or more")
        if self.out is not None and self.out.suffix != ".npy":
            raise ValueError(f"out is {self.out}, and must end in .npy: the vectors are written as a NumPy array")


EXAMPLES = """
tinyllm embed runs/bert "A dog runs." "A cat sleeps."
tinyllm embed runs/bert --file sentences.txt --out vectors.npy
cat sentences.txt | tinyllm embed runs/bert > vectors.tsv
"""


@command_of(Options, EXAMPLES, name="embed")
def command(options: Options) -> None:
    """Turn texts into vectors: the mean of a BERT's last hidden states over the tokens of each text.

    One line for each text: the numbers of its vector with tabs between them. A blank line has the vector of an empty text.
    """
    texts = texts_of(options, options.text, "texts to embed")
    model, tokenizer = load(options.model, options.device)
    if not isinstance(model, BERTBase):
        raise ValueError(f"{options.model} is a {type(model).__name__}: embeddings come from an encoder such as BERT")
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: use tinyllm.load and the model from Python, with tokens")
    encoder: Any = model
    vectors = sentence_embeddings(encoder, tokenizer, texts, options.batch_size, options.max_length, options.normalize)
    if options.out is not None:
        with atomic_file(options.out) as file:
            np.save(file, vectors)
        click.echo(f"{len(vectors):,} vectors of {vectors.shape[1]:,} numbers: {options.out}", err=True)
        return
    for vector in vectors:
        click.echo("\t".join(f"{number:.6g}" for number in vector.tolist()))
