"""Every op of every set: its gradients are the truth's, and it keeps the laws of the contract.

The reference set is held to central differences, in float64, of the loss sum(y * r) with a random r; the other sets
to the reference set, on what hypothesis draws: shapes, layouts, masks, values.
"""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
from calls import (
    SETS,
    accumulators,
    backward,
    central_differences,
    comparable,
    cotangents,
    differentiable,
    error,
    forward,
    function,
    guards_stand,
    without,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import OPS, calls

from tinyllm import kernels

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


every_set = pytest.mark.parametrize("any_set", SETS)
every_fast_set = pytest.mark.parametrize("fast_set", [name for name in SETS if name != "reference"])
every_op = pytest.mark.parametrize("op", OPS)
many = settings(max_examples=3 * settings.default.max_examples)  # a third of what hypothesis draws is alike
both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(autouse=True, scope="module")
def several_chunks():
    """A chunk of logits that ends often."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cpu", "cuda"):
            patch.setattr(importlib.import_module(f"tinyllm.kernels.{name}.loss"), "CHUNK", 300)
        yield


@every_fast_set
@pytest.mark.parametrize("op", kernels.FILE_OF)
def test_signature_is_the_references(op, fast_set):
    """Names, order and defaults: whoever knows one set can call the others."""
    ours, truth = inspect.signature(function(op, fast_set)), inspect.signature(function(op, "reference"))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in truth.parameters.values()
    ]


@every_op
@many
@given(st.data())
def test_gradients_are_central_differences(op, data):
    d, arguments = data.draw(calls(op, tiny=True))
    outputs = forward(op, "reference", arguments)
    if arguments.get("activation") == "relu" and "u" in outputs:
        assume(np.abs(outputs["u"]).min(initial=1) > 1e-3)  # off the corner
    dys = cotangents(op, d, outputs)
    sums, _ = accumulators(op, d, arguments)
    before = {name: a.copy() for name, a in sums.items()}
    gradients = backward(op, "reference", arguments, outputs, {**dys, **sums})
    for name in differentiable(op, arguments):

        def objective(value, name=name):
            y = forward(op, "reference", {**arguments, name: value})
            return sum(np.sum(y[dy[1:]] * r) for dy, r in dys.items())

        gradient = gradients[f"d{name}"] - before.get(f"d{name}", 0)
        assert error(gradient, central_differences(objective, arguments[name])) < 1e-8, f"d{name}"


@every_fast_set
@both_dtypes
@every_op
@many
@given(st.data())
def test_equals_the_reference(op, dtype, fast_set, data):
    """In float32 too the truth is the reference in float64, on the same float32 numbers."""
    d, arguments = data.draw(calls(op, dtype))
    wide = {n: a.astype("f8") if isinstance(a, np.ndarray) and a.dtype == dtype else a for n, a in arguments.items()}
    truth, outputs = forward(op, "reference", wide), forward(op, fast_set, arguments)
    expected = comparable(op, wide, truth)
    for name, y in comparable(op, arguments, outputs).items():
        assert error(y, expected[name]) < TOLERANCE[dtype], name

    dys = cotangents(op, d, outputs, some=True)
    sums = without(op, accumulators(op, d, arguments)[0], keep=lambda name: d.of(True, True, False))
    wide_given = {n: a.astype("f8") if isinstance(a, np.ndarray) else a for n, a in {**dys, **sums}.items()}
    expected = backward(op, "reference", wide, truth, wide_given)
    for name, gradient in backward(op, fast_set, arguments, outputs, {**dys, **sums}).items():
        if gradient is not None:
            assert error(gradient, expected[name]) < TOLERANCE[dtype], name


@every_set
@both_dtypes
@every_op
@given(st.data())
def test_keeps_the_laws(op, dtype, any_set, data):
    """Dtype in, dtype out; inputs stay as they were; results are new; parameter gradients add up; None is not computed."""
    d, arguments = data.draw(calls(op, dtype))
    outputs = forward(op, any_set, arguments)
    dys = cotangents(op, d, outputs)
    sums, buffer = accumulators(op, d, arguments)
    start = {name: a.copy() for name, a in sums.items()}
    kept = {name: np.copy(a) for name, a in {**arguments, **outputs, **dys}.items() if isinstance(a, np.ndarray)}

    again = {name: a.copy() for name, a in sums.items()}
    first = {n: np.copy(g) for n, g in backward(op, any_set, arguments, outputs, {**dys, **sums}).items()}
    backward(op, any_set, arguments, outputs, {**dys, **again})
    for name, a in again.items():
        assert np.array_equal(a, first[name]), f"{name} differs in a second run"
    second = backward(op, any_set, arguments, outputs, {**dys, **sums})  # may write over nothing that the first needs
    for name, total in sums.items():
        once, twice = first[name] - start[name], total - start[name]
        assert error(twice, 2 * once) < TOLERANCE[dtype], f"{name} does not accumulate"
    alone = backward(op, any_set, arguments, outputs, {**dys, **without(op, sums)})

    for name, a in kept.items():
        assert np.array_equal({**arguments, **outputs, **dys}[name], a), f"{name} was written into"
    for name in OPS[op].returns:
        assert np.array_equal(first[name], second[name]), f"{name} differs in a second backward"
        assert np.array_equal(first[name], alone[name]), f"{name} depends on whether dw is wanted"
        for a in (*arguments.values(), *dys.values()):
            assert not (isinstance(a, np.ndarray) and np.may_share_memory(a, second[name])), f"{name} is no new array"
    assert guards_stand(sums, buffer), "written beside a parameter's gradient"
    for name, a in {**outputs, **second}.items():
        assert a is None or isinstance(a, float) or a.dtype == ("float64" if name == "lse" else dtype), (
            f"{name} is {a.dtype}"
        )
