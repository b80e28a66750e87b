"""`tinyllm export MODEL OUT`: a model as a Hugging Face directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from ..checkpoints import huggingface, lora
from ..checkpoints.loading import load
from .options import check_other
from .options import command as command_of


@dataclass
class Options:
    model: Path  # training run, or a model saved by tinyllm
    out: Path  # directory to write


EXAMPLES = """
tinyllm export runs/gpt-1 my-gpt
python -c "import transformers; print(transformers.pipeline('text-generation', 'my-gpt')('To be'))"
"""


@command_of(Options, EXAMPLES, name="export")
def command(options: Options) -> None:
    """Write a model as a directory that transformers' from_pretrained reads: weights, configuration and tokenizer.

    Adapters (LoRA) are merged into the weights. A quantized model cannot be exported: export the one that it was made from.
    """
    check_other(options.out, options.model)
    model, tokenizer = load(options.model)
    if model.bits is not None:
        raise ValueError(f"{options.model} has {model.bits} bits a weight: export the model that it was quantized from")
    merged = model.lora is not None
    if merged:
        lora.merge(model)
    huggingface.save(options.out, model, tokenizer)
    rest = f"{', adapters merged' if merged else ''}{', without a tokenizer' if tokenizer is None else ''}"
    click.echo(f"{options.out}: {type(model).__name__}, {model.n_parameters:,} parameters{rest}")
