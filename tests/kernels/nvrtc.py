"""NVRTC, NVIDIA's compiler as a library, from its PyPI package: compiles kernels for any GPU on a machine without one.

    python tests/kernels/nvrtc.py > tests/kernels/cuda_resources.txt

writes the table that test_nvrtc.py compares with.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tinyllm import kernels
from tinyllm.kernels.cuda.module import HERE, OPTIONS, Kernels
from tinyllm.kernels.cuda.source import with_includes

VERSION = "13.0.88"  # of the package nvidia-cuda-nvrtc: another may use a register more or less
ARCHITECTURES = ("sm_80", "sm_89", "sm_90", "sm_100")  # A100; L4, RTX 40; H100, H200; B200
ENTRY = re.compile(
    r"Compiling entry function '(\S+)' for '\w+'\n(?:.*\n)*?.*?(\d+) bytes spill stores, (\d+) bytes spill loads\n"
    r".*?Used (\d+) registers(.*)"
)
SHARED = re.compile(r"(\d+) bytes smem")


class Uses(NamedTuple):
    """What a kernel needs: registers of a thread, bytes of static shared memory, bytes that the registers do not hold."""

    registers: int
    shared: int
    spilled: int

    def __str__(self) -> str:
        return "+".join(map(str, self))

    @classmethod
    def of(cls, text: str) -> Uses:
        return cls(*map(int, text.split("+")))


def library() -> ctypes.CDLL:
    """Raises ImportError where the package is missing."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or [] if found else []:
        for path in Path(folder).glob("cu13/lib/libnvrtc.so.13"):
            for builtins in path.parent.glob("libnvrtc-builtins.so.13.?"):  # which NVRTC looks for among what is loaded
                ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(path))
    raise ImportError("NVRTC is not installed: pip install nvidia-cuda-nvrtc==" + VERSION)


class Nvrtc:
    def __init__(self) -> None:
        self.library = library()

    def check(self, status: int) -> None:
        if status:
            self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(self.library.nvrtcGetErrorString(status).decode())

    def compiled(self, code: str, file: str, names: list[str], options: list[str]) -> tuple[str, dict[str, str]]:
        """The log, and each name as the log has it. Raises RuntimeError with the log where the code does not compile."""
        nvrtc, program = self.library, ctypes.c_void_p()
        self.check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), file.encode(), 0, None, None))
        try:
            for name in names:
                self.check(nvrtc.nvrtcAddNameExpression(program, name.encode()))
            array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            failed = nvrtc.nvrtcCompileProgram(program, len(options), array)
            size = ctypes.c_size_t()
            self.check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
            log = ctypes.create_string_buffer(size.value)
            self.check(nvrtc.nvrtcGetProgramLog(program, log))
            if failed:
                raise RuntimeError(f"{file} does not compile with {' '.join(options)}:\n{log.value.decode()[:4000]}")
            lowered, mangled = ctypes.c_char_p(), {}
            for name in names:
                self.check(nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(lowered)))
                mangled[name] = (lowered.value or b"").decode()
            return log.value.decode(), mangled
        finally:
            nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def all_kernels() -> list[Kernels]:
    """Those of every file of the cuda set."""
    for path in sorted(HERE.glob("*.py")):
        if path.stem != "__init__":
            importlib.import_module(f"{kernels.__name__}.cuda.{path.stem}")
    return sorted(Kernels.all, key=lambda group: group.file)


def resources(nvrtc: Nvrtc, group: Kernels, architecture: str) -> Iterator[tuple[str, Uses]]:
    """What each kernel uses, by file and name."""
    code = with_includes((HERE / group.file).read_text(encoding="utf-8"), group.file, HERE)
    names = [name for type_name in group.types for name in group.expressions(type_name)]
    options = [*OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"]
    log, mangled = nvrtc.compiled(code, group.file, names, options)
    used = {m[1]: m for m in ENTRY.finditer(log)}
    for name in names:
        stores, loads, registers, rest = used[mangled[name]].groups()[1:]
        shared = SHARED.search(rest)
        yield f"{group.file} {name}", Uses(int(registers), int(shared[1]) if shared else 0, int(stores) + int(loads))


def table(groups: list[Kernels]) -> Iterator[str]:
    """A line for each kernel, a column for each architecture."""
    nvrtc = Nvrtc()
    yield "\t".join(
        ["# registers of a thread + bytes of static shared memory + bytes spilled, by NVRTC " + VERSION, *ARCHITECTURES]
    )
    for group in groups:
        columns = [list(resources(nvrtc, group, architecture)) for architecture in ARCHITECTURES]
        for kernel in zip(*columns):
            yield "\t".join([kernel[0][0], *(str(uses) for _, uses in kernel)])


if __name__ == "__main__":
    for line in table(all_kernels()):
        print(line, flush=True)
