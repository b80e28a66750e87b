"""How the cpu set compiles: a decorator for every kind of kernel, and a cache on disk that never serves stale code.

Numba's own cache asks whether the file of the cached function has changed, and looks at no other. Our kernels inline
functions and vector code of other files, so an edit there, or an upgrade, would leave old machine code in use. Here the
cache's folder is named by a hash over every source file of this set and the versions of what compiles them: a change of
any of it starts an empty folder. For which CPU the code is, Numba notes beside each kernel.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.extending import intrinsic
from numba.misc.appdirs import AppDirs

# What a kernel may do with rounding: sums and products in any order, a*b + c as one operation. NaN and infinity keep their
# meaning. A function whose accuracy hangs on the order of its operations says fastmath=False (vmath.py).
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
OPTIONS = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True}
HERE = Path(__file__).parent
KEPT_CACHES = 8  # folders of other versions that stay when a new one is made


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """@jit or @jit(option=...): compiled on the first call with the options above, and kept in the cache on disk.

    A function that computes, and that kernels call, says forceinline=True: what LLVM does not inline there is twice, on
    its own and in the kernel. The process that compiles it takes the one, later ones the other, which may round otherwise.
    A function of another folder (a test's) is compiled alike and not cached: the cache knows this folder's sources only.
    """
    if function is None:
        return lambda function: jit(function, **options)
    dispatcher = numba.njit(**{**OPTIONS, **options})(function)
    if CACHE_FOLDER is not None and Path(function.__code__.co_filename).parent == HERE:
        dispatcher._cache = _KernelCache(function)
    return dispatcher


class Kernel:
    """A compiled function that ops call, and whose calls can be noted (graph.py)."""

    notes: Any = None  # where calls of all kernels are noted, if anywhere

    def __init__(self, compiled: Any):
        self.compiled = compiled

    def __call__(self, *args: Any) -> None:
        if Kernel.notes is not None:
            Kernel.notes.add(self.compiled, args)
        self.compiled(*args)


def hold(array: np.ndarray) -> np.ndarray:
    """The array, whose address goes to a kernel in its place: it lives as long as notes of the call do."""
    if Kernel.notes is not None:
        Kernel.notes.hold(array)
    return array


def serial_jit(function: Callable[..., Any]) -> Kernel:
    """@serial_jit: a Kernel on the calling thread."""
    return Kernel(jit(function))


def parallel_jit(function: Callable[..., Any]) -> Kernel:
    """@parallel_jit: a Kernel whose prange loops run on Numba's thread pool. Neighbouring loops are not fused: packing would
    race with use."""
    return Kernel(jit(function, parallel={"fusion": False}))


class Native:
    """@Native: a kernel that takes int64s and returns nothing, as machine code that other kernels call by its address.

    LLVM compiles what a kernel calls into the kernel, once more in each loop over threads and each level of calls. A Native
    is compiled once, when its address is first asked for, and whoever is given the address runs it with call().
    """

    def __init__(self, function: Callable[..., Any]):
        self.kernel = jit(function)
        self.signature = (types.int64,) * len(inspect.signature(function).parameters)

    @functools.cached_property
    def address(self) -> int:
        self.kernel.compile(self.signature)
        compiled = self.kernel.overloads[self.signature]
        return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)


def _call(context: Any, address: Any, args: Any) -> Any:
    """call(address, (argument, ...)), in a kernel: machine code that takes int64s -> its result, an int64."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integers = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.IntType(64), [value.type for value in integers])
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), integers)

    return types.int64(types.int64, types.UniTuple(types.int64, len(args))), codegen


call: Any = intrinsic(_call)


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


def _cache_folder() -> Path | None:
    """This version's folder, made if need be, under NUMBA_CACHE_DIR or the user's cache folder; None where none can be."""
    root = Path(getattr(config, "CACHE_DIR", "") or AppDirs("tinyllm", appauthor=False).user_cache_dir) / "tinyllm-kernels"
    folder = root / _sources_hash()
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _remove_old(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        warnings.warn(
            f"The cpu kernels are compiled anew in every process, since their cache folder cannot be used ({error}); "
            "set NUMBA_CACHE_DIR to a folder that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


def _remove_old(folder: Path) -> None:
    """Of the folders of other versions, only the newest stay. Another process may be at the same."""
    with contextlib.suppress(OSError):
        others = sorted(
            (other for other in folder.parent.iterdir() if other != folder), key=lambda other: other.stat().st_mtime
        )
        for old in others[:-KEPT_CACHES]:
            shutil.rmtree(old, ignore_errors=True)


CACHE_FOLDER = _cache_folder()


class _Locator(_CacheLocator):
    """Tells Numba where a kernel is cached. The folder's name is the stamp: what lies in it is fresh."""

    def __init__(self, function: Callable[..., Any], path: str):
        self._py_file = path
        self._lineno = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(CACHE_FOLDER)

    def get_source_stamp(self) -> str:
        return str(CACHE_FOLDER and CACHE_FOLDER.name)

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _KernelCache(FunctionCache):
    _impl_class = _CacheImpl
