"""Hugging Face checkpoints, both ways: one reader and one writer for all the families of models in families/.

A directory holds config.json; model.safetensors, or several files with model.safetensors.index.json beside them; and the
tokenizer's files. Every value of config.json is honoured, refused by name, or known to change nothing that is computed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import tokenizers
from ..kernels.device import check_device, to_host
from ..models import MODELS, Model
from ..tokenizers import Tokenizer
from ..tokenizers.loading import READERS
from .families import FAMILIES, FIXED, UNUSED, Family, Named
from .files import CONFIG, MODEL, CheckpointError, read_json, write_json
from .tensors import TensorFile, write_tensors

INDEX, GENERATION = "model.safetensors.index.json", "generation_config.json"


def family_of(model: Model) -> Family:
    """The table of a model's class and configuration; ValueError where it has none."""
    name = type(model).__name__
    of_its_class = [family for family in FAMILIES if name in family.architectures.values()]
    for family in of_its_class:
        if family.holds(model.config):
            return family
    why = f", as {model.config} is none of {', '.join(f.model_type for f in of_its_class)}" if of_its_class else ""
    raise ValueError(f"{name} has no counterpart in transformers that tinyllm knows of{why}")


# Weights ---------------------------------------------------------------------------------------------------------------


def state_dict(model: Model, grads: bool = False) -> dict[str, np.ndarray]:
    """Parameters by Hugging Face's names and in its layouts; grads: their gradients, named alike.

    The arrays are copies, in the model's dtype. A tied weight stands under each of its names. GPT2LMHeadModel always has
    biases: for a GPT without them, zeros stand in their place, which compute the same.
    """
    return {name: array.copy() for name, array in _tensors(model, grads)}


def _tensors(model: Model, grads: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """(their name, a view of our array in their layout) of each tensor of theirs."""
    if model.lora is not None:
        raise ValueError("the model has adapters: merge them first (lora.merge), or save them alone (lora.save)")
    if model.bits is not None:
        raise ValueError(
            f"the model is quantized to {model.bits} bits, which Hugging Face's files do not hold as tinyllm does"
        )
    family, names = family_of(model), {name for name, _ in model.named_parameters()}
    again = {first: name for name, first in family.same(model.config).items()}
    prefix = family.prefix if type(model).__name__ == family.base else ""
    for name, parameter in model.named_parameters():
        layer = next(layer for layer in family.layers if layer.names(name))
        array = to_host(parameter.grad if grads else parameter.data)
        for their_name, part in _parts(layer, layer.names(name), array, model.config):
            yield their_name.removeprefix(prefix), part
            if their_name in again:
                yield again[their_name], part
        if layer.bias and name.endswith(".w") and (bias := name[:-1] + "b") not in names:
            yield from _parts(layer, layer.names(bias), np.zeros(len(array), array.dtype), model.config)


def _parts(layer: Named, names: list[str], array: np.ndarray, config: Any) -> Iterator[tuple[str, np.ndarray]]:
    shares = [1] * len(names) if layer.shares is None else layer.shares(config)
    ends = np.cumsum(shares) * (len(array) // sum(shares))
    for number, (name, part) in enumerate(zip(names, np.split(array, ends[:-1]))):
        part = layer.rows(part, number, config)
        yield name, part.T if layer.transposed else part


def _tied(model: Model) -> dict[str, str]:
    """The further names of tied weights -> their first one, in their spelling."""
    family = family_of(model)

    def theirs(name: str) -> str:
        return next(names[0] for layer in family.layers if (names := layer.names(name)))

    tied = {theirs(name): theirs(p.name) for name, p in model.named_parameters() if name != p.name}
    names = {name for name, _ in _tensors(model)}
    return tied | {name: first for name, first in family.same(model.config).items() if name in names}


def _read_weights(directory: Path, model: Model) -> None:
    """Fills the model from the directory's files, tensor by tensor; one error names what does not fit."""
    family, tied, places = family_of(model), _tied(model), dict(_tensors(model))
    found: dict[str, tuple[TensorFile, str]] = {}  # our spelling of their name -> where it is
    problems: list[str] = []
    for file in map(TensorFile, _weight_files(directory)):
        for written, entry in file.entries.items():
            now = _newer(written, family)
            name = next((n for n in (now, family.prefix + now, now.removeprefix(family.prefix)) if n in places), None)
            if name is not None:
                found[name] = file, written
                if entry.shape != places[name].shape:
                    problems.append(f"{written} has shape {entry.shape}, not {places[name].shape}")
            elif not any(re.fullmatch(pattern, now.removeprefix(family.prefix)) for pattern in family.ignored):
                problems.append(f"{written} is unexpected")
    present = {tied.get(name, name) for name in found}
    problems += [f"{name} is missing" for name in places if tied.get(name, name) not in present]
    if problems:
        more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError(f"the weights in {directory} do not fit its {CONFIG}: {', '.join(problems[:4])}{more}")
    done: set[str] = set()
    for name, (file, written) in found.items():
        if (first := tied.get(name, name)) not in done:
            file.read(written, places[name])
            done.add(first)
        elif not file.equals(written, places[name]):
            raise CheckpointError(
                f"{directory / CONFIG} ties {name} to {first}, but the files hold two different tensors: "
                "set tie_word_embeddings to false in it"
            )


def _newer(name: str, family: Family) -> str:
    """A tensor's name as it is today."""
    for before, now in family.older:
        if name.endswith(before):
            return name.removesuffix(before) + now
    return name


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a directory, checked to be those that its index names."""
    if (directory / MODEL).is_file():
        return [directory / MODEL]
    if (directory / INDEX).is_file():
        where = read_json(directory / INDEX).get("weight_map")
        if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
            raise CheckpointError(f"{directory / INDEX} has no weight_map: it is damaged, or of another kind")
        return [directory / Path(name).name for name in sorted(set(where.values()))]
    if pickled := sorted(directory.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{pickled[0]} is a pickle, which can run any code and is never opened here: convert it once with "
            "AutoModelForCausalLM.from_pretrained(path).save_pretrained(path), which writes safetensors"
        )
    raise CheckpointError(f"{directory} has no weights: neither {MODEL} nor {INDEX}")


# Configurations --------------------------------------------------------------------------------------------------------


def _read_config(directory: Path) -> tuple[Callable[..., Model], Any]:
    """config.json -> our class and its configuration; one error names what we do not compute."""
    path, theirs = directory / CONFIG, read_json(directory / CONFIG)
    family = next((family for family in FAMILIES if family.model_type == theirs.get("model_type")), None)
    if family is None:
        known = ", ".join(family.model_type for family in FAMILIES)
        raise CheckpointError(f"{path} has the model_type {theirs.get('model_type')!r}; tinyllm reads {known}")
    architectures = theirs.get("architectures") or list(family.architectures)
    name = next((family.architectures[name] for name in architectures if name in family.architectures), None)
    if name is None:
        known = ", ".join(family.architectures)
        raise CheckpointError(f"{path} has the architecture {architectures[0]!r}; tinyllm reads {known}")
    tensors = {_newer(name, family) for file in map(TensorFile, _weight_files(directory)) for name in file.entries}
    try:
        read = {**family.read(theirs), **family.stored(theirs, tensors)}
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    changed: set[str] = set()  # by generation_config.json
    if (directory / GENERATION).is_file():  # where it is, transformers' generate goes by it
        generation = read_json(directory / GENERATION)
        theirs |= {key: generation.get(key) for key in ("eos_token_id", "pad_token_id")}
        if "decoder_start_token_id" in generation:
            theirs["decoder_start_token_id"] = generation["decoder_start_token_id"]
        changed = {"eos_token_id", "pad_token_id", "decoder_start_token_id"} & set(generation)
    model_class, config_class = MODELS[name]
    try:
        return model_class, config_class(**{**_fields(theirs, family, config_class), **read})
    except (ValueError, ZeroDivisionError) as error:
        blamed = directory / GENERATION if any(key in str(error) for key in changed) else path
        raise CheckpointError(f"{blamed}: {error}") from None


def _fields(theirs: Mapping[str, Any], family: Family, config_class: Any) -> dict[str, Any]:
    """The fields of our configuration from those of theirs; ValueError names a value that we do not compute."""
    hints = typing.get_type_hints(config_class)
    fixed = {**FIXED, **family.fixed}
    fields, names = dict(family.defaults), {**family.aliases, **family.renamed}
    for key, value in theirs.items():
        ours = names.get(key, key)
        if ours in hints and ours not in family.ours_alone:
            if not _is_a(value, hints[ours]):
                raise ValueError(f"{key} is {value!r}, which it cannot be")
            fields[ours] = value
        elif key in fixed:
            if value not in fixed[key]:
                raise ValueError(f"{key} is {value!r}, which tinyllm does not compute (but {fixed[key][0]!r})")
        elif value and key not in UNUSED and key not in family.unused:
            warnings.warn(f"config.json sets {key}, which is not known here, and ignored", stacklevel=5)
    return fields


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a JSON value is what a field's type says."""
    if isinstance(hint, types.UnionType):
        return any(_is_a(value, inside) for inside in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(_is_a(item, typing.get_args(hint)[0]) for item in value)
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _config(model: Model, family: Family, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """A model's config.json."""
    architecture = next(name for name, ours in family.architectures.items() if ours == type(model).__name__)
    names = {ours: theirs for theirs, ours in family.renamed.items()}
    fields = {key: value for key, value in dataclasses.asdict(model.config).items() if key not in family.ours_alone}
    fields = {key: "gelu_new" if value == "gelu_tanh" else value for key, value in fields.items()}
    fields = {**{names.get(key, key): value for key, value in fields.items()}, **family.write(model)}
    for role in ("bos", "eos", "pad"):  # always written: their default may lie outside of the vocabulary
        chosen = fields.get(f"{role}_token_id")
        fields[f"{role}_token_id"] = getattr(tokenizer, f"{role}_id", None) if chosen is None else chosen
    return {
        "architectures": [architecture],
        "model_type": family.model_type,
        **{key: fields[key] for key in sorted(fields)},
        "torch_dtype": str(model.dtype),
    }


# Directories -----------------------------------------------------------------------------------------------------------


def load(path: str | Path, device: str = "cpu", dtype: str = "float32") -> tuple[Model, Tokenizer | None]:
    """The model in a directory that transformers' save_pretrained wrote, and its tokenizer, or None where it has none.

    Weights in float16, bfloat16, float32 or float64 become `dtype`. Beside the model, memory holds a piece of one tensor.
    CheckpointError (a ValueError) where the directory is not whole, or needs what tinyllm does not compute.
    """
    directory = Path(path)
    check_device(device)
    model_class, config = _read_config(directory)
    try:
        model = model_class(config, seed=None, dtype=dtype)
    except ValueError as error:
        raise CheckpointError(f"{directory / CONFIG}: {error}") from None
    _read_weights(directory, model)
    return model.to(device), _read_tokenizer(directory)


def save(path: str | Path, model: Model, tokenizer: Tokenizer | None = None) -> None:
    """Writes a directory that transformers' from_pretrained reads, its tokenizer too; what was in these files is replaced.

    A GPT without biases gets biases of zero, which compute the same: GPT2LMHeadModel has no other way.
    """
    directory, family, tied = Path(path), family_of(model), _tied(model)
    if (directory / CONFIG).is_file() and "tinyllm" in read_json(directory / CONFIG):
        raise CheckpointError(f"{directory} holds a model in tinyllm's own format: choose another name, or remove it first")
    with replacing(directory) as temporary:
        same = family.same(model.config)  # written under all their names: which one is read depends on the version
        tensors = {name: array for name, array in _tensors(model) if name not in tied or name in same}
        write_tensors(temporary / MODEL, tensors, format="pt")
        write_json(temporary / CONFIG, _config(model, family, tokenizer))
        if tokenizer is not None:
            tokenizer.save(temporary)


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A temporary folder: when the block ends well, its files, flushed to the disk, take their places in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=directory) as name:
        temporary = Path(name)
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        for file in temporary.iterdir():
            file.replace(directory / file.name)


def _read_tokenizer(directory: Path) -> Tokenizer | None:
    return tokenizers.load(directory) if any((directory / name).is_file() for name in READERS) else None
