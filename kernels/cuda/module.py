"""Kernels of a .cu file, compiled when first launched: by NVRTC through CuPy for the GPU, by g++ for the emulator.

    kernels = Kernels("softmax.cu", "softmax_forward<T>", "softmax_backward<T>")
    kernels.launch("softmax_forward<T>", x, grid, block, x, y, n_rows, n_columns)

The array behind the name decides where the kernel runs, and which type the T in the name stands for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import recording
from .device import EmulatedArray, array_module, cupy, name_of, refuse_host_arrays, shared_memory
from .emulator import MAX_SHARED, EmulatedModule
from .source import with_includes

HERE = Path(__file__).parent
TYPES = {"float32": "float", "float64": "double", "bfloat16": "bfloat16"}  # of arrays -> in C++
OPTIONS = ("-std=c++17",)
T = re.compile(r"\bT\b")
UNASKED = 48 << 10  # bytes of shared memory: for more a kernel must ask
STATIC = 8 << 10  # of them at most are what the kernel has without being given it, which counts too
MOST_BLOCKS = 2**16 - 1  # along the second and the third axis of a grid


class Kernels:
    """Some kernels of a file in this folder: expressions such as "softmax_forward<T>", all compiled together for one type.

    types: what T can be.
    """

    all: list[Kernels] = []  # made so far: what the compilation check compiles

    def __init__(self, file: str, *names: str, types: Sequence[str] = tuple(TYPES.values())):
        self.file, self.names, self.types = file, names, tuple(types)
        Kernels.all.append(self)

    def launch(self, name: str, like: Any, grid: Any, block: Any, *args: Any, shared: int = 0) -> None:
        """Runs the kernel with T as `like` has it. grid, block: ints or tuples of up to three; shared: dynamic, in bytes.

        args: arrays of the same device, as pointers (None: a null pointer); a Python int is an `int` of the kernel, a bool
        a `bool`, a float a `double`; anything else as a NumPy scalar. A grid without a block does nothing.
        """
        grid = grid if isinstance(grid, tuple) else (grid,)
        block = block if isinstance(block, tuple) else (block,)
        type_name, emulated = self.type_of(like), array_module(like) is np
        kernel = self.kernel(name, type_name, emulated)
        if isinstance(like, EmulatedArray):
            refuse_host_arrays(name, args)
        if 0 in grid:
            return
        if shared > UNASKED or max(grid) > MOST_BLOCKS:
            refuse_what_does_not_fit(T.sub(type_name, name), grid, shared, emulated)
        if shared > UNASKED - STATIC:
            kernel.max_dynamic_shared_size_bytes = shared
        kernel(tuple(map(int, grid)), tuple(map(int, block)), tuple(map(argument, args)), shared_mem=shared)

    def type_of(self, like: Any) -> str:
        """T for the array's dtype. Raises TypeError where there is no kernel for it."""
        name = TYPES.get(name_of(like.dtype))
        if name not in self.types:
            possible = [dtype for dtype, its_name in TYPES.items() if its_name in self.types]
            raise TypeError(f"{self.file} computes with {', '.join(possible)}, and got {like.dtype}: convert")
        return name

    @functools.cache  # noqa: B019 - there are as many of these objects as files
    def kernel(self, name: str, type_name: str, emulated: bool) -> Any:
        return self.module(type_name, emulated).get_function(T.sub(type_name, name))

    @functools.cache  # noqa: B019
    def module(self, type_name: str, emulated: bool) -> Any:
        """All names for one type, compiled."""
        recording.refuse(f"{self.file} is compiled")
        names = self.expressions(type_name)
        code = (HERE / self.file).read_text(encoding="utf-8")
        if emulated:
            return EmulatedModule(code, name_expressions=names, name=self.file)
        return cupy().RawModule(code=with_includes(code, self.file, HERE), options=OPTIONS, name_expressions=names)

    def expressions(self, type_name: str) -> list[str]:
        return [T.sub(type_name, name) for name in self.names]


def refuse_what_does_not_fit(name: str, grid: tuple[int, ...], shared: int, emulated: bool) -> None:
    """Raises ValueError where a GPU would only say that a launch failed."""
    if shared > UNASKED and shared > (most := MAX_SHARED if emulated else shared_memory()):
        raise ValueError(
            f"{name} needs {shared / 1024:.0f} KiB of shared memory for a block, and the GPU has {most / 1024:.0f}: compute "
            "in float32 or bfloat16, or with smaller heads or fewer channels"
        )
    if max(grid[1:], default=0) > MOST_BLOCKS:
        raise ValueError(
            f"{name} would have {' x '.join(map(str, grid))} blocks, and a GPU takes at most {MOST_BLOCKS:,} along the "
            "second and the third axis: lower the batch size"
        )


def argument(a: Any) -> Any:
    """What CuPy and the emulator pass on as it is. Raises OverflowError for an int that needs more than 32 bits."""
    if a is None:
        return np.uintp(0)
    if isinstance(a, bool):
        return np.bool_(a)
    if isinstance(a, int):
        if not -(2**31) <= a < 2**31:
            raise OverflowError(f"a kernel counts rows and columns in 32 bits, and {a:,} is more: lower the batch size")
        return np.int32(a)
    return np.float64(a) if isinstance(a, float) else a
