"""CUDA graphs, emulated or on a GPU: what is recorded is done again with other numbers, and what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
from calls import error
from on_cuda import require_bfloat16, require_cuda

from tinyllm import kernels
from tinyllm.kernels.cuda import device
from tinyllm.kernels.cuda.blas import gemm
from tinyllm.kernels.cuda.device import refill, to_device, uploaded
from tinyllm.kernels.cuda.graph import Graph
from tinyllm.kernels.device import moved, to_host

require_cuda()

RNG = np.random.default_rng(3)


def there(a):
    return moved(np.ascontiguousarray(a), "cuda")


def numbers(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


def test_launches_compute_with_what_lies_in_the_arrays_then():
    """Kernels, arithmetic of arrays, assignments, copies; and in place, once for each call."""
    host, w, count = numbers(3, 40), there(numbers(7, 40)), there(np.zeros(2))
    x, called, graph = there(host), [], Graph()

    def work():
        called.append(1)
        y = kernels.linear_forward(x, w)
        y[:, :2] = y[:, 2:4]
        count[...] += 1
        return kernels.activation_forward(y + x[:, 33:].copy(), "relu") * np.float32(2) + y[:, ::-1]

    results = []
    for i in range(5):
        host = host + np.float32(1)
        refill(x, host)
        y = host @ to_host(w).T
        y[:, :2] = y[:, 2:4]
        results.append(graph(work))
        np.testing.assert_allclose(to_host(results[-1]), np.maximum(y + host[:, 33:], 0) * 2 + y[:, ::-1], atol=2e-5)
        assert to_host(count).tolist() == [i + 1] * 2
    assert len(called) == 2 and results[2] is results[4]


X = numbers(20, 20)
REFUSED = {
    "float": (lambda x: float(x[0, 0]), "read|number"),
    "item": (lambda x: x[0].item(3), "read"),
    "tolist": (lambda x: x.tolist(), "read"),
    "bool": (lambda x: bool(x[:1, :1]), "read"),
    "to_host": (to_host, "fetched"),
    "to_device": (lambda x: to_device(np.ones(3), x), "brought"),
    "uploaded": (lambda x: uploaded(np.arange(7) * 11, x), "brought"),
    "refill": (lambda x: refill(x, X), "brought"),
    "cuBLAS": (lambda x: gemm(x, x, x + 0), "cuBLAS"),
    "another": (lambda x: [inner(lambda: x) for inner in [Graph()] for _ in range(2)], "another"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_recorded_is_refused(what):
    accident, message = REFUSED[what]
    x, graph, calls = there(X), Graph(), []

    def work():
        calls.append(1)
        if len(calls) == 2:
            accident(x)
        return x + np.float32(1)

    graph(work)
    with pytest.raises(RuntimeError, match=message):
        graph(work)
    np.testing.assert_array_equal(to_host(Graph()(lambda: x * np.float32(1))), X)  # nothing is left of it


def test_kernels_are_compiled_before(monkeypatch):
    x, graph, calls = there(X), Graph(), []

    def work():
        calls.append(1)
        return kernels.softmax_forward(x) if len(calls) == 2 else x

    from tinyllm.kernels.cuda.softmax import KERNELS

    KERNELS.kernel.cache_clear(), KERNELS.module.cache_clear()
    graph(work)
    with pytest.raises(RuntimeError, match="softmax.cu is compiled while a CUDA graph is recorded"):
        graph(work)


def test_an_upload_that_a_graph_uses_lives_with_it():
    x, graph, positions = there(numbers(1, 1, 2, 8)), Graph(), np.array([5])
    frequencies = np.linspace(0.1, 0.7, 4)
    results = [to_host(graph(lambda: kernels.rotary_forward(x, positions, frequencies)).copy()) for _ in range(3)]
    device._uploads.clear()
    other = [uploaded(np.full(4, i, float), x) for i in range(40)]  # who would get its memory
    again = to_host(graph(lambda: None))
    assert len(other) == 40 and all(np.array_equal(result, again) for result in results)


def test_heads_are_turned_added_and_joined_from_the_record():
    """What a step of decoding does with views of one projection, copied or not."""
    host, positions, frequencies, graph = numbers(2, 1, 6, 8), np.array([5]), np.linspace(0.1, 0.7, 4), Graph()
    qkv = there(host)

    def work():
        q, k, v = qkv[:, :, :4], qkv[:, :, 4:5], qkv[:, :, 5:]
        turned = kernels.join_heads(*(kernels.rotary_forward(a, positions, frequencies) for a in (q, k)), v)
        return kernels.add(turned, kernels.join_heads(q, k, v))

    for _ in range(5):
        host = numbers(2, 1, 6, 8)
        refill(qkv, host)
        found = to_host(graph(work))
        with kernels.use("reference"):
            expected = kernels.rotary_forward(host[:, :, :5], positions, frequencies)
        np.testing.assert_allclose(found, np.concatenate([expected, host[:, :, 5:]], 2) + host, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("N", "C", "F"), [(1, 64, 13), (8, 72, 5), (5, 33, 9), (9, 40, 6), (0, 4, 3)])
def test_few_rows(dtype, N, C, F):
    """One, several, as many as a kernel of ours takes, and more."""
    if dtype == "bfloat16":
        dtype = require_bfloat16()
    x, w, b = (numbers(*shape).astype(dtype) for shape in ((N, C), (F, C), (F,)))
    y = to_host(kernels.linear_forward(*map(there, (x, w, b))))
    expected = x.astype("f8") @ w.astype("f8").T + b.astype("f8")
    assert y.dtype == x.dtype and y.shape == (N, F)
    assert not y.size or error(y, expected) < {2: 1e-2, 4: 1e-6, 8: 1e-14}[y.itemsize]
    z = kernels.linear_forward(there(x), there(np.asfortranarray(w)[:, ::1]), there(b))
    np.testing.assert_array_equal(to_host(z), y)
