"""`tinyllm info`: what tinyllm finds on this machine, to read and to paste into a report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import __version__
from ..data.files import cache_dir
from ..kernels.cuda import device as cuda
from ..kernels.threads import choose, physical_cores

LAYERS = {
    "omp": "omp (OpenMP)",
    "workqueue": "workqueue, Numba's own, slower at handing out work: OpenMP's library was not found "
    "(Linux: install libgomp1; macOS: brew install libomp)",
}
VARIABLES = ("TINYLLM_", "NUMBA_", "OMP_", "OPENBLAS_", "MKL_", "CUDA_VISIBLE")


@click.command()
def command() -> None:
    """Show versions, the processor, threads, caches and the GPU: paste it into a bug report."""
    rows = [row for part in (_versions, _processor, _threads, _places, _gpu) for row in part()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{click.style(f'{name:<{width}}', bold=True)}  {value}")


def _versions() -> Iterator[tuple[str, str]]:
    yield "tinyllm", f"{__version__} at {Path(__file__).parents[1]}"
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()}) on {platform.platform()}"
    for package in ("numpy", "numba", "llvmlite", "safetensors", "matplotlib"):
        yield package, _version(package) or "not installed"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> Iterator[tuple[str, str]]:
    yield "processor", f"{processor_name()}, {os.cpu_count()} logical processors"
    yield "vector units", ", ".join(vector_units()) or "none that NumPy knows"
    from ..kernels.cpu.simd import BFLOAT16  # here, because the cpu set imports Numba, which the reference set does not need

    yield "bfloat16 products", "yes" if BFLOAT16 else "no: this processor lacks AVX512-BF16"


def processor_name() -> str:
    """The processor's name as its maker calls it, where the system tells."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        answer = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


def vector_units() -> list[str]:
    """The instruction sets for vectors that NumPy finds on this processor."""
    found: dict[str, Any] = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[assignment]
    return [*found.get("baseline", []), *found.get("found", [])]


def _threads() -> Iterator[tuple[str, str]]:
    layer = threading_layer()  # first: it imports Numba, with the number of threads that the cpu set chooses
    from ..kernels.cpu import parallel

    yield "threads", f"{parallel.threads()}, of {physical_cores()} physical cores (--threads, TINYLLM_THREADS)"
    yield "threading layer", LAYERS.get(layer, layer)
    yield "NumPy's BLAS", blas_name()


def threading_layer() -> str:
    """The thread pool that Numba runs parallel kernels in."""
    choose()  # before Numba is imported, which reads the number of threads then
    import numba

    @numba.njit(parallel=True)
    def fill(x: np.ndarray) -> None:  # the layer is chosen when the first parallel function runs
        for i in numba.prange(x.size):
            x[i] = 1

    fill(np.empty(2))
    return numba.threading_layer()


def blas_name() -> str:
    blas: dict[str, Any] = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[assignment]
    return f"{blas.get('name')} {blas.get('version')}"


def _places() -> Iterator[tuple[str, str]]:
    from ..kernels.cpu.jit import CACHE_FOLDER  # here, because it imports Numba

    yield "data cache", str(cache_dir())
    yield "kernel cache", str(CACHE_FOLDER or "none can be made: kernels are compiled again in every process")
    for name, value in sorted(os.environ.items()):
        if name.startswith(VARIABLES):
            yield name, value


def _gpu() -> Iterator[tuple[str, str]]:
    if cuda.emulated():
        yield "CUDA", "emulated on this processor (TINYLLM_DEVICE)"
        return
    try:
        cupy = cuda.cupy()
    except RuntimeError as error:
        yield "CUDA", f"no: {error}"
        return
    runtime = cupy.cuda.runtime
    yield "CUDA", f"CuPy {cupy.__version__}, driver for CUDA {version(runtime.driverGetVersion())}; the first GPU is used"
    for i in range(runtime.getDeviceCount()):
        about = runtime.getDeviceProperties(i)
        with cupy.cuda.Device(i):
            free, total = runtime.memGetInfo()
        yield f"GPU {i}", f"{about['name'].decode()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def version(number: int) -> str:
    """As CUDA counts: 13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"
