"""What a GPU would refuse to launch is told in a sentence before it is asked."""

from __future__ import annotations

import types

import numpy as np
import pytest
from calls import function

from tinyllm.kernels.cuda import attention, device, module
from tinyllm.kernels.cuda.module import MOST_BLOCKS, argument

RNG = np.random.default_rng(3)


@pytest.fixture
def small(monkeypatch):
    """A GPU whose blocks have no more than 99 KiB of shared memory, as an L4's or an RTX 40's."""
    monkeypatch.setenv("TINYLLM_DEVICE", "emulated")
    function("softmax_forward", "cuda")  # skips where there is no compiler
    monkeypatch.setattr(module, "MAX_SHARED", 99 << 10)


def test_float64_heads_above_128(small):
    """The forward's three tiles of keys, values and queries fit, and the backward's four do not."""
    q = RNG.standard_normal((1, 9, 1, 200))
    y, lse = function("attention_forward", "cuda")(q, q, q)
    with pytest.raises(ValueError, match=r"backward_queries<double, 256, 1> needs 131 KiB .* the GPU has 99: compute in fl"):
        function("attention_backward", "cuda")(q, q, q, q, y, lse)


@pytest.mark.parametrize(
    "dtype, D", [("float32", 64), ("float32", 128), ("float32", 256), ("float64", 64), ("float64", 128)]
)
def test_every_other_head_fits(small, D, dtype):
    q = RNG.standard_normal((1, 9, 1, D)).astype(dtype)
    bias, dbias = (np.zeros((1, 9, 9), dtype) for _ in range(2))
    y, lse = function("attention_forward", "cuda")(q, q, q, bias=bias)
    function("attention_backward", "cuda")(q, q, q, q, y, lse, bias=bias, dbias=dbias)


def test_tensor_cores_fit_into_any_gpu_that_has_them():
    assert all(kernel.shared <= 99 << 10 for ways in attention.TENSOR.values() for kernel in ways.values())


def test_more_blocks_than_a_grid_has(small):
    q = np.zeros((MOST_BLOCKS + 1, 9, 1, 1), np.float32)
    with pytest.raises(ValueError, match=r"attention_forward<float, 32, 4> would have 1 x 1 x 65536 blocks.*the batch size"):
        function("attention_forward", "cuda")(q, q, q)


@pytest.mark.parametrize("C", [512, 768, 1000, 6144])
def test_what_a_kernel_has_of_its_own_counts(small, C):
    """48 KiB of shared memory for the sums of a norm's backward, and some more for its reductions: a GPU must be asked."""
    x, w, sums = RNG.standard_normal((9, C)).astype("f4"), np.ones(C, "f4"), np.ones(9, "f4")
    function("layernorm_backward", "cuda")(x, x, w, sums, sums, w.copy(), w.copy())


def test_sizes_of_more_than_32_bits():
    with pytest.raises(OverflowError, match="2,147,483,648 is more: lower the batch size"):
        argument(2**31)


def test_the_gpu_is_asked_for_its_shared_memory(monkeypatch):
    runtime = types.SimpleNamespace(getDevice=lambda: 3, deviceGetAttribute=lambda what, number: (what, number))
    monkeypatch.setattr(device, "cupy", lambda: types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime)))
    device.shared_memory.cache_clear()
    assert device.shared_memory() == (97, 3)  # cudaDevAttrMaxSharedMemoryPerBlockOptin
    device.shared_memory.cache_clear()
