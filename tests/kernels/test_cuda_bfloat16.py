"""The CUDA ops on bfloat16 arrays, as a training step has them: computed in float32, what is summed up kept in float32.

The truth is the reference in float64, on the same rounded numbers: the arguments, and for a backward the forward's own
outputs. What is then left are the roundings of a result, each by 2^-9 of it at most, and of what it is computed from.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from calls import accumulators, backward, comparable, cotangents, error, forward, function, guards_stand
from hypothesis import given, settings
from hypothesis import strategies as st
from on_cuda import require_bfloat16
from strategies import OPS, calls

bfloat16 = require_bfloat16()

EXACT = 2e-5  # sums in float32 of float32 numbers, as in test_ops.py
ROUNDED = 2**-8  # a result rounded once, and the sums
TWICE = 2**-6  # computed from a rounded product (by C numbers' roundings, which cancel out in part), and rounded again
LOGITS = 2**-5  # logits of up to 4 are off by 2^-7: so are, relatively, their exponentials
TOLERANCE = {
    "linear": TWICE,
    "linear_activation": TWICE,
    "linear_cross_entropy": LOGITS,
}
IN_FLOAT32 = {"mean", "rstd"}  # results that a backward multiplies by
EXACT_SUMS = {op for op in OPS if op not in ("attention", "linear_activation", "linear_cross_entropy")}


@pytest.fixture(autouse=True, scope="module")
def several_chunks():
    """A chunk of logits that ends often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("tinyllm.kernels.cuda.loss"), "CHUNK", 300)
        yield


def cast(values, dtype, kinds):
    return {n: a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind in kinds else a for n, a in values.items()}


def widened(values):
    return cast(values, "float64", "fV")


def drawn(data, op):
    """A call in bfloat16. Logits are made small: rounded ones of 50 would be off by 0.1."""
    d, arguments = data.draw(calls(op, "float32"))
    if op == "linear_cross_entropy":
        arguments["x"] = arguments["x"] / np.float32(np.sqrt(arguments["x"].shape[-1]))
    return d, cast(arguments, bfloat16, "f")


def truth_of(op, arguments, outputs):
    """The reference's outputs; those of a norm after a sum are of the rounded sum."""
    wide = widened(arguments)
    whole = forward(op, "reference", wide)
    if not op.startswith("add_"):
        return whole
    rounded = {**wide, "x": outputs["x"].astype("f8"), "f": np.zeros(wide["x"].shape)}
    return {**forward(op, "reference", rounded), "x": whole["x"]}


@pytest.mark.parametrize("op", [op for op in OPS if op != "attention"])  # test_cuda_attention.py
@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_equals_the_reference(op, data):
    d, arguments = drawn(data, op)
    outputs = forward(op, "cuda", arguments)
    truth = truth_of(op, arguments, outputs)
    expected = comparable(op, arguments, truth)
    for name, y in comparable(op, arguments, outputs).items():
        narrow = y is not None and name not in IN_FLOAT32 | {"loss", "lse"}
        dtype = "float64" if name == "lse" else bfloat16 if narrow else "float32"
        assert y is None or isinstance(y, float) or y.dtype == dtype, name
        tolerance = TOLERANCE.get(op, ROUNDED) if narrow or op == "linear_cross_entropy" else EXACT
        assert error(y, expected[name]) < tolerance, name

    dys = cast(cotangents(op, d, outputs), bfloat16, "f")
    sums, buffer = accumulators(op, d, arguments)
    if op != "linear_cross_entropy":  # whose sets may end with other chunks
        truth = widened(outputs)
    expected = backward(op, "reference", widened(arguments), truth, widened({**dys, **sums}))
    gradients = backward(op, "cuda", arguments, outputs, {**dys, **sums})
    assert guards_stand(sums, buffer), "written beside a parameter's gradient"
    for name in (*OPS[op].returns, *sums):
        assert gradients[name].dtype == ("float32" if name in sums else bfloat16), name
        exact = name in sums and op in EXACT_SUMS
        tolerance = EXACT if exact else TOLERANCE.get(name, TOLERANCE.get(op, ROUNDED))
        assert error(gradients[name], expected[name]) < tolerance, name


def test_gradients_of_parameters_keep_what_bfloat16_would_lose():
    """1 + 2^-10 is 1 in bfloat16: of a thousand such rows nothing would arrive."""
    dy = np.full((1000, 3), 2**-10, bfloat16)
    sums = np.ones((5, 3), np.float32)
    function("embedding_backward", "cuda")(dy, np.full(1000, 4), sums)
    assert sums[4].tolist() == [1 + 1000 * 2**-10] * 3 and (sums[:4] == 1).all()


def test_rows_of_activations_go_back_into_activations():
    """Where a head looks at some rows alone, their gradient is one of activations, and in bfloat16 as they are."""
    dh, rows = np.zeros((4, 8), bfloat16), np.arange(16, dtype=np.float32).reshape(2, 8).astype(bfloat16)
    function("embedding_backward", "cuda")(rows, np.array([3, 0]), dh)
    assert (dh[[3, 0]] == rows).all() and not dh[1:3].astype("f4").any()


def test_a_gradient_in_bfloat16_is_refused():
    x, w = np.ones((2, 4), bfloat16), np.ones((3, 4), bfloat16)
    dy, dw = np.ones((2, 3), bfloat16), np.zeros((3, 4), bfloat16)
    with pytest.raises(ValueError, match=r"dw is writeable bfloat16 \(3, 4\); the gradient needs writeable float32"):
        function("linear_backward", "cuda")(dy, x, w, dw)
