"""Hugging Face checkpoints, both ways: one reader and one writer for all the families of models in families/.

A directory holds config.json; model.safetensors, or several files with model.safetensors.index.json beside them; and the
tokenizer's files. Every value of config.json is honoured, refused by name, or known to change nothing that is computed.
"""

from __future__ import annotations

import dataclasses
import re
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import tokenizers
from ..files import short
from ..generation.chat import chat_format
from ..kernels.device import check_device, to_host
from ..models import MODELS, Model
from ..tokenizers import Tokenizer
from ..tokenizers.loading import READERS
from .families import FAMILIES, FIXED, UNUSED, Family, Named
from .files import (
    CONFIG,
    MODEL,
    CheckpointError,
    checked,
    checked_value,
    complete_directory,
    present,
    read_json,
    tokenizer_files,
    write_json,
)
from .sizes import check_sizes, room_for
from .tensors import TensorFile, write_tensors

INDEX, GENERATION = "model.safetensors.index.json", "generation_config.json"


@dataclass
class Index:
    """What is read of model.safetensors.index.json."""

    weight_map: dict[str, str]  # tensor -> file


@dataclass
class Generation:
    """What is read of generation_config.json."""

    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    decoder_start_token_id: int


@dataclass
class Common:
    """What is read of any family's config.json beside the fields of our configurations."""

    model_type: str
    architectures: list[str] | None
    id2label: dict[str, str] | None
    label2id: dict[str, int] | None
    use_sliding_window: bool | None
    max_window_layers: int | None
    feed_forward_proj: str
    dense_act_fn: str | None
    is_gated_act: bool


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


def _read_weights(directory: Path, files: Sequence[TensorFile], model: Model) -> None:
    """Fills the model from the directory's files, tensor by tensor; one error names what does not fit."""
    family, tied, places = family_of(model), _tied(model), dict(_tensors(model))
    found: dict[str, tuple[TensorFile, str]] = {}  # our spelling of their name -> where it is
    problems: list[str] = []
    for file in files:
        for written, entry in file.entries.items():
            now = _newer(written, family)
            name = next((n for n in (now, family.prefix + now, now.removeprefix(family.prefix)) if n in places), None)
            if name in found:
                problems.append(f"{written} is there twice")
            elif name is not None:
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
        where = checked(directory / INDEX, read_json(directory / INDEX), Index).get("weight_map")
        if not where:
            raise CheckpointError(f"{directory / INDEX} has no weight_map: it is damaged, or of another kind")
        if unusual := [name for name in where.values() if name != Path(name).name or not name.endswith(".safetensors")]:
            raise CheckpointError(
                f"{directory / INDEX}: weight_map has the file {short(unusual[0])}; expected *.safetensors"
            )
        return [directory / name for name in sorted(set(where.values()))]
    if pickled := sorted(directory.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{pickled[0]} is a pickle, which can run any code and is never opened here: convert it once with "
            "AutoModelForCausalLM.from_pretrained(path).save_pretrained(path), which writes safetensors"
        )
    raise CheckpointError(f"{directory} has no weights: neither {MODEL} nor {INDEX}")


# Configurations --------------------------------------------------------------------------------------------------------


def _read_config(directory: Path, files: Sequence[TensorFile]) -> tuple[Callable[..., Model], Any]:
    """config.json -> our class and its configuration; one error names what we do not compute."""
    path = directory / CONFIG
    theirs = read_json(path)
    theirs |= checked(path, theirs, Common)
    family = next((family for family in FAMILIES if family.model_type == theirs.get("model_type")), None)
    if family is None:
        known = ", ".join(family.model_type for family in FAMILIES)
        raise CheckpointError(f"{path} has the model_type {short(theirs.get('model_type'))}; tinyllm reads {known}")
    architectures = theirs.get("architectures") or list(family.architectures)
    name = next((family.architectures[name] for name in architectures if name in family.architectures), None)
    if name is None:
        known = ", ".join(family.architectures)
        raise CheckpointError(f"{path} has the architecture {short(architectures[0])}; tinyllm reads {known}")
    check_sizes(path, theirs, files)
    model_class, config_class = MODELS[name]
    tensors = {_newer(name, family) for file in files for name in file.entries}
    with room_for(path, files):
        fields = _fields(path, theirs, family, config_class)
        fields |= {**family.read(theirs), **family.stored(theirs, tensors)}
        fields = checked(path, fields, config_class) | _ends(directory / GENERATION, config_class)
        return model_class, config_class(**fields)


def _ends(path: Path, config_class: Any) -> dict[str, Any]:
    """The fields of ours in generation_config.json: where it is, transformers' generate goes by it."""
    if not path.is_file():
        return {}
    generation = checked(path, read_json(path), Generation)
    fields = {"eos_token_id": None, "pad_token_id": None, **generation}
    return {name: value for name, value in fields.items() if name in typing.get_type_hints(config_class)}


def _fields(path: Path, theirs: Mapping[str, Any], family: Family, config_class: Any) -> dict[str, Any]:
    """The fields of our configuration from those of theirs; ValueError names a value that we do not compute."""
    hints = typing.get_type_hints(config_class)
    fixed = {**FIXED, **family.fixed}
    fields, names = dict(family.defaults), {**family.aliases, **family.renamed}
    given: dict[str, str] = {}  # our field -> the name by which the file sets it
    for key, value in theirs.items():
        ours = names.get(key, key)
        if ours in hints and ours not in family.ours_alone:
            if theirs[given.setdefault(ours, key)] != value:
                raise ValueError(
                    f"{given[ours]} is {theirs[given[ours]]!r} and {key} is {value!r}, two names of one field: "
                    "remove the wrong one"
                )
            fields[ours] = checked_value(path, key, value, hints[ours])
        elif key in fixed:
            if value not in fixed[key]:
                raise ValueError(f"{key} is {value!r}, which tinyllm does not compute (but {fixed[key][0]!r})")
        elif value and key not in UNUSED and key not in family.unused:
            warnings.warn(f"config.json sets {key}, which is not known here, and ignored", stacklevel=5)
    return fields


def _config(model: Model, family: Family, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """A model's config.json."""
    architecture = next(name for name, ours in family.architectures.items() if ours == type(model).__name__)
    names = {ours: theirs for theirs, ours in family.renamed.items()}
    fields = {key: value for key, value in dataclasses.asdict(model.config).items() if key not in family.ours_alone}
    fields = {
        key: value.replace("gelu_tanh", "gelu_new") if isinstance(value, str) else value for key, value in fields.items()
    }
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
    directory = present(Path(path))
    check_device(device)
    files = [TensorFile(file) for file in _weight_files(directory)]
    model_class, config = _read_config(directory, files)
    with room_for(directory / CONFIG, files):
        model = model_class(config, seed=None, dtype=dtype)
    _read_weights(directory, files, model)
    return model.to(device), _read_tokenizer(directory)


def save(path: str | Path, model: Model, tokenizer: Tokenizer | None = None) -> None:
    """Writes a directory that transformers' from_pretrained reads, with generation_config.json if the tokenizer has a chat
    format.

    The directory is swapped in as a whole: a kill leaves the old one or the new one. An older export in it is replaced, but
    its tokenizer stays if none is given, and so do all other files. A GPT without biases gets biases of zero, which compute
    the same: GPT2LMHeadModel has no other way. Hugging Face's format has no checksums.
    """
    directory, family, tied = Path(path), family_of(model), _tied(model)
    if (directory / CONFIG).is_file() and "tinyllm" in read_json(directory / CONFIG):
        raise CheckpointError(f"{directory} holds a model in tinyllm's own format: choose another name, or remove it first")
    config = _config(model, family, tokenizer)
    replaced = {CONFIG, GENERATION, MODEL, INDEX} | (tokenizer_files() if tokenizer is not None else set())

    def of_an_export(name: str) -> bool:
        return name in replaced or re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) is not None

    with complete_directory(directory, of_an_export, sums=False) as temporary:
        same = family.same(model.config)  # written under all their names: which one is read depends on the version
        tensors = {name: array for name, array in _tensors(model) if name not in tied or name in same}
        write_tensors(temporary / MODEL, tensors, format="pt")
        write_json(temporary / CONFIG, config)
        if tokenizer is not None:
            tokenizer.save(temporary)
            if tokenizer.chat_template is not None:
                write_json(temporary / GENERATION, _generation(config, tokenizer))


def _generation(config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json of a chat model, which transformers' generate goes by: a reply ends at the model's end, and at
    that of a turn."""
    end = config["eos_token_id"]
    ends = end if isinstance(end, list) else [] if end is None else [end]
    try:
        ends = [*dict.fromkeys([*ends, *chat_format(tokenizer).ends])]
    except (ValueError, ModuleNotFoundError) as error:
        warnings.warn(f"{GENERATION} has the model's own end alone, not that of a turn: {error}", stacklevel=3)
    return {"eos_token_id": ends, **{f"{role}_token_id": config[f"{role}_token_id"] for role in ("bos", "pad")}}


def _read_tokenizer(directory: Path) -> Tokenizer | None:
    return tokenizers.load(directory) if any((directory / name).is_file() for name in READERS) else None
