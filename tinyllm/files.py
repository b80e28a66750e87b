"""How a file comes to be on the disk: whole, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
