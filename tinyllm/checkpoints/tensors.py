"""Reading safetensors files tensor by tensor, in every float format that checkpoints come in.

A file is 8 bytes with the length of its header, little-endian; the header, JSON that gives each tensor's dtype, shape and
place; then the tensors' bytes. The library checks the header. The tensors are read here, because the library has no bfloat16
for NumPy, the format of most checkpoints, and makes an array of each tensor before it can be copied to where it belongs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import parse_json
from ..kernels.device import device_of, moved, to_host
from ..kernels.float_bits import from_upper_half
from .files import CheckpointError

DTYPES = {"float32": "F32", "float64": "F64"}  # NumPy's name -> safetensors'
PACKED = {"int8": "I8", "uint8": "U8", "uint16": "U16"}  # quantized numbers, and their scales

READABLE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # safetensors' dtype -> NumPy's, of its bytes
CHUNK = 1 << 22  # numbers converted at a time


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in the file: dtype as safetensors calls it, shape, its first byte and the one behind its last."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFile:
    """A safetensors file: `entries` by name, from its header."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: the directory is not whole; copy or download it again")
        from safetensors import SafetensorError, safe_open  # here, because --help need not wait for it

        try:
            with safe_open(path, "np"):  # the library checks the header: no holes, nothing overlaps, nothing is cut off
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a whole safetensors file: {error}. Copy or download it again") from None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(length), f"the header of {path}", CheckpointError)  # no name is there twice
        header.pop("__metadata__", None)
        self.entries = {
            name: Entry(about["dtype"], tuple(about["shape"]), *(8 + length + place for place in about["data_offsets"]))
            for name, about in header.items()
        }

    @property
    def numbers(self) -> int:
        """How many numbers the tensors have."""
        return sum(math.prod(entry.shape) for entry in self.entries.values())

    def read(self, name: str, out: np.ndarray) -> None:
        """Copies a tensor into `out`, of its shape, converted to the dtype of `out`; integers are copied as they are."""
        for part, piece in self._pieces(name, out.dtype):
            out[part] = piece

    def equals(self, name: str, array: np.ndarray) -> bool:
        """Whether a tensor, converted to the array's dtype, is the array number for number."""
        return self.entries[name].shape == array.shape and all(
            np.array_equal(array[part], piece.astype(array.dtype), equal_nan=True)
            for part, piece in self._pieces(name, array.dtype)
        )

    def _pieces(self, name: str, dtype: np.dtype) -> Iterator[tuple[Any, np.ndarray]]:
        """The tensor in pieces of rows: (which, their numbers); a float one for a float dtype, else of this dtype."""
        entry = self.entries[name]
        readable = READABLE if dtype.kind == "f" else {PACKED[str(dtype)]: dtype.newbyteorder("<").str}
        if entry.dtype not in readable:
            raise CheckpointError(
                f"{self.path}: {name} is stored as {entry.dtype}, perhaps quantised; tinyllm reads {', '.join(readable)}"
            )
        if entry.start == entry.end:
            return
        mapped = np.memmap(self.path, readable[entry.dtype], "r", entry.start, entry.shape or (1,))
        rows = max(1, CHUNK // math.prod(mapped.shape[1:]))
        for first in range(0, len(mapped), rows):
            piece = np.asarray(mapped[first : first + rows])
            piece = from_upper_half(piece) if entry.dtype == "BF16" else piece
            yield (slice(first, first + rows), piece) if entry.shape else (..., piece[0])


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
