"""Models on the disk in our own format: safetensors + JSON + the tokenizer's files.

    model.safetensors   the parameters, by name
    config.json         {"tinyllm": {"model": "GPT", "format": 1}, and the fields of its configuration}
    tokenizer.json ...  what the tokenizer saves
    SHA256SUMS          of every file above, as `sha256sum -c` reads it: damage is found before it does harm

A checkpoint of training (training/run.py) is one of these directories with optimizer.safetensors and state.json beside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import tokenizers
from ..models import MODELS, Model
from ..optim import Optimizer
from ..tokenizers import Tokenizer
from . import lora, quantization
from .files import CONFIG, MODEL, CheckpointError, read_json, write_json
from .state import STATE, read_state
from .tensors import read_tensors, write_tensors

FORMAT = 1
OPTIMIZER = "optimizer.safetensors"


def write_model(directory: Path, model: Model, tokenizer: Tokenizer | None) -> None:
    name = type(model).__name__
    if tokenizer is not None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {tokenizer.vocab_size:,} tokens and the model {model.config.vocab_size:,}: "
                "they do not belong together"
            )
        tokenizer.save(directory)
    write_tensors(directory / MODEL, model.arrays())
    about: dict[str, Any] = {"model": name, "format": FORMAT}
    if model.bits is not None:
        about["bits"] = model.bits
    if model.lora is not None:
        about["lora"] = dataclasses.asdict(model.lora)
    write_json(directory / CONFIG, {"tinyllm": about, **dataclasses.asdict(model.config)})


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a directory, as it is."""
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is a file: give the directory of a model")
    if not (directory / CONFIG).is_file():
        raise CheckpointError(f"{directory} has no {CONFIG}: it is no model, neither of tinyllm nor of Hugging Face")
    return read_json(directory / CONFIG)


def read_model(directory: Path, dtype: str = "float32") -> Model:
    """The model alone, in a directory of our own format."""
    model = empty_model(directory, dtype)
    read_parameters(directory, model)
    return model


def read_parameters(directory: Path, model: Model) -> None:
    read_tensors(directory / MODEL, model.arrays())


def empty_model(directory: Path, dtype: str = "float32") -> Model:
    """A model as config.json says, its parameters still zero."""
    fields = read_config(directory)
    about = fields.pop("tinyllm")
    if about["format"] != FORMAT:
        raise CheckpointError(f"{directory} has format {about['format']}, and this tinyllm reads {FORMAT}: update tinyllm")
    if about["model"] not in MODELS:
        raise CheckpointError(f"{directory} holds the model {about['model']!r}; this tinyllm has {', '.join(MODELS)}")
    model_class, config_class = MODELS[about["model"]]
    known = {field.name for field in dataclasses.fields(config_class)}
    if unknown := sorted(set(fields) - known):
        raise CheckpointError(f"{directory / CONFIG} sets {', '.join(unknown)}, which {config_class.__name__} does not have")
    model = model_class(config_class(**fields), seed=None, dtype=dtype)
    if "bits" in about:
        quantization.prepare(model, about["bits"])
    if "lora" in about:
        lora.add(model, lora.LoRAConfig(**about["lora"]), seed=None)
    return model


def read_tokenizer(directory: Path) -> Tokenizer | None:
    if not (directory / "tokenizer.json").is_file():
        return None
    return tokenizers.load(directory)


def write_training(directory: Path, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The optimizer's moments by parameter name, and everything else that training must know to go on."""
    write_tensors(directory / OPTIMIZER, optimizer.moments())
    write_json(directory / STATE, {**state, "optimizer_steps": optimizer.steps})


def read_training(directory: Path, optimizer: Optimizer) -> dict[str, Any]:
    """Fills the optimizer -> the state that was saved with it."""
    state = dataclasses.asdict(read_state(directory))
    read_tensors(directory / OPTIMIZER, optimizer.moments())
    optimizer.steps = state["optimizer_steps"]
    return state
