"""Models on the disk: safetensors + JSON + the tokenizer's files, a directory that is there whole or not at all.

    model.safetensors   the parameters, by name
    config.json         {"tinyllm": {"model": "GPT", "format": 1}, and the fields of its configuration}
    tokenizer.json ...  what the tokenizer saves
    SHA256SUMS          of every file above, as `sha256sum -c` reads it: damage is found before it does harm

A directory of training (run.py) is one of these with optimizer.safetensors and state.json beside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .device import check_device, device_of, moved, to_host
from .models import MODELS, Model

if TYPE_CHECKING:
    from .optim import Optimizer
    from .tokenizers import Tokenizer

FORMAT = 1
MODEL, CONFIG, SUMS = "model.safetensors", "config.json", "SHA256SUMS"
OPTIMIZER, STATE = "optimizer.safetensors", "state.json"
DTYPES = {"float32": "F32", "float64": "F64"}  # NumPy's name -> safetensors'
PACKED = {"int8": "I8", "uint8": "U8", "uint16": "U16"}  # quantized numbers, and their scales


class CheckpointError(ValueError):
    """A file or directory that cannot be a model, or is damaged; the message says what to do."""


def save(path: str | Path, model: Model, tokenizer: Tokenizer | None = None) -> None:
    """Writes a model and its tokenizer to the directory `path`, which `load` reads; a model saved there before is replaced.

    The directory appears when it is complete. ValueError where `path` holds something else, or where the tokenizer has ids
    that the model lacks.
    """
    path = Path(path)
    if path.exists() and not _is_ours(path):
        raise CheckpointError(f"{path} exists and is no model of tinyllm: choose another name, or remove it first")
    with complete_directory(path) as directory:
        write_model(directory, model, tokenizer)


def load(path: str | Path, device: str = "cpu", dtype: str = "float32") -> tuple[Model, Tokenizer | None]:
    """The model in a directory, and its tokenizer, or None where it has none.

    path: what `save` wrote; a directory of training, whose best model so far is taken; a Hugging Face directory
    (huggingface.py says which); or a file of llama2.c, or the directory that it is in (llama2c.py). device "cpu" or "cuda";
    dtype "float32" or "float64", or "bfloat16": the matrices of a decoder are held in it, half as large, to generate faster.
    It computes with them in float32, and is not trained any more. FileNotFoundError where there is nothing, CheckpointError
    (a ValueError) where the files are damaged or of another kind, ValueError for a device that this machine lacks.
    """
    check_device(device)
    if dtype not in (*DTYPES, "bfloat16"):
        raise ValueError(f"dtype {dtype!r} is not supported: there are {', '.join(DTYPES)} and bfloat16")
    model, tokenizer = _loaded(Path(path), "float32" if dtype == "bfloat16" else dtype)
    if dtype == "bfloat16":
        from .quantization import quantize

        try:
            quantize(model, 16)
        except ValueError as error:
            raise ValueError(f"{path} cannot be held in bfloat16: {error}") from None
    return model.to(device), tokenizer


def _loaded(path: Path, dtype: str) -> tuple[Model, Tokenizer | None]:
    from . import llama2c, run

    if not path.exists() and (before := _before(path)).exists():
        path = before  # a kill between two lines of complete_directory
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give the directory of a model or of a training run")
    if path.is_dir() and run.is_run(path):
        path = run.best(path)
    if (file := llama2c.weight_file(path)) is not None:
        return llama2c.load(file, dtype)
    config = read_config(path)
    if "tinyllm" not in config:
        from . import huggingface

        return huggingface.load(path, dtype=dtype)
    verify(path)
    return read_model(path, dtype), read_tokenizer(path)


# The parts of a directory ----------------------------------------------------------------------------------------------


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
        from . import quantization

        quantization.prepare(model, about["bits"])
    if "lora" in about:
        from . import lora

        lora.add(model, lora.LoRAConfig(**about["lora"]), seed=None)
    return model


def read_tokenizer(directory: Path) -> Tokenizer | None:
    if not (directory / "tokenizer.json").is_file():
        return None
    from . import tokenizers

    return tokenizers.load(directory)


def write_training(directory: Path, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The optimizer's moments by parameter name, and everything else that training must know to go on."""
    write_tensors(directory / OPTIMIZER, optimizer.moments())
    write_json(directory / STATE, {**state, "optimizer_steps": optimizer.steps})


def read_training(directory: Path, optimizer: Optimizer) -> dict[str, Any]:
    """Fills the optimizer -> the state that was saved with it."""
    state = read_json(directory / STATE)
    read_tensors(directory / OPTIMIZER, optimizer.moments())
    optimizer.steps = state["optimizer_steps"]
    return state


# Whole directories, whole files ----------------------------------------------------------------------------------------


@contextmanager
def complete_directory(path: Path) -> Iterator[Path]:
    """A new directory under a temporary name; when the block ends well, its checksums are added, all of it is flushed to
    the disk, and it becomes `path`. A kill leaves what was at `path` before."""
    temporary, before = path.with_name(f".{path.name}.tmp"), _before(path)
    shutil.rmtree(temporary, ignore_errors=True)  # what a kill left
    temporary.mkdir(parents=True)
    try:
        yield temporary
        sums = "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(temporary.iterdir()))
        (temporary / SUMS).write_text(sums, encoding="utf-8", newline="\n")
        for file in temporary.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        _flush_directory(temporary)
        if path.exists():  # no system renames over a full directory: a kill between these two lines leaves `before`, whole
            shutil.rmtree(before, ignore_errors=True)
            path.rename(before)
        temporary.rename(path)
        _flush_directory(path.parent)
        shutil.rmtree(before, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _before(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def put_back(path: Path) -> None:
    """Undoes what a kill in the middle of complete_directory(path) left."""
    before = _before(path)
    if before.exists() and not path.exists():
        before.rename(path)
    shutil.rmtree(before, ignore_errors=True)
    shutil.rmtree(path.with_name(f".{path.name}.tmp"), ignore_errors=True)


def verify(directory: Path) -> None:
    """CheckpointError where a file is missing, or is not the one that was saved."""
    if not (directory / SUMS).is_file():
        return  # somebody took it away
    for line in read_text(directory / SUMS).splitlines():
        digest, _, name = line.partition("  ")
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory} lacks {name or 'a file'}: it is not whole; copy it again, or take another")
        if sha256(directory / name) != digest:
            raise CheckpointError(
                f"{directory / name} is damaged, its SHA-256 is not the one in {SUMS}: copy it again, or take another "
                f"checkpoint (if you changed it on purpose, delete {SUMS})"
            )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_directory(path: Path) -> None:
    """Returns when the directory's entries are on the disk; Windows has no such call, and needs none."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _is_ours(path: Path) -> bool:
    """Whether a directory may be replaced: it is empty, or holds a model that `save` wrote."""
    if not path.is_dir() or not any(path.iterdir()):
        return path.is_dir()
    return (path / CONFIG).is_file() and (path / MODEL).is_file() and "tinyllm" in read_json(path / CONFIG)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json_text(value), encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text (byte {error.start}): damaged, or of another kind") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path} is not JSON ({error.msg}, line {error.lineno}): damaged, or of another kind"
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object: it is of another kind")
    return value


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], format: str = "tinyllm") -> None:
    """A safetensors file: the header's length in 8 bytes, the header in JSON, then each array's bytes, little-endian.

    Written here and not by the library, which would first make a copy of every array.
    """
    header: dict[str, Any] = {"__metadata__": {"format": format}}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": {**DTYPES, **PACKED}[str(array.dtype)], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in map(to_host, tensors.values()):
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)


def read_tensors(path: Path, into: Mapping[str, np.ndarray]) -> None:
    """Fills the arrays with the tensors of a safetensors file, by name; the file must have these and no others."""
    from .tensorfile import TensorFile

    file = TensorFile(path)
    _check_names(path, set(file.entries), set(into))
    for name, array in into.items():
        if file.entries[name].shape != array.shape:
            raise CheckpointError(f"{path}: {name} has shape {file.entries[name].shape}, and should have {array.shape}")
        if device_of(array) == "cpu":
            file.read(name, array)
        else:
            read = np.empty(array.shape, array.dtype)
            file.read(name, read)
            array[...] = moved(read, "cuda")


def _check_names(path: Path, found: set[str], wanted: set[str]) -> None:
    if missing := sorted(wanted - found):
        raise CheckpointError(f"{path} lacks {missing[0]} ({len(missing)} tensors in all): it belongs to another model")
    if extra := sorted(found - wanted):
        raise CheckpointError(f"{path} has {extra[0]} ({len(extra)} tensors in all), which this model does not have")
