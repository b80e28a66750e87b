"""Graphs of the cpu set: kernels called again by machine code, with what lies in their arrays then; and nothing else is."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.kernels.cpu.graph import Graph
from tinyllm.kernels.cpu.jit import Kernel, serial_jit

RNG = np.random.default_rng(3)


def numbers(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("n", [1, 3, 40, 700])
def test_work_of_kernels_is_repeated_without_python(n):
    """A product on one thread or several, of few rows or many, that activates; a norm, a gate, the rows of a table."""
    x, w, table, index = numbers(n, 64), numbers(96, 64), numbers(50, 96), np.zeros((1, n), np.int64)
    ones, called, graph = np.ones(96, np.float32), [], Graph()

    def work():
        called.append(1)
        y, _ = kernels.linear_activation_forward(x, w, ones, "gelu")
        s, y, _, _ = kernels.add_layernorm_forward(kernels.embedding_forward(index, table)[0], y, ones, None, 1e-5)
        s = kernels.add(s, y)
        kernels.scale(s, 0.5)
        return kernels.linear_forward(kernels.gated_forward(s, "silu"), table[:, :48])

    results = []
    for _ in range(6):
        x[...], index[...] = numbers(n, 64), RNG.integers(0, 50, (1, n))
        found = graph(work).copy()
        results.append(found)
        expected = work()
        called.pop()
        np.testing.assert_array_equal(found, expected)
    assert len(called) == 3 and len({found.tobytes() for found in results}) == 6


def test_what_numpy_does_between_kernels_is_found_out():
    x, called, graph = numbers(3, 8), [], Graph()

    def work():
        called.append(1)
        return kernels.activation_forward(x * np.float32(2), "relu")

    for _ in range(6):
        x[...] = numbers(3, 8)
        np.testing.assert_array_equal(graph(work), np.maximum(2 * x, 0))
    assert len(called) == 6


def test_arguments_of_all_kinds():
    """Numbers of several types, an array with distances of its own, a tuple, and what is given as *args."""

    @serial_jit
    def add(out, a, b, matrix, several, *more):
        out[0] = a * b + matrix[1, 1] + several[0] * several[1] + more[0] + more[1][0]

    out, more, matrix, graph = np.zeros(1), np.full(2, 1000.0), np.arange(12.0).reshape(3, 4).T[::-2], Graph()

    def work():
        add(out, True, np.float32(0.5), matrix, (np.uint32(2**32 - 1), -3), -7, more)
        return out

    for _ in range(6):
        more += 1000
        graph(work)
        assert out[0] == 0.5 + matrix[1, 1] - 3.0 * (2**32 - 1) - 7 + more[0]
    assert graph.notes is not None


def test_memory_that_only_a_kernel_knows_lives():
    """A copy of x, whose address alone the kernel was given, is nobody else's as long as the graph lives."""
    x, positions, frequencies, graph = numbers(1, 1, 8, 2).swapaxes(2, 3), np.array([[5]]), np.linspace(0.1, 0.7, 4), Graph()
    for i in range(6):
        positions[...] = i
        found = graph(lambda: kernels.rotary_forward(x, positions, frequencies)).copy()
        rest = [np.full(16, i, np.float32) for i in range(100)]
        assert len(rest) == 100
        np.testing.assert_array_equal(found, kernels.rotary_forward(x, positions, frequencies))


def test_heads_are_turned_added_and_joined_from_the_record():
    """What a step of decoding does with views of one projection: NumPy computes nothing between the kernels."""
    qkv, frequencies, graph, called = numbers(2, 1, 6, 8), np.linspace(0.1, 0.7, 4), Graph(), []
    positions = np.array([[5], [7]])

    def work():
        called.append(1)
        q, k = (kernels.rotary_forward(a, positions, frequencies) for a in (qkv[:, :, :4], qkv[:, :, 4:5]))
        return kernels.add(kernels.join_heads(q, k, qkv[:, :, 5:]), qkv)

    for i in range(6):
        qkv[...], positions[...] = numbers(2, 1, 6, 8), [[i], [2 * i]]
        found = graph(work).copy()
        np.testing.assert_array_equal(found, work())
        called.pop()
    assert len(called) == 3


def test_what_other_threads_do_meanwhile_is_their_own():
    x, graph, noting, done = numbers(4, 8), Graph(), threading.Event(), threading.Event()

    def other():
        noting.wait(10)
        kernels.activation_forward(numbers(5, 5), "gelu")
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    def work():
        if Kernel.notes is not None:
            noting.set()
            assert done.wait(10)
        return kernels.activation_forward(x, "relu")

    for _ in range(5):
        x[...] = numbers(4, 8)
        np.testing.assert_array_equal(graph(work), np.maximum(x, 0))
    thread.join()
    assert len(graph.notes.calls) == 1 and Kernel.notes is None


def test_an_error_leaves_nothing_behind():
    graph, calls = Graph(), []

    def work():
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("mine")
        return kernels.activation_forward(numbers(2, 2), "relu")

    graph(work)
    with pytest.raises(KeyError, match="mine"):
        graph(work)
    assert Kernel.notes is None


def test_the_reference_has_none():
    with kernels.use("reference"):
        assert kernels.graph(np.zeros(1)) is None
