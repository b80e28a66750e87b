"""One table of activations: every set implements all of it and nothing else, and an unknown name is an error everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from calls import SETS, function

from tinyllm.kernels.activations import ACTIVATIONS, PerActivation, activation_named
from tinyllm.kernels.cpu import activation as cpu
from tinyllm.kernels.cuda import activation as cuda
from tinyllm.kernels.reference import activation as reference
from tinyllm.layers import MLP, GatedMLP

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
TABLES = {"reference": reference.FUNCTIONS, "cpu": cpu.CODES, "cuda": cuda.IN_CUDA}
CALLS = {
    "activation_forward": (X,),
    "activation_backward": (X, X),
    "gated_forward": (X,),
    "gated_backward": (X[:, :2], X),
    "linear_activation_forward": (X, W, W[0]),
    "linear_activation_backward": (X, X, W, X, None, None),
}


def fails(op: str, kernel_set: str, name: str) -> str:
    with pytest.raises(ValueError) as raised:
        function(op, kernel_set)(*CALLS[op], activation=name)
    return str(raised.value)


def test_each_set_implements_exactly_the_table():
    for table in TABLES.values():
        assert {*table} == {*ACTIVATIONS}
        assert len({*table.values()}) == len(table)


@pytest.mark.parametrize("kernel_set", SETS)
@pytest.mark.parametrize("op", CALLS)
def test_an_unknown_one_is_an_error(op, kernel_set):
    known = f"which is not an activation of this kernel set; pass one of {', '.join(map(repr, ACTIVATIONS))}"
    assert fails(op, kernel_set, "swish") == f"activation is 'swish', {known}"


def test_a_set_that_differs_from_the_table_cannot_be_imported(monkeypatch):
    entries = dict.fromkeys(ACTIVATIONS, 0)
    PerActivation(**entries)
    with pytest.raises(RuntimeError, match="a kernel set and .*activations.py differ in: sine. Add it to both"):
        PerActivation(**entries, sine=1)
    monkeypatch.setitem(ACTIVATIONS, "sine", ())  # in the table, and forgotten in the set
    with pytest.raises(RuntimeError, match="differ in: sine"):
        PerActivation(**entries)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_code_without_a_branch_gives_nan(dtype):
    x = X[0].astype(dtype)
    for code in (-1, len(cpu.CODES)):
        y, dx = np.zeros_like(x), np.zeros_like(x)
        cpu.apply(code, x, y)
        cpu.apply_derivative(code, x, x, dx)
        assert np.isnan(y).all() and np.isnan(dx).all()


def test_the_layers_take_hugging_faces_names(monkeypatch):
    for ours, theirs in ACTIVATIONS.items():
        for name in (ours, *theirs):
            assert MLP(4, 8, name).up.activation == GatedMLP(4, 8, name).activation == activation_named(name) == ours
    message = (
        "the activation 'mish' is not supported; pass one of 'gelu', 'gelu_python', 'gelu_tanh', .*'silu', 'swish', 'tanh'"
    )
    for layer in (MLP, GatedMLP):
        with pytest.raises(ValueError, match=message):
            layer(4, 8, "mish")
    monkeypatch.delitem(ACTIVATIONS, "silu")
    with pytest.raises(ValueError, match="the activation 'swish' is not supported"):
        GatedMLP(4, 8, "swish")
