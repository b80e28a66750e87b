"""Models on the disk in our own format: safetensors + JSON + the tokenizer's files.

    model.safetensors   the parameters, by name
    config.json         {"tinyllm": {"model": "GPT", "format": 1}, and the fields of its configuration}
    tokenizer.json ...  what the tokenizer saves
    SHA256SUMS          of every file above, as `sha256sum -c` reads it: damage is found before it does harm

The formats of others have no checksums: Hugging Face's, PEFT's and llama2.c's. There the header and all sizes are checked,
and a flipped bit among the weights is not found.

A checkpoint of training (training/run.py) is one of these directories with optimizer.safetensors and state.json beside.
Where weights are averaged (optim/averaging.py), model.safetensors has their mean and average.safetensors the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import tokenizers
from ..files import short
from ..models import MODELS, Model
from ..optim import Average, Optimizer, average_named
from ..tokenizers import Tokenizer
from . import quantization
from .files import AVERAGE, CONFIG, MODEL, OPTIMIZER, STATE, CheckpointError, checked, read_json, write_json
from .lora import LoRAConfig
from .lora import add as add_adapters
from .sizes import check_sizes, room_for
from .state import read_state
from .tensors import TensorFile, read_tensors, write_tensors

FORMAT = 1


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
    model.changed()


@dataclass
class About:
    """The entry "tinyllm" of config.json."""

    model: str  # the class
    format: int
    bits: int | None = None  # of the matrices, if they are quantized
    lora: dict[str, Any] | None = None  # the configuration of the adapters, if there are any


def empty_model(directory: Path, dtype: str = "float32") -> Model:
    """A model as config.json says, its parameters still zero."""
    path, fields = directory / CONFIG, read_config(directory)
    about, known = fields.pop("tinyllm"), {field.name for field in dataclasses.fields(About)}
    if not isinstance(about, dict) or not {"model", "format"} <= set(about) <= known:
        raise CheckpointError(f'{path}: "tinyllm" is {short(about)}; expected an object with {", ".join(sorted(known))}')
    said = About(**checked(path, about, About))
    if said.format != FORMAT:
        raise CheckpointError(f"{directory} has format {said.format}, and this tinyllm reads {FORMAT}: update tinyllm")
    if said.model not in MODELS:
        raise CheckpointError(f"{directory} holds the model {short(said.model)}; this tinyllm has {', '.join(MODELS)}")
    model_class, config_class = MODELS[said.model]
    _check_names(path, fields, config_class)
    _check_names(path, said.lora or {}, LoRAConfig)
    files = [TensorFile(directory / MODEL)]
    check_sizes(path, {**fields, **(said.lora or {})}, files)
    with room_for(path, files):
        model = model_class(config_class(**checked(path, fields, config_class)), seed=None, dtype=dtype)
        if said.bits is not None:
            quantization.prepare(model, said.bits)
        if said.lora is not None:
            add_adapters(model, LoRAConfig(**checked(path, said.lora, LoRAConfig)), seed=None)
    return model


def _check_names(path: Path, fields: Mapping[str, Any], kind: Any) -> None:
    if unknown := sorted(set(fields) - {field.name for field in dataclasses.fields(kind)}):
        raise CheckpointError(f"{path} sets {', '.join(unknown)[:60]}, which {kind.__name__} does not have")


def read_tokenizer(directory: Path) -> Tokenizer | None:
    if not (directory / "tokenizer.json").is_file():
        return None
    return tokenizers.load(directory)


def write_training(directory: Path, optimizer: Optimizer, state: Mapping[str, Any], average: Average | None = None) -> None:
    """The optimizer's moments by parameter name, and everything else that training must know to go on."""
    write_tensors(directory / OPTIMIZER, optimizer.moments())
    state = {**state, "optimizer_steps": optimizer.steps}
    if average is not None and (arrays := average.arrays()):
        write_tensors(directory / AVERAGE, arrays)
        state["average"] = {"name": average.name, "count": average.count, "evaluated": average.evaluated}
    write_json(directory / STATE, state)


def read_training(directory: Path, optimizer: Optimizer, average: Average | None = None) -> dict[str, Any]:
    """Fills the optimizer and the average -> the state that was saved with them."""
    state = dataclasses.asdict(read_state(directory))
    read_tensors(directory / OPTIMIZER, optimizer.moments())
    optimizer.steps = state["optimizer_steps"]
    if average is not None and state["average"]:
        read_average(directory, average, state["average"])
    return state


def read_average(directory: Path, average: Average, saved: Mapping[str, Any]) -> None:
    """Puts back the weights themselves in place of their mean; and the mean, if it is of the same kind as the saved one."""
    try:
        same = saved["name"] == average.name
        filled = average if same else average_named(saved["name"], average.model)
    except ValueError as error:
        raise CheckpointError(f"{directory / STATE}: {error}; the file is damaged, or of another version") from None
    read_tensors(directory / AVERAGE, filled.arrays())
    filled.count, filled.evaluated = saved["count"], saved["evaluated"]
    average.model.changed()
