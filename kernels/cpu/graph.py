"""A step of decoding without Python: the kernels that it calls are noted once, with their arguments, and then called again.

Between two kernels Python looks at shapes, finds addresses and unpacks arrays, ten microseconds or so. Of a step that reads
a small model's weights in some milliseconds this is a good part, the more so as the weights have driven all that Python
needs out of the caches meanwhile. Notes are machine code all the way: each call is a row of words, its arguments, and the
address of a stub that loads them and calls the kernel.

What is noted are kernels, and no arithmetic of NumPy's between them. Whether any is missed is tried once.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock

from .jit import Kernel, call, jit
from .product import workspace

WORD = ir.IntType(64)


class Graph:
    """Calls work(), a function that calls ops and returns an array.

    As usual the first time, when kernels are compiled; taking notes the second time; from the notes and as usual the third
    time; and if both gave the same, from the notes ever after, otherwise as usual. The work is the same each time but for
    the numbers in its arrays, and may be done twice in a row. What the notes return is one array, which the next call
    overwrites. All that the kernels were given lives as long as the graph.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.notes: Notes | None = None

    def __call__(self, work: Callable[[], np.ndarray]) -> np.ndarray:
        self.calls += 1
        if self.calls == 2:
            self.notes = Notes(work)
            return self.notes.output
        if self.calls == 3 and self.notes is not None:
            played = self.notes.play().tobytes()
            expected = work()  # the later, so that what it leaves behind is right
            if played != expected.tobytes():
                self.notes = None
            return expected
        return work() if self.notes is None else self.notes.play()


class Notes:
    """The kernels that work() calls, which is done meanwhile."""

    taking = threading.RLock()  # one takes notes at a time

    def __init__(self, work: Callable[[], np.ndarray]):
        self.thread = threading.get_ident()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []  # (kernel, arguments)
        self.held: list[np.ndarray] = []
        with Notes.taking, workspace.renewed():
            self.hold(workspace.record)
            before, Kernel.notes = Kernel.notes, self
            try:
                self.output = work()
            finally:
                Kernel.notes = before
            self.stubs = np.array([stub(compiled_for(*call)) for call in self.calls], np.int64)
        rows = [words(args) for _, args in self.calls]
        self.words = np.array([word & (1 << 64) - 1 for row in rows for word in row], np.uint64)
        starts = np.cumsum([0, *map(len, rows)][:-1])
        self.rows = self.words.ctypes.data + self.words.itemsize * starts.astype(np.int64)

    def add(self, kernel: Any, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == self.thread:
            self.calls.append((kernel, args))

    def hold(self, array: np.ndarray) -> None:
        if threading.get_ident() == self.thread:
            self.held.append(array)

    def play(self) -> np.ndarray:
        """Calls the kernels again -> what work() returned, with new numbers."""
        if status := play(self.stubs, self.rows):
            raise RuntimeError(f"a kernel of a noted step failed (Numba's status {status}): is there memory left?")
        return self.output


def _in_child() -> None:
    """After a fork: the thread that took notes may not be there any more."""
    Notes.taking = threading.RLock()
    if Kernel.notes is not None and Kernel.notes.thread != threading.get_ident():
        Kernel.notes = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


@jit
def play(stubs, rows):
    """Calls stub after stub with the address of its words -> 0, or the first kernel's status that failed."""
    for i in range(len(stubs)):
        status = call(stubs[i], (rows[i],))
        if status != 0:
            return status
    return 0


_compiled: dict[Any, Any] = {}  # by the kernel and the kinds of its arguments: Numba takes its time to tell their types


def compiled_for(kernel: Any, args: tuple[Any, ...]) -> Any:
    """What Numba has compiled for arguments of these types, with which the kernel was called; or the one that serves all."""
    key = kernel, kind(args)
    if key not in _compiled:
        if kernel._can_compile:
            values = inspect.signature(kernel.py_func).bind(*args).arguments.values()  # those of *args as a tuple
            _compiled[key] = kernel.overloads[tuple(map(kernel.typeof_pyval, values))]
        else:
            (_compiled[key],) = kernel.overloads.values()
    return _compiled[key]


def kind(value: Any) -> Any:
    """What is the same for values of one type of Numba's."""
    if isinstance(value, tuple):
        return tuple(map(kind, value))
    return (value.dtype, value.ndim, value.flags.num) if isinstance(value, np.ndarray) else type(value)


def words(value: Any) -> list[int]:
    """The value as machine code takes it, by words: an array is two owners, of which there are none, its size, the size of
    an item, its address, shape and strides."""
    if isinstance(value, tuple):
        return [word for item in value for word in words(item)]
    if isinstance(value, np.ndarray):
        return [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
    return [int.from_bytes(np.asarray(value).tobytes(), "little")]


_stubs: dict[int, tuple[Any, Any, int]] = {}  # by what is compiled: that, what keeps the machine code, its address


def stub(compiled: Any) -> int:
    """The address of machine code that takes the address of a kernel's words and calls it -> its status, 0 for success."""
    if id(compiled) not in _stubs:
        name = f"tinyllm_stub_{len(_stubs)}"
        with global_compiler_lock:
            library = compiled.target_context.codegen().create_library(name)
            module = library.create_ir_module(name)
            _build_stub(module, name, compiled)
            library.add_ir_module(module)
            library.finalize()
        _stubs[id(compiled)] = compiled, library, library.get_pointer_to_function(name)
    return _stubs[id(compiled)][2]


def _build_stub(module: ir.Module, name: str, compiled: Any) -> None:
    """A kernel's machine code takes the places of its result and of an error's description, then its arguments."""
    signature, convention = compiled.signature, compiled.target_context.call_conv
    kernel = convention.get_function_type(signature.return_type, signature.args)
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    function = ir.Function(module, ir.FunctionType(WORD, [WORD]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    row = builder.inttoptr(function.args[0], WORD.as_pointer())
    results = [builder.alloca(kind.pointee) for kind in kernel.args[:2]]
    places = [builder.gep(row, [ir.Constant(WORD, i)]) for i in range(len(kernel.args) - 2)]
    args = [builder.load(builder.bitcast(place, kind.as_pointer())) for place, kind in zip(places, kernel.args[2:])]
    status = builder.call(builder.inttoptr(ir.Constant(WORD, address), kernel.as_pointer()), [*results, *args])
    builder.ret(builder.sext(status, WORD))
