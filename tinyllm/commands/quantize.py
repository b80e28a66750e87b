"""`tinyllm quantize MODEL OUT`: a model with its matrices in 16, 8 or 4 bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from ..checkpoints.loading import load, save
from ..checkpoints.quantization import quantize
from .options import check_other
from .options import command as command_of


@dataclass
class Options:
    model: Path  # a training run, a model saved by tinyllm, or a Hugging Face directory
    out: Path  # the directory to write

    bits: Literal["16", "8", "4"] = "8"  # of a weight: 16 is bfloat16, 8 nearly the model itself, 4 a little worse


EXAMPLES = """
tinyllm quantize TinyLlama-1.1B TinyLlama-8 && tinyllm chat TinyLlama-8
tinyllm quantize runs/gpt-1 small --bits 4
"""


@command_of(Options, EXAMPLES, name="quantize")
def command(options: Options) -> None:
    """Write a model with its matrices in 16, 8 or 4 bits a number, for less memory and faster texts.

    What is written works as the model did, in every command. It is not trained any more, but for adapters beside it (LoRA).
    GPT, Llama and OPT can be quantized. Embeddings and output keep 8 bits or more.
    """
    check_other(options.out, options.model)
    model, tokenizer = load(options.model)
    before = sum(array.nbytes for array in model.arrays().values())
    quantize(model, int(options.bits))
    after = sum(array.nbytes for array in model.arrays().values())
    save(options.out, model, tokenizer)
    click.echo(f"{options.out}: {after / 1e6:,.1f} MB of weights, {before / 1e6:,.1f} MB in float32 ({after / before:.0%})")
