"""Which device the cuda set runs on: the GPU with CuPy, or the emulator with NumPy's arrays in place of the GPU's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..host import INSTALL_CUDA
from ..host import emulated as emulated
from . import recording

SHARED_MEMORY = 97  # cudaDevAttrMaxSharedMemoryPerBlockOptin
SMALL, UPLOADS = 1 << 16, 32  # bytes of an array that `uploaded` keeps, and how many of them
_uploads: dict[Any, Any] = {}


@functools.cache
def name_of(dtype: Any) -> str:
    """dtype.name, or dtype.str of numbers in another byte order, which no kernel computes with. NumPy puts the name together
    each time. That takes half as long as a launch, which needs it several times."""
    return dtype.name if dtype.isnative else dtype.str


@functools.cache
def cupy() -> Any:
    """CuPy, with a GPU that it can use. Raises RuntimeError where either is missing."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"CUDA needs CuPy, which cannot be imported ({error}): {INSTALL_CUDA}") from error
    if not cupy.cuda.is_available():
        raise RuntimeError(
            "CUDA needs an NVIDIA GPU with driver 580 or newer, and CuPy finds none; use the device 'cpu', or set "
            "TINYLLM_DEVICE=emulated to run the kernels on the CPU, slowly, to learn from them"
        )
    return cupy


@functools.cache
def shared_memory() -> int:
    """The bytes of shared memory that a block can have on this GPU."""
    runtime = cupy().cuda.runtime
    return runtime.deviceGetAttribute(SHARED_MEMORY, runtime.getDevice())


def array_module(x: Any) -> Any:
    """NumPy or CuPy: the module whose functions make arrays of the kind that x is."""
    if not isinstance(x, np.ndarray):
        return cupy()
    if not emulated():
        raise TypeError(
            "a CUDA kernel got a NumPy array: move it to the GPU by cupy.asarray, or set TINYLLM_DEVICE=emulated to run "
            "the kernels on the CPU, slowly, to learn from them"
        )
    return np


class EmulatedArray(np.ndarray):
    """A NumPy array that stands for one on the GPU: every op on it goes to the cuda set.

    Like CuPy's arrays it does not mix with NumPy's: what forgets to move an array is found out without a GPU.
    """

    emulates_gpu = True  # by which kernels/device.py knows it, without an import of this file

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple[Any, ...] = (), **options: Any) -> Any:
        refuse_host_arrays(ufunc.__name__, (*inputs, *out))
        plain = [a.view(np.ndarray) if isinstance(a, EmulatedArray) else a for a in inputs]
        compute = functools.partial(getattr(ufunc, method), *plain, **options)
        if out:
            recording.do(functools.partial(compute, out=tuple(a.view(np.ndarray) for a in out)))
            return out[0] if len(out) == 1 else out
        return as_emulated(recording.made(compute))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        for a in args if function is not np.copyto else ():  # zeros_like copies a 0 of its own
            refuse_host_arrays(function.__name__, a if isinstance(a, (tuple, list)) else (a,))
        return as_emulated(recording.made(functools.partial(super().__array_function__, function, types, args, options)))

    def __getitem__(self, index: Any) -> Any:
        return as_emulated(recording.made(functools.partial(super().__getitem__, index)))

    def __setitem__(self, index: Any, value: Any) -> None:
        refuse_host_arrays("an assignment", (value,))
        recording.do(functools.partial(super().__setitem__, index, value))


def recorded_method(name: str) -> Callable[..., Any]:
    """A method of arrays that returns another."""
    plain = getattr(np.ndarray, name)
    return lambda self, *args, **options: recording.made(functools.partial(plain, self, *args, **options))


def reading_method(name: str) -> Callable[..., Any]:
    """A method of arrays that returns to the host what they hold."""
    plain = getattr(np.ndarray, name)

    def read(self: EmulatedArray, *args: Any) -> Any:
        recording.refuse("an array of the GPU is read")
        return plain(self, *args)

    return read


for name in ("copy", "astype", "repeat", "take", "argsort", "reshape"):
    setattr(EmulatedArray, name, recorded_method(name))
for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__"):
    setattr(EmulatedArray, name, reading_method(name))


def refuse_host_arrays(what: str, values: Iterable[Any]) -> None:
    """Raises TypeError where one of the values is an array of NumPy's own."""
    for a in values:
        if type(a) is np.ndarray and a.ndim:
            raise TypeError(f"{what} mixes an array on the GPU with a NumPy array {a.shape}: move that there by to_device")


def as_emulated(result: Any) -> Any:
    return result.view(EmulatedArray) if isinstance(result, np.ndarray) else result


def to_device(array: Any, like: Any) -> Any:
    """The array on the device of `like`: so get there tokens, targets, positions and masks, which are made on the host."""
    on_host = type(array) is np.ndarray and (isinstance(like, EmulatedArray) or not isinstance(like, np.ndarray))
    if not on_host:
        return array
    recording.refuse("an array is brought to the GPU")
    return as_emulated(array) if isinstance(like, EmulatedArray) else cupy().asarray(array)


def uploaded(array: Any, like: Any) -> Any:
    """As to_device, to be read alone: of a small array that was brought there lately, for another layer say, the same copy.

    A step of generation has few numbers to compute with, and would wait longer for a mask or for positions in each layer.
    """
    if type(array) is not np.ndarray or array.nbytes > SMALL:
        return to_device(array, like)
    place = type(like) if isinstance(like, np.ndarray) else cupy().cuda.runtime.getDevice()
    key = place, array.shape, array.dtype.str, array.tobytes()
    if key not in _uploads:
        if len(_uploads) >= UPLOADS:
            _uploads.pop(next(iter(_uploads)), None)  # the oldest
        _uploads[key] = to_device(array.copy(), like)
    if recording.current is not None:
        recording.current.held.append(_uploads[key])
    return _uploads[key]


def to_host(array: Any) -> np.ndarray:
    """Any array as NumPy's own."""
    if type(array) is not np.ndarray:
        recording.refuse("an array is fetched from the GPU")
    return array.view(np.ndarray) if isinstance(array, np.ndarray) else array.get()


def refill(array: Any, values: np.ndarray) -> None:
    """array[...] = values, from the host. The array stays where it is: so a graph gets its inputs."""
    recording.refuse("an array is brought to the GPU")
    if isinstance(array, np.ndarray):
        array[...] = as_emulated(values) if isinstance(array, EmulatedArray) else values
    else:
        array.set(values)
