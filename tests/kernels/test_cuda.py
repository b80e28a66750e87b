"""The cuda set around its kernels: who may call it, what it says where something is missing, cuBLAS."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from calls import error, function
from strategies import in_layout

from tinyllm import kernels
from tinyllm.kernels.cuda import blas, device, loss, memory
from tinyllm.kernels.cuda.module import Kernels, argument
from tinyllm.kernels.cuda.source import with_includes

RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 5)).astype(np.float32)


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setenv("TINYLLM_DEVICE", "emulated")
    function("softmax_forward", "cuda")  # skips where there is no compiler


def test_use_takes_numpy_arrays_to_the_emulator(emulated):
    with kernels.use("cuda"):
        assert kernels.set_of(X) == "cuda"
        assert error(kernels.softmax_forward(X), function("softmax_forward", "reference")(X)) < 1e-6
    assert kernels.set_of(X) != "cuda"


def test_without_a_gpu_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.delenv("TINYLLM_DEVICE")
    with pytest.raises(ValueError, match="only with TINYLLM_DEVICE=emulated"), kernels.use("cuda"):
        pass
    with pytest.raises(TypeError, match=r"got a NumPy array: move it to the GPU.*TINYLLM_DEVICE=emulated"):
        kernels.implementation("softmax_forward", "cuda")(X)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as where it is not installed
    device.cupy.cache_clear()
    with pytest.raises(RuntimeError, match=r'CUDA needs CuPy.*: pip install "tinyllm-numpy\[cuda\]"$'):
        device.cupy()
    monkeypatch.setenv("TINYLLM_DEVICE", "tpu")
    with pytest.raises(ValueError, match="TINYLLM_DEVICE is 'tpu'; set it to"), kernels.use("cuda"):
        pass


def test_a_driver_that_is_missing_is_named(monkeypatch):
    class NoGPU:
        class cuda:
            is_available = staticmethod(lambda: False)

    monkeypatch.setitem(sys.modules, "cupy", NoGPU)
    device.cupy.cache_clear()
    with pytest.raises(RuntimeError, match="driver 580 or newer, and CuPy finds none"):
        device.cupy()


@pytest.mark.parametrize("value", ["emulated", "gpu"])
def test_the_environment_chooses_for_the_process(value):
    code = "import numpy; from tinyllm import kernels; print(kernels.set_of(numpy.empty(1)))"
    environment = {**os.environ, "TINYLLM_KERNELS": "cuda", "TINYLLM_DEVICE": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "cuda" if value == "emulated" else "TINYLLM_KERNELS is 'cuda'" in done.stderr


def test_the_set_is_complete():
    assert all(callable(kernels.implementation(op, "cuda")) for op in kernels.FILE_OF)


def test_out_of_memory_tells_what_was_asked_for(emulated):
    with pytest.raises(MemoryError, match=r"no room for an array of 3,814,697,266 MiB: lower the batch size"):
        kernels.implementation("empty", "cuda")(X, (10**9, 10**6))


def test_out_of_memory_on_a_gpu_tells_what_is_free(monkeypatch):
    class Runtime:
        memGetInfo = staticmethod(lambda: (3 << 20, 80 << 30))

    def full(*_, **__):
        raise MemoryError

    fake = types.SimpleNamespace(empty_like=full, cuda=types.SimpleNamespace(runtime=Runtime))
    monkeypatch.setattr(memory, "array_module", lambda like: fake)
    monkeypatch.setattr(memory, "cupy", lambda: fake)
    with pytest.raises(MemoryError, match="8 MiB on the GPU, where 3 of 81,920 MiB are free: lower the batch size"):
        memory.empty(X, 2 << 20)


def test_small_arrays_are_uploaded_once():
    """And as they were: who changes an array, or asks for another device's, gets a new one."""
    like, mask = X.view(device.EmulatedArray), np.array([True, False])
    there = device.uploaded(mask, like)
    assert type(there) is device.EmulatedArray and device.uploaded(mask.copy(), like) is there
    assert np.shares_memory(device.uploaded(there, like), there) and type(device.uploaded(mask, X)) is np.ndarray
    mask[0] = False
    assert there[0] and not device.uploaded(mask, like)[0] and device.uploaded(mask.astype("i1"), like).dtype == np.int8
    for i in range(2 * device.UPLOADS):
        device.uploaded(np.array([i]), like)
    assert len(device._uploads) == device.UPLOADS
    large = np.zeros(device.SMALL + 1, "i1")
    assert device.uploaded(large, like) is not device.uploaded(large, like)


def test_chunks_of_logits_are_as_large_as_they_may_be():
    rows = loss.chunk_rows(10**6, 50_257)
    assert rows * 50_257 <= loss.CHUNK < (rows + 1) * 50_257
    assert loss.chunk_rows(3, 50_257) == 3 and loss.chunk_rows(3, 2 * loss.CHUNK) == 1


# ---- launching ------------------------------------------------------------------------------------------------------


def test_arguments_of_a_launch():
    assert argument(3).dtype == np.int32 and argument(0.5).dtype == np.float64 and argument(True).dtype == np.bool_
    assert argument(None) == 0 and argument(None).dtype == np.uintp and argument(X) is X
    with pytest.raises(OverflowError):
        argument(2**31)


def test_a_dtype_without_a_kernel_is_named(emulated):
    only_floats = Kernels("softmax.cu", "softmax_backward<T>", types=("float",))
    Kernels.all.remove(only_floats)
    with pytest.raises(TypeError, match="softmax.cu computes with float32, and got float64"):
        only_floats.launch("softmax_backward<T>", X.astype(np.float64), 1, 32)


def test_includes_are_written_in_once_with_their_lines(tmp_path):
    (tmp_path / "a.cuh").write_text("#pragma once\n// of a\n")
    (tmp_path / "b.cuh").write_text('#pragma once\n#include "a.cuh"\n// of b\n')
    code = with_includes('#include "a.cuh"\n#include "b.cuh"\n// own', "k.cu", tmp_path)
    assert code.count("// of a") == code.count("// of b") == 1
    assert '#line 3 "k.cu"\n// own' in code and '#line 1 "a.cuh"\n\n// of a' in code
    with pytest.raises(FileNotFoundError, match="c.cuh"):
        with_includes('#include "c.cuh"\n', "k.cu", tmp_path)


# ---- matrix products ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_in_any_layout(emulated, dtype):
    """What cuBLAS would be told of layouts, through a stand-in that believes it."""
    layouts = ("C", "transposed", "wide", "sliced")
    for M, N, K in ((1, 1, 1), (2, 3, 4), (7, 1, 5), (1, 6, 2), (4, 5, 1), (3, 2, 0)):
        for of_a, of_b, of_c in itertools.product(layouts, layouts, ("C", "wide")):
            a = in_layout(RNG.standard_normal((M, K)).astype(dtype), of_a)
            b = in_layout(RNG.standard_normal((K, N)).astype(dtype), of_b)
            c = in_layout(RNG.standard_normal((M, N)).astype(dtype), of_c)
            expected = c + a @ b
            assert blas.gemm(a, b, c, add=True) is c and error(c, expected) < 1e-5
            assert error(blas.gemm(a, b, c), a @ b) < 1e-5


def test_products_of_other_sizes_are_refused(emulated):
    for a, b, c in ((X, X, X), (X, X.T, X), (X, X.T.astype("f8"), np.zeros((3, 3), "f4"))):
        with pytest.raises(ValueError, match="does not give c"):
            blas.gemm(a, b, c)
