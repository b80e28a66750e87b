"""Arrays that do not fit: every op of the fast sets raises an error that names what is wrong, or computes what the reference
set computes. It never reads or writes outside of an array, and never takes numbers of one dtype for those of another.

A valid call is drawn as in test_ops.py. Then one of its arrays is changed: an axis shorter, longer, empty, gone or new,
another dtype, an index out of range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import SETS, accumulators, cotangents, error, forward, function, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from on_cuda import require_cuda
from strategies import OPS, Draw, calls

from tinyllm import kernels

FAST_SETS = [name for name in SETS if name != "reference"]
REFUSED = (ValueError, TypeError, IndexError)
DTYPES = ("float16", "float32", "float64", ">f4", "int8", "int32", "int64", "uint8", "bool", "complex64")


def attention_step(d: Draw) -> dict[str, Any]:
    arguments = OPS["attention"].draw(Draw(d.draw, str(d.dtype), tiny=True))
    for name in ("dropout", "seed"):
        del arguments[name]
    arguments["keys"], arguments["values"] = arguments.pop("k"), arguments.pop("v")
    T, S = arguments["q"].shape[1], arguments["keys"].shape[1]
    end = max(T, S)
    arguments["end"] = np.array([end])
    for name in ("keys", "values"):  # with room for all queries
        arguments[name] = np.concatenate([arguments[name], np.zeros_like(arguments[name])[:, :1].repeat(end, 1)], 1)
    return {**arguments, "mask": None, "bias": None}


def append(d: Draw) -> dict[str, Any]:
    B, T, S, G, D = d.of(1, 2), d.of(1, 2), d.of(3, 5), d.of(1, 2), d.of(1, 4)
    keys, values = (np.zeros((B, S, G, D), d.dtype) for _ in range(2))
    end = np.array([d.of(T, S)])
    return {"k": d.normal(B, T, G, D), "v": d.normal(B, T, G, D), "keys": keys, "values": values, "end": end}


def optimizer(d: Draw, *moments: str) -> dict[str, Any]:
    w, dw = (d.rng.standard_normal((7, 5)).astype(d.dtype) for _ in range(2))
    return {"w": w, "dw": dw, **{name: np.ones_like(w) for name in moments}, "step": 3, "lr": 0.1}


def quantized(d: Draw) -> dict[str, Any]:
    F, C = d.of(1, 3, 8), d.of(32, 40, 96)
    w = d.rng.standard_normal((F, C)).astype("f4")
    codes, scales = function("quantize", "reference")(w, d.of(16, 8, 4))
    return {"x": d.normal(*d.of((1,), (3,), (2, 2), (0,)), C), "codes": codes, "scales": scales}


def rows_of_packed(d: Draw) -> dict[str, Any]:
    packed = quantized(d)
    index = d.rng.integers(0, len(packed["codes"]), (2, 3))
    return {"index": index, "codes": packed["codes"], "scales": packed["scales"], "C": packed["x"].shape[-1]}


def with_dy(d: Draw) -> dict[str, Any]:
    packed = quantized(d)
    F = len(packed["codes"])
    return {"dy": d.normal(*packed["x"].shape[:-1], F), **packed, "db": np.zeros(F, d.dtype)}


OTHERS: dict[str, Callable[[Draw], dict[str, Any]]] = {
    "attention_step": attention_step,
    "append": append,
    "relative_bias_last": lambda d: {"w": d.normal(8, 2), "end": np.array([d.of(1, 3)]), "S": d.of(3, 5)},
    "add": lambda d: {"x": d.normal(3, 5), "f": d.normal(3, 5)},
    "adam_step": lambda d: optimizer(d, "m1", "m2"),
    "adafactor_step": lambda d: {**optimizer(d), "m2": (np.ones(7, d.dtype), np.ones(5, d.dtype))},
    "global_norm": lambda d: {"dw": d.normal(7)},
    "scale": lambda d: {"dw": d.rng.standard_normal(7).astype(d.dtype), "factor": 2.0},
    "clear": lambda d: {"dw": d.rng.standard_normal(7).astype(d.dtype)},
    "quantized_linear_forward": lambda d: {**quantized(d), "b": None},
    "quantized_linear_backward": with_dy,
    "dequantize_rows": rows_of_packed,
}


@st.composite
def calls_of(draw: st.DrawFn, op: str, dtype: str) -> dict[str, Any]:
    """A valid call of any op: its arguments by name."""
    if op in OTHERS:
        return OTHERS[op](Draw(draw, dtype, tiny=True))
    name, _, way = op.rpartition("_")
    d, arguments = draw(calls(name, dtype, tiny=True))
    if way == "forward":
        return arguments
    outputs = forward(name, "reference", arguments)
    sums, _ = accumulators(name, d, arguments)
    known = {**arguments, **outputs, **cotangents(name, d, outputs), **sums}
    return {name: known[name] for name in parameters(op) if name in known}


@st.composite
def changed(draw: st.DrawFn, a: np.ndarray) -> np.ndarray:
    """The array with one thing wrong."""
    kinds = ["dtype", "axis more"]
    if a.ndim:
        kinds += ["axis less", "shorter", "longer", "empty", "double"]
    if a.dtype.kind in "iu" and a.size:
        kinds += ["index"] * 3
    kind = draw(st.sampled_from(kinds))
    axis = draw(st.integers(0, a.ndim - 1)) if a.ndim else 0
    if kind == "dtype":
        with np.errstate(all="ignore"):
            return a.astype(draw(st.sampled_from([dtype for dtype in DTYPES if a.dtype != dtype])))
    if kind == "axis more":
        return a[None] if draw(st.booleans()) else a[..., None]
    if kind == "axis less":
        flat = not a.shape[axis] or (a.ndim > 1 and draw(st.booleans()))
        return a.reshape(-1) if flat else np.asarray(np.take(a, 0, axis))
    if kind == "shorter":
        return a[(slice(None),) * axis + (slice(1, None),)].copy()
    if kind == "longer":
        return np.concatenate([a, a[(slice(None),) * axis + (slice(0, 1),)]], axis)
    if kind == "empty":
        return a[(slice(None),) * axis + (slice(0, 0),)].copy()
    if kind == "double":
        return np.concatenate([a, a], axis)
    wrong = a.astype(np.int64)
    wrong.reshape(-1)[draw(st.integers(0, a.size - 1))] = draw(st.sampled_from([-1, -2, -101, 300, 2**31, 2**40, -(2**40)]))
    return wrong


def attempt(op: str, kernel_set: str, arguments: dict[str, Any]) -> Any:
    """What the op returns and what is in its arrays afterwards, all as copies, or the error that it raises."""
    copies = {
        name: tuple(part.copy() for part in a) if isinstance(a, tuple) else a.copy() if isinstance(a, np.ndarray) else a
        for name, a in arguments.items()
    }
    try:
        with np.errstate(all="ignore"):
            result = function(op, kernel_set)(**copies)
    except Exception as raised:
        return raised
    written = [
        part for a in copies.values() for part in (a if isinstance(a, tuple) else (a,)) if isinstance(part, np.ndarray)
    ]
    return [*(result if isinstance(result, tuple) else (result,)), *written]


def parts(x: Any) -> np.ndarray:
    """The real and the imaginary parts, without NaN."""
    return np.nan_to_num(np.array([np.real(x), np.imag(x)], "f8"))


def wanted(op: str) -> list[str]:
    ways = [f"{name}_{way}" for name in OPS for way in ("forward", "backward")]
    return [*(op for op in ways if op in kernels.FILE_OF), *OTHERS]


@pytest.mark.parametrize("fast_set", FAST_SETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", wanted("all"))
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_wrong_arguments_are_refused_or_computed_right(op, dtype, fast_set, data):
    if fast_set == "cuda":
        require_cuda()
    arguments = data.draw(calls_of(op, dtype))
    arrays = [name for name, a in arguments.items() if isinstance(a, np.ndarray)]
    name = data.draw(st.sampled_from(arrays))
    arguments[name] = data.draw(changed(arguments[name]))
    if op == "relative_bias_last":
        arguments["S"] = min(arguments["S"], 300)
    if fast_set == "cuda" and "end" in arguments and arguments["end"].shape == (1,):
        if name == "end" or "end is" in str(attempt(op, "reference", arguments)):
            return  # it is on the device, and its value is not waited for
    found = attempt(op, fast_set, arguments)
    if isinstance(found, Exception):
        assert isinstance(found, REFUSED) and str(found), f"{name}: {found!r}"
        assert "numba" not in type(found).__module__, found
        return
    if name == "logits" and op == "linear_cross_entropy_backward":
        return  # those of a chunk, which differ between the sets; they are not used if no row counts
    expected = attempt(op, "reference", arguments)
    assert not isinstance(expected, Exception), (
        f"{fast_set} computes with this {name}, and the reference raises {expected!r}"
    )
    if op.startswith("linear_cross_entropy"):  # how the logits are cut into chunks, and the lse of ignored rows, differ
        found, expected = found[:1], expected[:1]
    if op == "relative_bias_last":  # numbers after the end have no meaning
        end = int(arguments["end"][0])
        found, expected = [found[0][..., :end]], [expected[0][..., :end]]
    narrow = any(a.dtype.kind == "f" and a.itemsize < 8 for a in arguments.values() if isinstance(a, np.ndarray))
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:
            assert a is b
        else:
            assert error(parts(a), parts(b)) < (1e-3 if narrow else 1e-9), name


@pytest.mark.parametrize("kernel_set", SETS)
def test_the_end_of_a_cache_is_checked(kernel_set):
    q = np.ones((1, 1, 2, 4), "f4")
    keys, values = np.ones((2, 1, 5, 2, 4), "f4")
    if kernel_set == "cuda":
        require_cuda()
    wrong = [np.array([1], "i4"), np.array([1, 2]), np.array(3)]
    if kernel_set != "cuda":  # which does not wait for a number that is on the device
        wrong += [np.array([end]) for end in (-1, 0, 6, 2**40)]
    for end in wrong:
        for call in (
            lambda end=end: function("attention_step", kernel_set)(q, keys, values, end),
            lambda end=end: function("append", kernel_set)(q, q, keys, values, end),
            lambda end=end: function("relative_bias_last", kernel_set)(np.ones((8, 2), "f4"), end, 5),
        ):
            with pytest.raises(ValueError, match="end is"):
                call()


def test_what_attention_was_given_and_expected():
    """The message names the arrays, their shapes and what they should be."""
    q, k = np.ones((1, 6, 2, 8), "f4"), np.ones((1, 6, 2, 8), "f4")
    attention = function("attention_forward", "cpu")
    with pytest.raises(ValueError, match=r"v \(1, 3, 2, 8\) must be \(B, T, H, D\), \(B, S, G, D\)"):
        attention(q, k, k[:, :3])
    with pytest.raises(ValueError, match="H is a multiple of G"):
        attention(np.ones((1, 6, 3, 8), "f4"), k, k)
    with pytest.raises(ValueError, match=r"mask is int64 \(1, 6\); it must be bool, \(B, S\) or \(B, T, S\)"):
        attention(q, k, k, mask=np.ones((1, 6), int))
    with pytest.raises(TypeError, match="q, k, v are float32, float64, float32"):
        attention(q, k.astype("f8"), k)
