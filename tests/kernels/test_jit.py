"""The cache of compiled kernels: used again, never stale, at a place that can be written, or done without and said so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from tinyllm.kernels.cpu import cache as cache_file
from tinyllm.kernels.cpu import jit as file
from tinyllm.kernels.cpu.cache import CACHE_FOLDER
from tinyllm.kernels.cpu.jit import Native, call, jit

# A copy of the package, so that its sources may change: kernels/cpu with a kernel that calls a function of another file.
CODE = """
import sys, numpy as np
from kernels.cpu import first, jit
print(first.kernel(np.float32(1)), first.native_result(), sum(first.kernel.stats.cache_hits.values()))
"""
FIRST = """
import numpy as np
from .jit import Native, jit
from .second import helper
from .simd import floats

@jit
def kernel(x):
    return helper(x)

@Native
def native(address):
    floats(address, 1)[0] = helper(floats(address, 1)[0])

def native_result():
    x = np.ones(1, np.float32)
    from .first_caller import run
    run(native.address, x.ctypes.data)
    return x[0]
"""
CALLER = """
from .jit import call, jit

@jit
def run(address, x):
    call(address, (x,))
"""
SECOND = "from .jit import jit\n\n@jit\ndef helper(x):\n    return x + {}\n"


@pytest.fixture
def package(tmp_path):
    cpu = tmp_path / "kernels" / "cpu"
    cpu.mkdir(parents=True)
    for name in ("jit.py", "simd.py", "cache.py", "parallel.py"):
        shutil.copy(Path(file.__file__).with_name(name), cpu)
    shutil.copy(Path(file.__file__).parents[1] / "compiling.py", cpu.parent)
    for folder in (cpu, cpu.parent):
        (folder / "__init__.py").touch()
    (cpu / "first.py").write_text(FIRST, encoding="utf-8")
    (cpu / "first_caller.py").write_text(CALLER, encoding="utf-8")
    (cpu / "second.py").write_text(SECOND.format(1), encoding="utf-8")
    return cpu


def run(package: Path, cache: Path, code: str = CODE, **environment: str) -> tuple[list[float], str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package.parents[1])
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()], done.stderr


def test_the_cache_is_used_and_never_stale(package, tmp_path):
    cache = tmp_path / "cache"
    assert run(package, cache)[0] == [2, 2, 0]
    assert run(package, cache)[0] == [2, 2, 1]  # from the cache
    (package / "second.py").write_text(
        SECOND.format(10), encoding="utf-8"
    )  # another file than the kernel's, of the same size
    assert run(package, cache)[0] == [11, 11, 0]
    (package / "second.py").write_text(SECOND.format(1), encoding="utf-8")
    assert run(package, cache)[0] == [2, 2, 1]  # the first version's folder is still there
    assert run(package, cache, TINYLLM_SIMD="plain")[0] == [2, 2, 0]  # other tiles, other code


def test_old_folders_go(package, tmp_path):
    for number in range(cache_file.KEPT_CACHES + 3):
        folder = tmp_path / "tinyllm-kernels" / str(number)
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    run(package, tmp_path)
    folders = {folder.name for folder in (tmp_path / "tinyllm-kernels").iterdir()}
    assert len(folders) == cache_file.KEPT_CACHES + 1 and {str(cache_file.KEPT_CACHES + 2)} <= folders


def test_a_cache_that_cannot_be_written_is_said_and_done_without(package, tmp_path):
    taken = tmp_path / "file"
    taken.touch()
    results, said = run(package, taken)
    assert results == [2, 2, 0]
    assert said.count("compiled again in every process") == 1 and "Set NUMBA_CACHE_DIR" in said


def test_functions_of_others_keep_out_of_our_cache():
    @jit
    def here(x):
        return x

    assert here(1) == 1
    assert CACHE_FOLDER is None or not list(CACHE_FOLDER.glob("test_jit*"))


def test_options():
    """Sums may be reordered, and NaN and infinity keep their meaning; a division by zero is no exception."""

    @jit
    def f(x, y):
        return x / y, x != x, y - y

    assert numba.typeof(f(1.0, 0.0)) and f(1.0, 0.0)[0] == np.inf
    assert f(np.nan, np.inf)[1] and np.isnan(f(np.nan, np.inf)[2])


def test_a_native_takes_any_number_of_integers():
    from tinyllm.kernels.cpu.simd import integers

    @Native
    def add(target, a, b, c, d, e):
        integers(target, 1)[0] = a + 10 * b + 100 * c + 1000 * d + 10000 * e

    @jit
    def run(address, target):
        call(address, (target, 1, 2, 3, 4, 5))

    target = np.zeros(1, np.int64)
    run(add.address, target.ctypes.data)
    assert target[0] == 54321


COMPUTES = """
import hashlib, numpy as np
from tinyllm import kernels
random = np.random.default_rng(0)
x, r, dy, q, k, v = (random.standard_normal((2, 50, 3, 40)).astype(np.float32) for _ in range(6))
z, w, targets = x.reshape(-1, 120), np.ones(120, np.float32), np.arange(100)
s, y, mean, rstd = kernels.add_layernorm_forward(z, r.reshape(-1, 120), w)
results = [y, *kernels.add_layernorm_backward(dy.reshape(-1, 120), z, s, w, mean, rstd)]
results += kernels.attention_forward(q[:, :1], k, v)
results += [kernels.softmax_forward(z), kernels.gated_forward(z, "silu"), kernels.dropout_forward(z, 0.1, 3)]
results += [kernels.cross_entropy_forward(z, targets)[1]]
results += [kernels.rotary_forward(q, np.arange(50), np.linspace(0.1, 0.9, 20))]
print(hashlib.sha256(b"".join(a.tobytes() for a in results)).hexdigest())
"""


def test_the_process_that_compiles_computes_what_later_ones_do(tmp_path):
    """To the last bit: a training run that is resumed goes on in another process."""
    folder = Path(file.__file__).parents[2]
    results = []
    for _ in range(2):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", COMPUTES], capture_output=True, text=True, env=environment, cwd=folder, check=True
        )
        results.append(done.stdout)
    assert results[0] == results[1]
