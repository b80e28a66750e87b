"""The pool of buffers: nothing that is held is handed out again, what is let go is, and views count as holding."""

import subprocess
import sys

import numpy as np
import pytest

from tinyllm.kernels.cpu import memory

LIKE = np.empty(0, np.float32)
SIZES = (100_000,)


@pytest.fixture(autouse=True)
def fresh_pool(monkeypatch):
    monkeypatch.setattr(memory, "pool", memory.Pool(1 << 30))


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (7, 1000, 3), 5000, (1 << 20,)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_shape_dtype_and_alignment(shape, dtype):
    x = memory.empty(LIKE, shape, dtype)
    assert x.shape == np.empty(shape).shape and x.dtype == dtype and x.flags.c_contiguous and x.flags.writeable
    if x.nbytes >= memory.SMALL:
        assert address(x) % 64 == 0
    x[...] = 1
    assert not memory.zeros(LIKE, shape, dtype).any()


def test_a_released_buffer_is_used_again():
    x = memory.empty(LIKE, SIZES)
    place = address(x)
    del x
    assert address(memory.empty(LIKE, SIZES)) == place
    assert address(memory.empty(LIKE, (99_990,))) == place  # nearly the same size


def test_a_view_keeps_the_buffer():
    x = memory.empty(LIKE, SIZES)
    view = x.reshape(100, -1)[3:, ::2].T
    view[...] = 5
    del x
    others = [memory.zeros(LIKE, SIZES) for _ in range(3)]
    assert (view == 5).all()
    place = address(view.base) if view.base is not None else 0
    del view
    assert place not in [address(other) for other in others]


def test_no_two_arrays_share_memory():
    held = [memory.zeros(LIKE, SIZES) for _ in range(8)]
    for i, x in enumerate(held):
        x += i
    del held[::2]
    held += [memory.zeros(LIKE, SIZES) for _ in range(8)]
    for i, x in enumerate(held):
        x[...] = i
    assert [int(x[0]) for x in held] == list(range(len(held)))
    assert all((x == x[0]).all() for x in held)


def test_limit_and_trim(monkeypatch):
    monkeypatch.setattr(memory, "pool", memory.Pool(1 << 20))
    arrays = [memory.empty(LIKE, SIZES) for _ in range(10)]
    del arrays
    assert 0 < memory.pool.waiting <= 1 << 20
    memory.pool.trim()
    assert memory.pool.waiting == 0


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000, 16385, 1 << 20, (1 << 20) + 1, 10**9])
def test_size_classes_waste_little(n):
    assert n <= memory.size_class(n) <= max(n * 9 / 8 + 1, n + 64)
    assert memory.size_class(memory.size_class(n)) == memory.size_class(n)


def test_the_interpreter_ends_quietly():
    code = "import numpy as np; from tinyllm.kernels.cpu import memory; x = memory.empty(np.empty(0), 10**6); y = x[::2]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
