"""From a path to a model in any format that we read, and from a model to a directory of ours."""

from __future__ import annotations

from pathlib import Path

from ..kernels.device import check_device
from ..models import Model
from ..tokenizers import Tokenizer
from . import huggingface, llama2c, runs
from .files import CONFIG, MODEL, CheckpointError, complete_directory, ours, present, read_json, temporary_of, verify
from .native import read_config, read_model, read_tokenizer, write_model
from .quantization import quantize
from .tensors import DTYPES


def save(path: str | Path, model: Model, tokenizer: Tokenizer | None = None) -> None:
    """Writes a model and its tokenizer to the directory `path`, which `load` reads; a model saved there before is replaced.

    The directory appears when it is complete, and other files in it stay. ValueError where `path` holds something else, or
    where the tokenizer has ids that the model lacks.
    """
    path = Path(path)
    if path.exists() and not _is_ours(path):
        raise CheckpointError(f"{path} exists and is no model of tinyllm: choose another name, or remove it first")
    with complete_directory(path, replaced=ours) as directory:
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
        try:
            quantize(model, 16)
        except ValueError as error:
            raise ValueError(f"{path} cannot be held in bfloat16: {error}") from None
    return model.to(device), tokenizer


def _loaded(path: Path, dtype: str) -> tuple[Model, Tokenizer | None]:
    path = present(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give the directory of a model or of a training run")
    if path.is_dir() and runs.is_run(path):
        path = runs.best(path)
    if (file := llama2c.weight_file(path)) is not None:
        return llama2c.load(file, dtype)
    config = read_config(path)
    if "tinyllm" not in config:
        return huggingface.load(path, dtype=dtype)
    verify(path)
    return read_model(path, dtype), read_tokenizer(path)


def _is_ours(path: Path) -> bool:
    """Whether a directory may be replaced: it is empty, or holds a model that `save` wrote or began to write."""
    if not path.is_dir() or not any(path.iterdir()):
        return path.is_dir()
    if temporary_of(path.resolve(), path).is_dir():
        return True
    return (path / CONFIG).is_file() and (path / MODEL).is_file() and "tinyllm" in read_json(path / CONFIG)
