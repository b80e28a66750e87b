"""The contract at the top of layers/layer.py: each way to break it is one clear sentence."""

import copy

import numpy as np
import pytest

from tinyllm.layers import Layer, Linear
from tinyllm.layers.parameter import Parameter, constant

X = np.ones((2, 3), "f4")


class Holder(Layer):
    def __init__(self, value):
        super().__init__()
        self.held = value


@pytest.mark.parametrize(
    "value",
    [{"a": Linear(3, 3)}, (Linear(3, 3),), {1: [Linear(3, 3)]}, (1, (Parameter((1,), constant(0)),))],
    ids=["dict", "tuple", "list in a dict", "tuple in a tuple"],
)
def test_containers_whose_layers_would_be_missed(value):
    with pytest.raises(TypeError, match="Holder.held is a (dict|tuple) with layers or parameters in it.*use a list"):
        Holder(value).initialize()


def test_lists_of_layers_and_of_parameters_are_children():
    holder = Holder([Linear(3, 2), Parameter((4,), constant(1))]).initialize()
    assert [p.name for p in holder.parameters()] == ["held.0.w", "held.0.b", "held.1"]
    assert Holder({"options": (1, 2)}).initialize().parameters() == []


def test_backward_without_its_forward():
    layer = Linear(3, 3).initialize()
    with pytest.raises(RuntimeError, match=r"Linear.backward\(\) needs a forward pass before it"):
        layer.backward(X)
    layer(X)
    layer.backward(X)
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        layer.backward(X)  # the second one for one forward


def test_backward_that_forgets_its_return():
    class Forgetful(Linear):
        def backward(self, dy):
            super().backward(dy)

    layer = Forgetful(3, 3).initialize()
    layer(X)
    with pytest.raises(TypeError, match=r"Forgetful.backward\(\) returned None instead of the gradient of its input"):
        layer.backward(X)


def test_backward_that_has_nothing_to_return():
    class Source(Layer):
        def forward(self, x):
            return x

        def backward(self, dy) -> None:
            pass

    assert Source().backward(X) is None


def test_a_layer_without_super_init():
    class Bare(Layer):
        def __init__(self):
            self.inner = Linear(3, 3)

        def forward(self, x):
            self.keep(x)
            return x

    with pytest.raises(RuntimeError, match=r"Bare.__init__ must call super\(\).__init__\(\) first"):
        Bare()(X)
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'colour'"):
        _ = Linear(3, 3).colour


def test_a_backward_leaves_dy_alone():
    layer = Linear(3, 3).initialize()
    dy = np.ones((2, 3), "f4")
    dy.flags.writeable = False
    layer(X)
    layer.backward(dy)


def test_a_copy_has_memory_of_its_own():
    layer = Linear(3, 3).initialize()
    twin = copy.deepcopy(layer)
    twin.w.data += 1
    assert np.shares_memory(twin.w.data, twin.flat.data) and not np.shares_memory(twin.w.data, layer.w.data)
    assert (twin.w.data == layer.w.data + 1).all()


def test_views_follow_the_memory():
    layer = Linear(3, 3).initialize()
    before = layer.w.data
    layer.flat.cast("float64")
    assert layer.w.data.dtype == np.float64 and before.dtype == np.float32
    layer.w.data = np.full((3, 3), 5)
    assert (layer.flat.data[:9] == 5).all() and (layer.w.data == 5).all()
    with pytest.raises(RuntimeError, match="has no memory yet"):
        _ = Linear(3, 3).w.data


def test_a_forward_that_is_replaced_on_one_layer_is_called():
    layer, other = Linear(3, 3).initialize(), Linear(3, 3).initialize()
    forward = layer.forward
    layer.forward = lambda x: forward(x) + 1
    np.testing.assert_array_equal(layer(X), other(X) + 1)
