"""CuPy's face, on the CPU: its arrays are NumPy's behind a class that does what CuPy's arrays do, and no more.

The emulator's arrays are NumPy's own, and forgive what a GPU does not: here whatever NumPy would take for granted raises, a
function that reads an array without asking for it, one that mixes it with an array of the host, a kernel's argument of a
Python type. Kernels run in the emulator, cuBLAS's products as it does them. What a stream is given while it is captured is
done when its graph is launched; what CUDA or CuPy refuse meanwhile raises. `waited` tells what waited for the GPU.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyllm.kernels.cuda import blas, device, recording
from tinyllm.kernels.cuda.emulator import MAX_SHARED, EmulatedModule
from tinyllm.kernels.cuda.module import HERE, Kernels

VALUES = "dtype", "shape", "strides", "ndim", "size", "itemsize", "nbytes", "flags"
METHODS = (
    "all", "any", "argmax", "argsort", "astype", "clip", "copy", "cumsum", "dot", "max", "mean", "min", "nonzero", "ravel",
    "repeat", "reshape", "squeeze", "std", "sum", "swapaxes", "take", "transpose", "view",
)  # fmt: skip
ON_THE_HOST = "item", "tolist", "__bool__", "__float__", "__int__"  # what these return
HOW_MANY = "nonzero", "flatnonzero", "argsort"  # CuPy waits to know how many there are; and Thrust, which sorts, waits
BINARY = "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"
COMPARED = "eq", "ne", "lt", "le", "gt", "ge"
ALONE = "neg", "abs", "invert"


def there(a: Any) -> Any:
    """What CuPy computes with."""
    if isinstance(a, (tuple, list)):
        return type(a)(map(there, a))
    if isinstance(a, np.ndarray):
        raise TypeError(f"an array on the GPU meets a NumPy array {a.shape}")
    return a.numpy if isinstance(a, ndarray) else a


def back(a: Any) -> Any:
    """A scalar of NumPy's is an array () of CuPy's."""
    if isinstance(a, (tuple, list)):
        return type(a)(map(back, a))
    return ndarray(a) if isinstance(a, (np.ndarray, np.generic)) else a


waited: list[str] = []  # by which calls


def waits(what: str) -> None:
    """What follows needs what the GPU has computed."""
    if capturing():
        raise RuntimeError(f"{what}: not permitted while a stream is captured")
    waited.append(what)


def made(compute: Callable[[], Any]) -> Any:
    """What the GPU computes, or will, in each launch of a graph."""
    return back(recording.made(lambda: np.asarray(compute())) if capturing() else compute())


def index(i: Any) -> Any:
    """CuPy takes indices from the host."""
    return tuple(map(index, i)) if isinstance(i, tuple) else i if isinstance(i, np.ndarray) else there(i)


class ndarray:
    """CuPy's array class, as far as we use it."""

    __module__ = "cupy"  # by which an op knows it
    __slots__ = ("numpy", "base")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, a: Any):
        self.numpy, self.base = np.asarray(a), None

    data = property(lambda self: types.SimpleNamespace(ptr=self.numpy.ctypes.data))
    T = property(lambda self: ndarray(self.numpy.T))

    def owning(self, result: Any) -> Any:
        """The result, with the array whose memory it shares, as its `base`."""
        if isinstance(result, ndarray) and np.may_share_memory(result.numpy, self.numpy):
            result.base = self if self.base is None else self.base
        return result

    def get(self) -> np.ndarray:
        waits("get")
        return self.numpy.copy()

    def set(self, values: np.ndarray) -> None:
        waits("set")  # of memory that is not pinned
        assert type(values) is np.ndarray and (values.dtype, values.shape) == (self.dtype, self.shape)
        self.numpy[...] = values

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        compute = functools.partial(getattr(ufunc, method), *there(inputs), **options)
        if not out:
            return made(compute)
        recording.do(lambda: compute(out=there(out)))
        return out[0]

    def __array_function__(self, function: Any, kinds: Any, args: Any, options: Any) -> Any:
        if function.__name__ in HOW_MANY:
            waits(function.__name__)
        args, options = there(args), {name: there(a) for name, a in options.items()}
        return made(lambda: function(*args, **options))

    def __getitem__(self, i: Any) -> Any:
        i = index(i)
        if isinstance(i, np.ndarray) and i.dtype == bool:
            waits("mask")
        return self.owning(made(lambda: self.numpy[i]))

    def __setitem__(self, i: Any, value: Any) -> None:
        i, value = index(i), there(value)
        recording.do(lambda: self.numpy.__setitem__(i, value))


def install_methods() -> None:
    def method(name: str) -> Any:
        if name in HOW_MANY:
            return lambda self, *args, **options: waits(name) or back(getattr(self.numpy, name)(*there(args), **options))
        return lambda self, *args, **options: self.owning(
            made(functools.partial(getattr(self.numpy, name), *there(args), **options))
        )

    def on_the_host(name: str) -> Any:
        def read(self: ndarray, *args: Any) -> Any:
            waits(name)
            return getattr(self.numpy, name)(*args)

        return read

    def in_place(name: str) -> Any:
        def compute(self: ndarray, other: Any) -> ndarray:
            other = there(other)
            recording.do(lambda: self.numpy.__setitem__(..., getattr(operator, name)(self.numpy, other)))
            return self

        return compute

    for name in VALUES:
        setattr(ndarray, name, property(operator.attrgetter(f"numpy.{name}")))
    for name in METHODS:
        setattr(ndarray, name, method(name))
    for name in ON_THE_HOST:
        setattr(ndarray, name, on_the_host(name))
    ndarray.__len__ = lambda self: len(self.numpy)  # type: ignore[attr-defined]
    ndarray.fill = lambda self, value: self.__setitem__(..., value)  # type: ignore[attr-defined]
    for name in (*BINARY, *COMPARED, *ALONE):
        setattr(ndarray, f"__{name}__", method(f"__{name}__"))
    for name in BINARY:
        setattr(ndarray, f"__r{name}__", method(f"__r{name}__"))
        setattr(ndarray, f"__i{name}__", in_place(f"__{name}__"))


install_methods()


class RawModule:
    def __init__(self, code: str, options: tuple[str, ...], name_expressions: list[str]):
        file = re.findall(r'^#line 1 "(.*)"', code)[0]
        self.module = EmulatedModule((HERE / file).read_text("utf-8"), (), name_expressions, file)

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self.module.get_function(name))


class RawKernel:
    kernel: Any

    def __init__(self, kernel: Any):
        self.__dict__["kernel"] = kernel

    def __setattr__(self, name: str, value: Any) -> None:
        assert name == "max_dynamic_shared_size_bytes"
        setattr(self.kernel, name, value)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0) -> None:
        assert all(isinstance(a, (ndarray, np.generic)) for a in args), "CuPy guesses the size of a Python number"
        assert capturing() == (recording.current is not None), "a graph's work goes to the stream that is captured"
        self.kernel(grid, block, tuple(map(there, args)), shared_mem=shared_mem)


def gemm_ex(handle: int, *arguments: Any) -> None:
    assert all(type(a) is int for a in arguments)
    assert not capturing(), "CuPy refuses it"
    blas.emulated_gemm_ex(*arguments)


def asarray(a: Any) -> ndarray:
    if isinstance(a, ndarray):
        return a
    assert not capturing(), "each launch would bring what lies there then"
    return ndarray(np.array(a))  # a copy, through pinned memory


class Stream:
    """A stream other than the default one, within `with` the current one; and while it is captured, its graph."""

    current: Stream | None = None

    def __init__(self, non_blocking: bool = False):
        assert non_blocking, "such a stream waits for the default one, which may not be while it is captured"
        self.captured = False

    def __enter__(self) -> Stream:
        Stream.current = self
        return self

    def __exit__(self, *_: Any) -> None:
        assert not self.captured
        Stream.current = None

    def begin_capture(self) -> None:
        assert Stream.current is self and MemoryPool.current, "or others would be given its memory"
        self.captured = True

    def end_capture(self) -> Any:
        self.captured = False
        assert recording.current
        return types.SimpleNamespace(launch=recording.current.launch)


class MemoryPool:
    current: Any = None

    def malloc(self, size: int) -> None: ...


@contextlib.contextmanager
def using_allocator(allocator: Any) -> Any:
    MemoryPool.current = allocator
    yield
    MemoryPool.current = None


def capturing() -> bool:
    return Stream.current is not None and Stream.current.captured


def modules() -> dict[str, types.ModuleType]:
    """What `import cupy` and the like shall find."""
    names = "cupy", "cupy.cuda", "cupy.cuda.device", "cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"
    found = {name: types.ModuleType(name) for name in (*names, "cupy_backends.cuda.libs.cublas")}
    for name, module in found.items():
        above, _, own = name.rpartition(".")
        if above:
            setattr(found[above], own, module)
    cupy: Any = found["cupy"]
    cupy.ndarray, cupy.RawModule, cupy.asarray, cupy.__version__ = ndarray, RawModule, asarray, "on the CPU"
    cupy.cuda.is_available = lambda: True
    cupy.cuda.Stream, cupy.cuda.MemoryPool, cupy.cuda.using_allocator = Stream, MemoryPool, using_allocator
    cupy.cuda.runtime = types.SimpleNamespace(
        getDevice=lambda: 0, deviceGetAttribute=lambda what, which: MAX_SHARED, memGetInfo=lambda: (1 << 37, 1 << 37)
    )
    cupy.__getattr__ = lambda name: (
        lambda *args, **options: made(functools.partial(getattr(np, name), *there(args), **options))
    )
    found["cupy.cuda.device"].__dict__["get_cublas_handle"] = lambda: 1
    found["cupy_backends.cuda.libs.cublas"].__dict__["gemmEx"] = gemm_ex
    return found


@pytest.fixture
def cupy_on_cpu(monkeypatch: pytest.MonkeyPatch):
    """Within the test the device "cuda" is a GPU with CuPy, as far as our code can tell."""
    caches = device.cupy, device.shared_memory, Kernels.kernel, Kernels.module

    def forget() -> None:
        device._uploads.clear()
        for cache in caches:
            cache.cache_clear()

    monkeypatch.setenv("TINYLLM_DEVICE", "gpu")
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    forget()
    yield
    forget()
