"""Files and directories that are on the disk whole or not at all, and the JSON in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

MODEL, CONFIG, SUMS = "model.safetensors", "config.json", "SHA256SUMS"


class CheckpointError(ValueError):
    """A file or directory that cannot be a model, or is damaged; the message says what to do."""


@contextmanager
def complete_directory(path: Path) -> Iterator[Path]:
    """A new directory under a temporary name; when the block ends well, its checksums are added, all of it is flushed to
    the disk, and it becomes `path`. A kill leaves what was at `path` before."""
    temporary, before = path.with_name(f".{path.name}.tmp"), before_of(path)
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


def before_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def put_back(path: Path) -> None:
    """Undoes what a kill in the middle of complete_directory(path) left."""
    before = before_of(path)
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


def write_json(path: Path, value: Any) -> None:
    path.write_text(json_text(value), encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text (byte {error.start}): damaged, or of another kind") from None


def checked(path: Path, fields: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The values of a file for the fields of a dataclass. CheckpointError names the field whose value has another type."""
    hints, values = typing.get_type_hints(kind), {}
    for name, value in fields.items():
        try:
            values[name] = msgspec.convert(value, hints[name])
        except (msgspec.ValidationError, OverflowError) as error:
            raise CheckpointError(
                f"{path} sets {name} to {short(value)}: {str(error)[:1].lower()}{str(error)[1:]}"
            ) from None
    return values


def short(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


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
