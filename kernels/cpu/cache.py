"""The cache of compiled kernels on disk: it never serves stale, damaged or foreign code, and no fault of it stops a program.

Numba's own cache asks whether the file of the cached function has changed, and looks at no other. Our kernels inline
functions and vector code of other files, so an edit there, or an upgrade, would leave old machine code in use. Here the
folder is named by a hash over every source file of this set and the versions of what compiles them. A change of any of them
starts an empty folder. One file holds one kernel for some types of arguments and one kind of processor.

A file is read as bytes and checked before anything of it is unpickled or executed: its owner and permissions, its SHA-256,
and which kernel it is of. If anything is wrong, the kernel is compiled and the file is replaced. What cannot be written is
not cached, with one warning. The folder must belong to the user, and nobody else may write to it, because these files are
pickles: who writes them decides what is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import platform
import shutil
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from ..compiling import announce

HERE = Path(__file__).parent
KEPT_CACHES = 8  # folders of other versions that stay when a new one is made
MAGIC = b"tinyllm kernel 1\n"  # how a file begins, before its SHA-256
DIGEST = hashlib.sha256().digest_size
REMEDY = "Set NUMBA_CACHE_DIR to a folder that belongs to you and that only you can write to."


def _sources_hash() -> str:
    """Twenty hex digits that change when the machine code of the kernels could."""
    digest = hashlib.sha256()
    versions = (
        __name__,
        numba.__version__,
        llvmlite.__version__,
        platform.python_version(),
        sys.platform,
        platform.machine(),
    )
    digest.update(repr((versions, os.environ.get("TINYLLM_SIMD"))).encode())
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


def is_private(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, and nobody else can write to it. Where there are no users, it does."""
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _cache_folder() -> Path | None:
    """This version's folder under NUMBA_CACHE_DIR or the user's cache folder, made if necessary. None if it is unusable."""
    root = Path(getattr(config, "CACHE_DIR", "") or AppDirs("tinyllm", appauthor=False).user_cache_dir) / "tinyllm-kernels"
    folder = root / _sources_hash()
    try:
        if not folder.is_dir():
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir(mode=0o700, exist_ok=True)
            if is_private(root.stat()):
                folder.mkdir(mode=0o700, exist_ok=True)
                _remove_old(folder)
        for place in (root, folder):
            if not is_private(place.stat()):
                mode = stat.filemode(place.stat().st_mode)
                without_cache(
                    f"{place} belongs to another user, or others can write to it ({mode}). If all of it is yours, run: "
                    f"chmod -R go-w {place}"
                )
                return None
    except OSError as error:
        without_cache(str(error))
        return None
    return folder


def without_cache(why: str) -> None:
    warnings.warn(
        f"The cpu kernels are compiled again in every process, because their cache folder cannot be used: {why}. {REMEDY}",
        RuntimeWarning,
        stacklevel=2,
    )


def _remove_old(folder: Path) -> None:
    """Keep only the newest of the folders of other versions. Another process may do the same at the same time."""
    with contextlib.suppress(OSError):
        others = sorted(
            (other for other in folder.parent.iterdir() if other != folder), key=lambda other: other.stat().st_mtime
        )
        for old in others[:-KEPT_CACHES]:
            shutil.rmtree(old, ignore_errors=True)


CACHE_FOLDER = _cache_folder()


class KernelCache(FunctionCache):
    """The compiled versions of one function, each in a file of `folder` (None: nowhere). Numba asks for them, and hands over
    what it has compiled."""

    can_write = True  # of all kernels: after the first file that could not be written no other is tried

    def __init__(self, function: Callable[..., Any], folder: Path | None):
        code = function.__code__
        name = f"{Path(code.co_filename).stem}.{function.__qualname__}-{code.co_firstlineno}"
        self.stem = name.replace("<", "").replace(">", "")
        self.folder = folder
        self._py_func, self._name, self._cache_path = function, name, str(folder)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function. None if it must be compiled: the listeners of compiling.py are notified."""
        target_context.refresh()
        key = self._key(sig, target_context.codegen())
        try:
            payload = None if self.folder is None else read(self._path(self.folder, key))
            stored, compiled = pickle.loads(payload) if payload else (None, ())
            if stored == key:
                return CompileResult._rebuild(target_context, *compiled)
        except Exception:
            pass  # pickle and Numba raise anything: whatever it is, the kernel is compiled
        announce()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if self.folder is None or not KernelCache.can_write or data.lifted or data.library.has_dynamic_globals:
            return
        key = self._key(sig, data.codegen)
        try:
            write(self._path(self.folder, key), dumps((key, data._reduce())))
        except OSError as error:
            KernelCache.can_write = False
            without_cache(str(error))

    def flush(self) -> None:
        """Numba's request to forget all versions. They would not be stale."""

    def _key(self, sig: Any, codegen: Any) -> str:
        """Types of arguments, processor, and the function's code, in words."""
        return repr((self._name, *self._index_key(sig, codegen)))

    def _path(self, folder: Path, key: str) -> Path:
        return folder / f"{self.stem}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.kernel"


def read(path: Path) -> bytes | None:
    """What `write` wrote, or None if there is no such file, or it is damaged or somebody else's."""
    try:
        with open(path, "rb") as file:
            if not is_private(os.fstat(file.fileno())):
                return None
            content = file.read()
    except OSError:
        return None
    begin = len(MAGIC) + DIGEST
    if not content.startswith(MAGIC) or hashlib.sha256(content[begin:]).digest() != content[len(MAGIC) : begin]:
        return None
    return content[begin:]


def write(path: Path, payload: bytes) -> None:
    """Replace the file in one step, so that no other process reads half of it. OSError if that is not possible."""
    path.parent.mkdir(mode=0o700, exist_ok=True)  # another version of tinyllm may have removed it
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with open(descriptor, "wb") as file:
            file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except PermissionError:
        temporary.unlink(missing_ok=True)
        if os.name != "nt":  # where another process may have the file open: it has the same content
            raise
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
