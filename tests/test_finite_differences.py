"""gradcheck itself: it passes what is right, and it fails what is wrong in one sign, one factor, one missing term."""

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm.layers import Layer, LayerNorm, Linear

X = np.random.default_rng(1).standard_normal((3, 5))


def worst(checks):
    return max(check.error for check in checks)


def test_right_layers_pass_and_stay_as_they_were():
    layer = LayerNorm(5).initialize()
    before = layer.flat.data.copy()
    assert worst(tinyllm.gradcheck(layer, X)) < 1e-8
    assert layer.flat.data.dtype == np.float32
    np.testing.assert_array_equal(layer.flat.data, before)


@pytest.mark.parametrize("wrong", ["sign of dx", "no bias", "twice dw", "dx transposed"])
def test_a_wrong_backward_is_found(wrong):
    class Wrong(Linear):
        def backward(self, dy):
            (x,) = self.kept()
            if wrong != "no bias":
                self.b.grad += dy.sum(0)
            self.w.grad += dy.T @ x * (2 if wrong == "twice dw" else 1)
            dx = dy @ (self.w.data.T if wrong == "dx transposed" else self.w.data)
            return -dx if wrong == "sign of dx" else dx

    name = {"sign of dx": "input 0", "dx transposed": "input 0", "no bias": "b", "twice dw": "w"}[wrong]
    off = {check.name for check in tinyllm.gradcheck(Wrong(5, 5).initialize(), X) if check.error > 1e-6}
    assert off == {name}


def test_a_gradient_of_the_wrong_shape_is_refused():
    class Wrong(Layer):
        def forward(self, x):
            return x * 2

        def backward(self, dy):
            return dy.T * 2

    with pytest.raises(ValueError, match=r"input 0 has shape \(5, 3\)"):
        tinyllm.gradcheck(Wrong().initialize(), X)


def test_the_command_prints_a_table_and_fails_on_a_wrong_gradient(monkeypatch):
    from tinyllm.commands.gradcheck import command
    from tinyllm.kernels.reference import attention

    good = CliRunner().invoke(command, ["gpt", "--samples", "2"])
    assert good.exit_code == 0, good.output
    assert "All 28 gradients agree" in good.output

    right = attention.sum_heads
    monkeypatch.setattr(attention, "sum_heads", lambda dk, G: right(dk, G) * 1.001)
    bad = CliRunner().invoke(command, ["gpt", "--samples", "2"])
    assert bad.exit_code == 1
    assert "WRONG" in bad.output
