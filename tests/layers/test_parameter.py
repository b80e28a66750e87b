"""What may be assigned to a parameter's data and gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes

import tinyllm
from tinyllm.layers import Linear


def layer():
    return Linear(3, 2).initialize()


@pytest.mark.parametrize("what", ["data", "grad"])
@given(shape=array_shapes(min_dims=0, max_dims=3, max_side=3).filter(lambda shape: shape != (2, 3)))
@settings(max_examples=30, deadline=None)
def test_another_shape_is_refused(what, shape):
    w = layer().w
    before = getattr(w, what).copy()
    with pytest.raises(ValueError, match=rf"the {what} of parameter 'w' has shape \(2, 3\), and what was assigned has"):
        setattr(w, what, np.ones(shape))
    np.testing.assert_array_equal(getattr(w, what), before)


@pytest.mark.parametrize("value", [0, 1.5, None, [1, 2, 3], [[1.0], [2.0]]])
def test_numbers_and_lists_of_another_shape_too(value):
    for what in ("data", "grad"):
        with pytest.raises(ValueError, match="nothing is broadcast"):
            setattr(layer().w, what, value)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", "bool"])
def test_real_numbers_become_those_of_the_model(dtype):
    w, value = layer().w, np.array([[1, 0, 1], [0, 1, 0]], dtype)
    for what in ("data", "grad"):
        setattr(w, what, value)
        assert getattr(w, what).dtype == np.float32
        np.testing.assert_array_equal(getattr(w, what), value.astype(np.float32))


@pytest.mark.parametrize("dtype", ["complex64", "object", "U1"])
def test_others_are_refused(dtype):
    for what in ("data", "grad"):
        with pytest.raises(TypeError, match=rf"the {what} of parameter 'w' is float32, and .* cannot become that"):
            setattr(layer().w, what, np.ones((2, 3)).astype(dtype))


def test_it_stays_a_view_of_the_buffer():
    linear = layer()
    linear.w.data = [[1, 2, 3], [4, 5, 6]]
    linear.w.data -= 1
    linear.w.grad += 2
    np.testing.assert_array_equal(linear.flat.data[:6], range(6))
    np.testing.assert_array_equal(linear.flat.grad[:6], 2)


def test_a_frozen_one_has_no_gradient():
    linear = layer()
    linear.flat.freeze()
    with pytest.raises(RuntimeError, match="parameter 'w' is frozen and has no gradient"):
        linear.w.grad = np.ones((2, 3))


def test_on_another_model_of_other_sizes():
    """Copying weights by name, as people do it, finds the first that does not fit."""
    small, large = tinyllm.GPT.tiny(vocab_size=1), tinyllm.GPT.tiny()
    with pytest.raises(ValueError, match=r"parameter 'tokens.w' has shape \(13, 8\), and what was assigned has \(1, 8\)"):
        for a, b in zip(large.parameters(), small.parameters()):
            a.data = b.data
