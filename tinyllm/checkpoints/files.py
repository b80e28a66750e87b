"""Files and directories that are on the disk whole or not at all, and the JSON in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import files
from ..tokenizers.loading import READERS

MODEL, CONFIG, SUMS = "model.safetensors", "config.json", "SHA256SUMS"
OPTIMIZER, AVERAGE, STATE = "optimizer.safetensors", "average.safetensors", "state.json"  # of a checkpoint of training
BESIDE_A_TOKENIZER = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip


class CheckpointError(ValueError):
    """A file or directory that cannot be a model, or is damaged; the message says what to do."""


def tokenizer_files() -> set[str]:
    """The names of files that a tokenizer is read from or writes."""
    return {*READERS, *BESIDE_A_TOKENIZER}


def ours(name: str) -> bool:
    """Whether a file in a directory of our own format is read with the model, so that its checksum counts."""
    return name in {MODEL, CONFIG, OPTIMIZER, AVERAGE, STATE, SUMS} | tokenizer_files()


@contextmanager
def complete_directory(
    path: Path, replaced: Callable[[str], bool] = lambda name: True, marker: str = CONFIG, sums: bool = True
) -> Iterator[Path]:
    """A new directory under a temporary name. When the block ends well, its checksums are added, all of it is flushed to the
    disk, and it becomes `path`. A kill leaves what was at `path` before, or the new directory.

    replaced: the names in the old directory that the new one takes the place of; all others are the user's, and stay.
    A directory that cannot be swapped (a mount point, the current directory, one that another program has open on Windows)
    is filled in place: `marker` is removed first and written last, so that a kill leaves no mixture that loads.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path} is a file: give the name of a directory")
    put_back(path)
    in_place = stays(path)
    temporary = temporary_of(path, path if in_place else path.parent)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if sums:
            write_sums(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
        flush_directory(temporary)
        if in_place or not swapped(temporary, path, replaced):
            fill(path, temporary, replaced, marker)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def stays(path: Path) -> bool:
    """Whether a directory must not be renamed, or cannot be."""
    here = Path.cwd()
    return path.is_dir() and (path in (here, *here.parents) or path.is_mount() or not os.access(path.parent, os.W_OK))


def swapped(temporary: Path, path: Path, replaced: Callable[[str], bool]) -> bool:
    """Renames a complete directory to `path`, with links to the user's files. False if the system does not allow it."""
    if not path.exists():
        temporary.rename(path)
        flush_directory(path.parent)
        return True
    before = before_of(path)
    written = {file.name for file in temporary.iterdir()}
    try:
        for file in path.iterdir():
            if not replaced(file.name) and file.name not in written:
                link(file, temporary / file.name)
        shutil.copymode(path, temporary)
        path.rename(before)  # no system renames over a full directory: a kill between these two lines leaves `before`, whole
    except OSError:
        for file in temporary.iterdir():
            if file.name not in written:
                shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
        return False
    temporary.rename(path)
    flush_directory(path.parent)
    shutil.rmtree(before, ignore_errors=True)
    return True


def link(source: Path, target: Path) -> None:
    """A second name for a file, or for all files of a folder: nothing is copied."""
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=os.link)
    else:
        os.link(source, target)


def fill(path: Path, temporary: Path, replaced: Callable[[str], bool], marker: str) -> None:
    """Moves the files of a complete directory to `path` and removes what they replace. Without `marker` it does not load."""
    written = {file.name for file in temporary.iterdir()}
    (path / marker).unlink(missing_ok=True)
    flush_directory(path)
    for file in path.iterdir():
        if replaced(file.name) and file.name not in written and file != temporary:
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
    for name in sorted(written, key=lambda name: name == marker):
        (temporary / name).replace(path / name)
    flush_directory(path)


def temporary_of(path: Path, parent: Path) -> Path:
    return parent / f".{path.name}.tmp"


def before_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def present(path: Path) -> Path:
    """Where a directory is: under its own name, or, after a kill between two lines of `swapped`, under the one before."""
    return before_of(path) if path.name and not path.exists() and before_of(path).exists() else path


def put_back(path: Path) -> None:
    """Undoes what a kill in the middle of complete_directory(path) left."""
    before = before_of(path)
    if before.exists() and not path.exists():
        before.rename(path)
    shutil.rmtree(before, ignore_errors=True)
    for parent in (path.parent, path):
        shutil.rmtree(temporary_of(path, parent), ignore_errors=True)


def write_sums(directory: Path) -> None:
    """Writes the checksums of all files in a directory: also to be called after a change that is meant."""
    names = sorted(file.name for file in directory.iterdir() if file.is_file() and file.name != SUMS)
    text = "".join(f"{sha256(directory / name)}  {name}\n" for name in names)
    (directory / SUMS).write_text(text, encoding="utf-8", newline="\n")


def verify(directory: Path) -> None:
    """CheckpointError where a file of our own format is missing, is not the one that was saved, or has no checksum."""
    meant = f'if you changed it on purpose, call tinyllm.checkpoints.files.write_sums(Path("{directory}"))'
    if not (directory / SUMS).is_file():
        raise CheckpointError(
            f"{directory} lacks {SUMS}, the checksums of its files: it is not whole; copy it again ({meant})"
        )
    sums: dict[str, str] = {}
    for number, line in enumerate(read_text(directory / SUMS).splitlines(), 1):
        digest, _, name = line.partition("  ")
        if name != Path(name).name or "\\" in name or not name.strip(".") or name in sums:
            raise CheckpointError(
                f"{directory / SUMS}, line {number}: not a checksum and the name of a file beside it, once"
            )
        sums[name] = digest
    names = {file.name for file in directory.iterdir() if ours(file.name)} | {MODEL, CONFIG}
    if unlisted := sorted(names - {*sums, SUMS}):
        raise CheckpointError(f"{directory / SUMS} does not list {unlisted[0]}: it was cut short; copy it again ({meant})")
    for name, digest in sums.items():
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory} lacks {name}: it is not whole; copy it again, or take another")
        if sha256(directory / name) != digest:
            raise CheckpointError(
                f"{directory / name} is damaged, its SHA-256 is not the one in {SUMS}: copy it again, or take another "
                f"checkpoint ({meant})"
            )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_directory(path: Path) -> None:
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
    """Those values of a file that a dataclass has fields for. CheckpointError names one whose value is of another type."""
    hints = typing.get_type_hints(kind)
    return {name: checked_value(path, name, value, hints[name]) for name, value in fields.items() if name in hints}


def checked_value(path: Path, name: str, value: Any, hint: Any) -> Any:
    """The value of a field, of its type: an int for a float becomes one."""
    return files.checked_value(path, name, value, hint, CheckpointError)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    return files.read_json(path, CheckpointError)
