"""Reading and writing tokenizer files: UTF-8, whole or not at all, and one clear sentence about a file that is wrong."""

import json
from pathlib import Path
from typing import Any

from .. import files
from ..files import atomic_file


class TokenizerError(ValueError):
    """A tokenizer file, a training request or an input that cannot be right; the message says what to do."""


def read_bytes(path: Path) -> bytes:
    """The file's bytes, or a TokenizerError that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """The file as UTF-8 with its line ends as they are (a vocabulary may hold "\\r"); a byte-order mark is dropped."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8 text (byte {error.start}): truncated, or of another kind") from None


def read_json(path: Path) -> dict[str, Any]:
    """The file's JSON object, or a TokenizerError that names it."""
    return files.read_json(path, TokenizerError)


def write_bytes(path: Path, data: bytes) -> None:
    """Write atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, "\\n" kept as it is on every system."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, non-ASCII characters as themselves."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
