"""How the cpu set compiles: a decorator for every kind of kernel. Compiled kernels are kept on disk (cache.py)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from . import parallel as parallel  # before any kernel is linked
from .cache import CACHE_FOLDER, HERE, KernelCache

# What a kernel may do with rounding: sums and products in any order, a*b + c as one operation. NaN and infinity keep their
# meaning. A function whose accuracy hangs on the order of its operations says fastmath=False (vmath.py).
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
OPTIONS = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True}


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """@jit or @jit(option=...): compiled on the first call with the options above, and kept in the cache on disk.

    A function that computes, and that kernels call, says forceinline=True: what LLVM does not inline there is twice, on
    its own and in the kernel. The process that compiles it takes the one, later ones the other, which may round otherwise.
    A function of another folder (a test's) is compiled alike and not cached: the cache knows this folder's sources only.
    """
    if function is None:
        return lambda function: jit(function, **options)
    dispatcher = numba.njit(**{**OPTIONS, **options})(function)
    if Path(function.__code__.co_filename).parent == HERE:
        dispatcher._cache = KernelCache(function, CACHE_FOLDER)
    return dispatcher


class Kernel:
    """A compiled function that ops call, and whose calls can be noted (graph.py)."""

    notes: Any = None  # where calls of all kernels are noted, if anywhere

    def __init__(self, compiled: Any):
        self.compiled = compiled

    def __call__(self, *args: Any) -> None:
        notes = Kernel.notes  # read once: another thread may end its notes meanwhile
        if notes is not None:
            notes.add(self.compiled, args)
        self.compiled(*args)


def hold(array: np.ndarray) -> np.ndarray:
    """The array, whose address goes to a kernel in its place: it lives as long as notes of the call do."""
    notes = Kernel.notes
    if notes is not None:
        notes.hold(array)
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
        self.signature, self._address = (types.int64,) * len(inspect.signature(function).parameters), 0

    @property
    def address(self) -> int:
        if not self._address:
            with global_compiler_lock:
                self.kernel.compile(self.signature)
                compiled = self.kernel.overloads[self.signature]
                self._address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)
        return self._address


def _call(context: Any, address: Any, args: Any) -> Any:
    """call(address, (argument, ...)), in a kernel: machine code that takes int64s -> its result, an int64."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integers = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.IntType(64), [value.type for value in integers])
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), integers)

    return types.int64(types.int64, types.UniTuple(types.int64, len(args))), codegen


call: Any = intrinsic(_call)
