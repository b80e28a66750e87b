"""Calling any op of any set by the names of its parts, and measuring how far two results lie apart."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import rounded
from on_cuda import require_cuda
from strategies import GUARD, IGNORE, OPS, Draw

from tinyllm import kernels
from tinyllm.kernels.cuda import device

SETS = ("reference", "cpu", "cuda")
STEP = 1e-4  # of the central differences; their error is of order STEP^4


def function(op: str, kernel_set: str) -> Callable[..., Any]:
    """The op of that set, for NumPy arrays: the cuda set's through the emulator, or with TINYLLM_DEVICE=gpu on the GPU.

    The set "rounded" is what the fast sets compute in bfloat16 (rounded.py).
    """
    if kernel_set == "rounded":
        return getattr(rounded, op)
    if kernel_set != "cuda":
        return kernels.implementation(op, kernel_set)
    require_cuda()
    computed = kernels.implementation(op, "cuda")
    return computed if device.emulated() else on_gpu(computed)


def on_gpu(op: Callable[..., Any]) -> Callable[..., Any]:
    """The op on copies of its arrays on the GPU; what it wrote into them comes back, and what it returns."""

    @functools.wraps(op)
    def call(*args: Any, **options: Any) -> Any:
        moved: dict[int, tuple[np.ndarray, Any]] = {}

        def there(a: Any) -> Any:
            if isinstance(a, tuple):
                return tuple(map(there, a))
            if not isinstance(a, np.ndarray):
                return a
            return moved.setdefault(id(a), (a, device.cupy().asarray(a)))[1]

        def back(a: Any) -> Any:
            if isinstance(a, tuple):
                return tuple(map(back, a))
            same = [host for host, on_device in moved.values() if on_device is a]
            return same[0] if same else a.get() if hasattr(a, "get") else a

        result = op(*map(there, args), **{name: there(a) for name, a in options.items()})
        for host, on_device in moved.values():
            if host.flags.writeable:
                host[...] = on_device.get()
        return back(result)

    return call


def parameters(op: str) -> tuple[str, ...]:
    return tuple(inspect.signature(function(op, "reference")).parameters)


def forward(op: str, kernel_set: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The outputs by name."""
    result = function(f"{op}_forward", kernel_set)(**arguments)
    names = OPS[op].outputs
    return dict(zip(names, result if len(names) > 1 else (result,), strict=True))


def backward(
    op: str, kernel_set: str, arguments: dict[str, Any], outputs: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The gradients by name; `given` holds the gradients of outputs, and the arrays to add those of parameters into."""
    known = {**arguments, **outputs, **given}
    wanted = {name: known[name] for name in parameters(f"{op}_backward") if name in known}
    result = function(f"{op}_backward", kernel_set)(**wanted)
    names = OPS[op].returns
    returned = dict(zip(names, result if len(names) > 1 else (result,), strict=True)) if names else {}
    same = {f"d{name}": {**given, **returned}[gradient] for name, gradient in OPS[op].same.items()}
    return {**given, **returned, **same}


def comparable(op: str, arguments: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs that all sets agree on: not the chunk of logits that is left, nor the lse of rows that count nowhere."""
    if op != "linear_cross_entropy":
        return outputs
    return {"loss": outputs["loss"], "lse": outputs["lse"][arguments["targets"] != IGNORE]}


def without(op: str, sums: dict[str, Any], keep: Callable[[str], bool] = lambda name: False) -> dict[str, Any]:
    """Of the accumulators those that `keep` keeps, and those without which the op's backward has nothing to do."""
    optional = inspect.signature(function(f"{op}_backward", "reference")).parameters
    return {name: a for name, a in sums.items() if keep(name) or optional[name].default is not None}


def cotangents(op: str, d: Draw, outputs: dict[str, Any], some: bool = False) -> dict[str, Any]:
    """A random gradient for each output that the backward takes one for; `some`: those that may be None sometimes are."""
    given: dict[str, Any] = {}
    for name, output in outputs.items():
        if f"d{name}" not in parameters(f"{op}_backward"):
            continue
        # a loss is a mean: times the number of rows, so that gradients are of order one
        given[f"d{name}"] = d.rng.standard_normal() * d.count if isinstance(output, float) else d.normal(*output.shape)
    if some and "dx" in given and d.maybe():
        given["dx"] = None
    return given


def accumulators(op: str, d: Draw, arguments: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Arrays with something in them already, for the gradients of parameters, and the flat buffer that they are views of.

    GUARD stands between them: whoever writes past an array is found out.
    """
    names = [name for name in arguments if f"d{name}" in parameters(f"{op}_backward") and name not in OPS[op].outputs]
    wanted = {f"d{name}": arguments[name] for name in names if arguments[name] is not None}
    buffer = np.full(sum(a.size + 16 for a in wanted.values()) + 16, GUARD, d.dtype)
    given, start = {}, 16
    for name, a in wanted.items():
        given[name] = buffer[start : start + a.size].reshape(a.shape)
        given[name][...] = d.rng.standard_normal(a.shape)
        start += a.size + 16
    return given, buffer


def guards_stand(given: dict[str, Any], buffer: np.ndarray) -> bool:
    return int((buffer == buffer.dtype.type(GUARD)).sum()) == buffer.size - sum(a.size for a in given.values())


def differentiable(op: str, arguments: dict[str, Any]) -> list[str]:
    """The arguments by which the loss has a gradient."""
    has = {*parameters(f"{op}_backward"), *OPS[op].returns, *(f"d{n}" for n in OPS[op].same)}
    return [n for n, a in arguments.items() if f"d{n}" in has and isinstance(a, np.ndarray) and a.dtype.kind == "f"]


def central_differences(objective: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """d objective / d x, number by number, by the five-point formula: exact up to STEP^4."""
    x, gradient = np.array(x), np.empty(x.shape)
    for i in np.ndindex(x.shape):
        here, value = x[i], {}
        for steps in (-2, -1, 1, 2):
            x[i] = here + steps * STEP
            value[steps] = objective(x)
        x[i] = here
        gradient[i] = (8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * STEP)
    return gradient


def error(a: Any, b: Any, floor: float = 1.0) -> float:
    """The largest difference, relative to the largest number of b, or to `floor`, the order of what cancels out in b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    if not a.size:
        return 0.0
    differ = a != b  # infinities are equal to themselves
    difference = np.subtract(a, b, where=differ, out=np.zeros(a.shape))
    return float(np.abs(difference).max() / max(np.abs(b[np.isfinite(b)]).max(initial=0), floor))
