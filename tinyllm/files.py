"""How a file comes to be on the disk, whole or not at all, and how JSON is read, which anybody may have written."""

import json
import math
import os
import re
import tempfile
import typing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file under a temporary name beside `path`. It takes its name if the block ends well, else nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with naming(path), os.fdopen(handle, "w+b") as file:
            yield file
            flush_to_disk(file)
        os.chmod(temporary, 0o644)  # mkstemp gives 0600: what we write is no secret
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):  # its folder may have been removed
            os.unlink(temporary)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system that names no file, such as a full disk, names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def flush_to_disk(file: BinaryIO) -> None:
    """Return when the file's bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())


# JSON ------------------------------------------------------------------------------------------------------------------

LARGEST = 1 << 28  # bytes of a JSON file
DEEPEST = 100  # levels of lists and objects inside each other
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, error: type[ValueError] = ValueError) -> dict[str, Any]:
    """The JSON object in a file of UTF-8 text, with or without a byte-order mark.

    `error` is raised, with the file's name, if the file cannot be read, is larger than 256 MiB or is not such an object.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise error(f"{path} is larger than {LARGEST:,} bytes: it is not a file of this kind")
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from None
    return parse_json(content, str(path), error)


def parse_json(content: bytes, name: str, error: type[ValueError] = ValueError) -> dict[str, Any]:
    """The JSON object in bytes. `error` names what is wrong: the text, a key that is there twice, a number that is not
    finite, more than 100 levels, half of a surrogate pair, a value that is not an object."""
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=once, parse_constant=_finite, parse_float=_finite)
        check_unicode(text, value)
    except UnicodeDecodeError as problem:
        raise error(f"{name} is not UTF-8 text (byte {problem.start}): damaged, or of another kind") from None
    except json.JSONDecodeError as problem:
        raise error(f"{name} is not JSON ({problem.msg}, line {problem.lineno}): damaged, or of another kind") from None
    except RecursionError:
        raise error(f"{name} has more than {DEEPEST} levels of lists and objects inside each other") from None
    except ValueError as problem:
        raise error(f"{name} is not JSON as it should be: {problem_of(problem)}") from None
    if not isinstance(value, dict):
        raise error(f"{name} is not a JSON object: it is of another kind")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inside = (each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer))
        level = [each for each in inside if isinstance(each, (dict, list))]
    if level:
        raise error(f"{name} has more than {DEEPEST} levels of lists and objects inside each other")
    return value


def check_unicode(text: str, value: Any) -> None:
    """ValueError if the value that JSON in `text` stands for has half of a surrogate pair, which no file can hold."""
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"a text has \\u{ord(half):x}, half of a surrogate pair, which is no character") from None


def problem_of(error: ValueError) -> str:
    """What is wrong with JSON; of a number with thousands of digits without Python's advice."""
    return str(error).partition("; use sys.")[0]


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its keys and values. ValueError for a key that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:60]} is not finite")
    return value


def checked_value(path: Path, name: str, value: Any, hint: Any, error: type[ValueError] = ValueError) -> Any:
    """The value of a field in a file, of the type in `hint`. `error` names file, field, value and what is expected."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as problem:
        kind, inner = typing.get_origin(hint), typing.get_args(hint)
        if kind in (dict, list) and isinstance(value, kind):  # name the first value in it that is wrong
            for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                checked_value(path, f"{name}[{short(key)}]", each, inner[-1], error)
        text = str(problem)
        raise error(f"{path}: {name} is {short(value)}; {text[:1].lower()}{text[1:]}") from None


def short(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
