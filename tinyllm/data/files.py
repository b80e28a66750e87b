"""Where data is kept, and how a file comes to be there: whole, or not at all."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class DataError(ValueError):
    """Data that is missing, broken, of another kind, or out of reach; the message says what to do."""


def cache_dir() -> Path:
    """The folder for downloads and encoded corpora: TINYLLM_CACHE, or the platform's own place for such files."""
    if chosen := os.environ.get("TINYLLM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tinyllm" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinyllm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyllm"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file under a temporary name beside `path`. It takes its name if the block ends well, else nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            flush_to_disk(file)
        os.chmod(temporary, 0o644)  # mkstemp gives 0600: data is no secret
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def flush_to_disk(file: BinaryIO) -> None:
    """Return when the file's bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())
