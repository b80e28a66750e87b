"""`tinyllm merge MODEL OUT`: a model whose LoRA adapters are added to its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from ..checkpoints import lora
from ..checkpoints.loading import load, save
from .options import check_other
from .options import command as command_of


@dataclass
class Options:
    model: Path  # run or model with adapters; or a directory of adapters alone (adapter_config.json), with --base
    out: Path  # directory to write

    base: Path | None = None  # model that adapters on their own belong to: of tinyllm, or a Hugging Face directory


EXAMPLES = """
tinyllm merge runs/gpt-chat-1 chat
tinyllm merge adapter merged --base SmolLM2-135M
tinyllm merge runs/gpt-chat-1 chat && tinyllm quantize chat chat-8
"""


@command_of(Options, EXAMPLES, name="merge")
def command(options: Options) -> None:
    """Add the LoRA adapters of a model to its weights.

    What is written computes the same without adapters. It can be trained as a whole, quantized and exported. The adapters
    may be those of a run of tinyllm (`--lora-r`), or a directory that PEFT or tinyllm.lora.save wrote, with its --base.
    """
    check_other(options.out, options.model, options.base)
    alone = (options.model / lora.CONFIG).is_file()
    if alone != (options.base is not None):
        raise ValueError(
            f"{options.model} holds adapters alone: name the model that they belong to by --base"
            if alone
            else f"--base is for a directory of adapters alone, and {options.model} has no {lora.CONFIG}: leave it out"
        )
    model, tokenizer = load(options.base or options.model)
    if alone:
        lora.load(options.model, model)
    if model.lora is None:
        raise ValueError(f"{options.model} has no adapters: there is nothing to merge")
    adapters = model.n_parameters
    lora.merge(model)
    save(options.out, model, tokenizer)
    click.echo(f"{options.out}: {model.n_parameters:,} parameters, into which {adapters:,} of adapters are merged")
