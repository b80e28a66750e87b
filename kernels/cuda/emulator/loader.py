"""Compiles a CUDA source with g++ and launches its kernels: cupy.RawModule's calling form, on NumPy arrays."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import recording
from ..source import with_includes
from .guarded import address_of, regions_of

HERE = Path(__file__).parent
# -mtls-dialect: thread-local variables are found by a call, which the poisoning of shared memory relies on (scheduler.h)
FLAGS = (
    "-std=c++20 -O1 -fPIC -shared -fno-strict-aliasing -fno-exceptions -fno-rtti -fno-math-errno -w -fvisibility=hidden "
    "-U_FORTIFY_SOURCE -mtls-dialect=gnu"
).split()
DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\(\s*\w+\s*\)\s*)?([\w:<> ]+?)\s+(\w+)\s*\[\s*\]\s*;"
)
EXTERN_C = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)')
ORDERS = ("forward", "reversed", "shuffled")  # as scheduler.h numbers them
MAX_SHARED = 227 << 10  # bytes that a block of an H100 can have
UNASKED = 48 << 10  # of these, unless it asks for more
KEPT_SECONDS = 30 * 86_400
launches = itertools.count(1)  # the number of a launch is the seed of its order


class EmulatorError(RuntimeError):
    """What the compiler or the emulator found wrong with a kernel, or with how it was launched."""


class Launch(ctypes.Structure):
    """As scheduler.h has it."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint64),
    ]


class EmulatedModule:
    """The kernels of a source: those named in `name_expressions`, or where none are, all that are extern "C".

    options: further options of the compiler, such as -DNAME. name: the source's in messages. It may include common.cuh and
    its like. Raises EmulatorError where it does not compile.
    """

    def __init__(
        self, code: str, options: Sequence[str] = (), name_expressions: Sequence[str] = (), name: str = "kernel.cu"
    ):
        code = with_includes(code, name, HERE, HERE.parent)
        names = list(name_expressions) or EXTERN_C.findall(code)
        self.library = ctypes.PyDLL(str(compiled(translated(code, names), tuple(options))))  # PyDLL: one launch at a time
        self.index = {name: i for i, name in enumerate(names)}
        self.library.tinyllm_message.restype = ctypes.c_char_p
        self.library.tinyllm_statistics.restype = ctypes.POINTER(ctypes.c_uint64)

    def get_function(self, name: str) -> Kernel:
        return Kernel(self, name, self.index[name])


class Kernel:
    """kernel(grid, block, args, shared_mem) runs it. order: in which order threads run; anew in each launch by default.

    max_dynamic_shared_size_bytes: as in CuPy, what shared_mem may be; it must be set for more than 48 KiB, of which the
    kernel's own shared memory is a part: that of all kernels of the module, here.
    """

    def __init__(self, module: EmulatedModule, name: str, index: int):
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = UNASKED - module.library.tinyllm_static_shared()
        self.run: Callable[..., int] = getattr(module.library, f"tinyllm_launch_{index}")
        signature = getattr(module.library, f"tinyllm_signature_{index}")
        signature.restype = ctypes.c_char_p
        self.parameters = signature().decode().split()  # such as p8: a pointer (scheduler.h)

    def __call__(self, grid, block, args, shared_mem=0, order="shuffled", seed=None) -> dict[str, int]:
        """Returns how often what happened: while a graph is recorded, nothing. Raises EmulatorError for a wrong argument and
        what the kernel does wrong."""
        how = Launch(
            three(grid), three(block), shared_mem, ORDERS.index(order), mixed(next(launches) if seed is None else seed)
        )
        self.check(grid, block, args, shared_mem)
        if recording.current is not None:
            recording.do(functools.partial(self, grid, block, args, shared_mem, order, seed))
            return {}
        arrays = [a for a in args if isinstance(a, np.ndarray) and a.ndim]
        regions = regions_of(arrays)
        try:
            values = [self.value(i, a, regions) for i, a in enumerate(args)]
            pointers = (ctypes.c_void_p * len(args))(*(address_of(v) for v in values))
            if self.run(ctypes.byref(how), pointers):
                raise EmulatorError(f"{self.name}: {self.module.library.tinyllm_message().decode()}")
            if any(region.overrun() for region in regions):
                raise EmulatorError(f"{self.name}: something was written directly behind the end of an array")
            for region in regions:
                if any(self.written(i, a, region) for i, a in enumerate(args)):
                    region.copy_back()
        finally:
            for region in regions:
                region.free()
        counted = self.module.library.tinyllm_statistics()
        return dict(zip(("switches", "barriers", "warp_operations", "blocks"), counted[:4]))

    def check(self, grid, block, args, shared_mem) -> None:
        if len(args) != len(self.parameters):
            raise EmulatorError(f"{self.name} has {len(self.parameters)} parameters, and got {len(args)} arguments")
        if not 1 <= np.prod(three(block)) <= 1024 or min(three(grid)) < 1:
            raise EmulatorError(
                f"{self.name}: a block has 1 to 1024 threads and a grid at least a block, not {block}, {grid}"
            )
        if shared_mem > MAX_SHARED:
            raise EmulatorError(f"{self.name}: {shared_mem} bytes of shared memory are more than any GPU's block has")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise EmulatorError(
                f"{self.name}: {shared_mem} bytes of shared memory must be asked for by max_dynamic_shared_size_bytes, "
                f"which is {self.max_dynamic_shared_size_bytes}"
            )

    def value(self, i, a, regions) -> np.ndarray:
        """An array of one item, which holds what the kernel's parameter i is to be."""
        kind, is_array = self.parameters[i], isinstance(a, np.ndarray) and a.ndim > 0
        if is_array != (kind[0] in "pc") and not (kind[0] in "pc" and np.asarray(a).dtype == np.uintp):
            raise EmulatorError(f"{self.name}: argument {i} is {describe(a)}, and the parameter has the kind {kind}")
        if not is_array:
            value = np.ascontiguousarray(a).reshape(1)
            given = {"i": "i", "u": "i", "b": "i", "f": "f"}.get(value.dtype.kind, "?") + str(value.dtype.itemsize)
            if given != kind and kind[0] not in "pc":  # CuPy would pass the bytes as they are, in silence
                raise EmulatorError(f"{self.name}: argument {i} is {describe(a)}, and the parameter has the kind {kind}")
            return value
        place = address_of(a)
        inside = (region for region in regions if region.low <= place < region.low + region.size)
        return np.array([region.address(place) if a.size else 0 for region in inside] or [0], np.uintp)

    def written(self, i, a, region) -> bool:
        """Whether the kernel may have written into the region through its parameter i."""
        if self.parameters[i][0] != "p" or not isinstance(a, np.ndarray) or not a.size:
            return False
        mine = region.low <= address_of(a) < region.low + region.size
        if mine and not a.flags.writeable:
            raise EmulatorError(f"{self.name}: argument {i} is a read-only array, and the parameter is no pointer to const")
        return mine


def describe(a: Any) -> str:
    return f"an array of {a.dtype}" if isinstance(a, np.ndarray) and a.ndim else f"{a!r} ({type(a).__name__})"


def mixed(seed: int) -> int:
    return (seed * 0x9E3779B97F4A7C15 + 0x1234567) & (2**64 - 1)


def three(n: int | Sequence[int]) -> tuple[int, ...]:
    return (*((n,) if isinstance(n, int) else n), 1, 1)[:3]


def translated(code: str, names: Sequence[str]) -> str:
    """The source for g++: our header before it, dynamic shared memory as a pointer, and behind it what Python calls."""
    body = DYNAMIC_SHARED.sub(r"\1* \2 = (\1*)::emulator::state.dynamic_shared;", code)
    export = '#define EXPORT extern "C" __attribute__((visibility("default")))'
    ends = [
        export,
        "EXPORT const char* tinyllm_message() { return emulator::state.message; }",
        "EXPORT uint64_t* tinyllm_statistics() { return (uint64_t*)&emulator::state.statistics; }",
        "EXPORT int tinyllm_static_shared() { return emulator::static_shared(); }",
    ]
    for i, name in enumerate(names):
        ends.append(
            f"EXPORT int tinyllm_launch_{i}(const emulator::Launch* how, void** args) "
            f"{{ return emulator::launch(how, {name}, args); }}"
        )
        ends.append(f"EXPORT const char* tinyllm_signature_{i}() {{ return emulator::signature({name}); }}")
    return "\n".join(['#include "emulator.h"', body, *ends, ""])


def cache_folder() -> Path:
    """Where compiled kernels are kept, beside those of the cpu set; a name is a hash of all that matters."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyllm" / "tinyllm-emulator"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeError(f"the CUDA emulator cannot keep compiled kernels in {folder}: set XDG_CACHE_HOME") from error
    return folder


def remove_old(folder: Path) -> None:
    """Kernels that nobody has loaded for a month. Another process may be at the same."""
    for library in folder.glob("*.so"):
        with contextlib.suppress(OSError):
            if time.time() - library.stat().st_mtime > KEPT_SECONDS:
                library.unlink()


def compiled(source: str, options: tuple[str, ...]) -> Path:
    """The shared library, from the cache or from g++."""
    compiler = require_compiler()
    headers = "\0".join(path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.h")))
    command = [compiler, *FLAGS, *options, f"-I{HERE}"]
    key = hashlib.sha256("\0".join([source, headers, platform.machine(), *command]).encode()).hexdigest()[:32]
    library = cache_folder() / f"{key}.so"
    if not library.exists():
        handle, temporary = tempfile.mkstemp(suffix=".so", dir=library.parent)
        os.close(handle)
        try:
            done = subprocess.run(
                [*command, "-x", "c++", "-", "-o", temporary], input=source, text=True, capture_output=True
            )
            if done.returncode:
                raise EmulatorError(f"g++ does not compile the kernel:\n{done.stderr[:6000]}")
            os.replace(temporary, library)
            remove_old(library.parent)
        finally:
            Path(temporary).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a cache that may only be read
        os.utime(library)
    return library


def require_compiler() -> str:
    """The path of g++. Raises RuntimeError where the emulator cannot run."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise RuntimeError(
            f"the CUDA emulator runs on Linux on x86-64 processors, and this is {platform.system()} on {platform.machine()}"
        )
    compiler = shutil.which("g++")
    if compiler is None:
        raise RuntimeError(
            "the CUDA emulator compiles kernels with g++, which is not installed: apt install g++, or its like"
        )
    return compiler
