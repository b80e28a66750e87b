"""Which set computes: the array decides, `use` and the environment for NumPy's, and nothing falls back in silence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types

import numpy as np
import pytest

from tinyllm import kernels

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def calls(monkeypatch):
    """Records which set is asked for which op, and computes nothing."""
    asked = []
    for op in kernels.FILE_OF:
        getattr(kernels, op)  # made before the change, which is not to outlast this test
    monkeypatch.setattr(kernels, "implementation", lambda op, name: lambda *args, **options: asked.append((op, name)))
    return asked


def test_numpy_goes_to_the_set_in_use(calls):
    kernels.softmax_forward(X)
    with kernels.use("reference"):
        kernels.softmax_forward(X)
        with kernels.use("cpu"):
            kernels.softmax_forward(X)
    with pytest.raises(ZeroDivisionError), kernels.use("reference"):
        _ = 1 / 0
    kernels.softmax_forward(X)
    assert [name for _, name in calls] == ["cpu", "reference", "cpu", "cpu"]


def test_cupy_goes_to_cuda(calls):
    array = type("ndarray", (), {"__module__": "cupy._core.core"})()
    kernels.softmax_forward(array)
    with kernels.use("reference"):
        kernels.softmax_forward(array)
    assert calls == [("softmax_forward", "cuda")] * 2


def test_a_loss_gradient_is_no_array(calls):
    kernels.cross_entropy_backward(1.0, X, np.array([0, 1]), X[:, 0])
    assert calls == [("cross_entropy_backward", "cpu")]


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="list"):
        kernels.softmax_forward([[1.0, 2.0]])


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="softmax_sideways"):
        _ = kernels.softmax_sideways
    with pytest.raises(ValueError, match="'gpu'.*reference"), kernels.use("gpu"):
        pass
    with pytest.raises(ValueError, match="'tpu'.*cuda"):
        kernels.implementation("softmax_forward", "tpu")


def test_every_op_is_there_by_name_with_its_docstring():
    assert set(kernels.FILE_OF) <= set(dir(kernels))
    for op in kernels.FILE_OF:
        assert isinstance(getattr(kernels, op), types.FunctionType)
        assert getattr(kernels, op).__name__ == op
        assert getattr(kernels, op).__doc__


@pytest.mark.parametrize("value", ["reference", "cpu", "fast"])
def test_the_environment_chooses_for_the_process(value):
    code = "import numpy; from tinyllm import kernels; print(kernels.set_of(numpy.empty(1)))"
    environment = {**os.environ, "TINYLLM_KERNELS": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if value == "fast":
        assert done.returncode == 1 and "TINYLLM_KERNELS is 'fast'; set it to" in done.stderr
    else:
        assert done.stdout.strip() == value


LOADED = """
import sys
import numpy as np
import tinyllm
HARDWARE = ("numba", "llvmlite", "cupy", "tinyllm.kernels.cuda", "tinyllm.kernels.cpu")
def loaded():
    return [name for name in sys.modules if any(f"{name}.".startswith(f"{part}.") for part in HARDWARE)]
assert not loaded(), loaded()
"""
A_STEP = """
for model in (tinyllm.GPT, tinyllm.BERT, tinyllm.T5, tinyllm.Llama, tinyllm.OPT):
    model = model.tiny()
    model.loss(*model.example(np.random.default_rng(0)))
    model.backward()
    tinyllm.clip_grad_norm(model, 1.0)
    tinyllm.Adam(model).step()
assert not loaded(), loaded()
"""


@pytest.mark.parametrize(("kernel_set", "code"), [("cpu", LOADED), ("reference", LOADED + A_STEP)])
def test_neutral_code_loads_no_hardware(kernel_set, code):
    """An import loads neither Numba nor a set for one kind of hardware. With the reference set, nor does a training step."""
    environment = {**os.environ, "TINYLLM_KERNELS": kernel_set}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_legend_has_every_letter_of_the_docstrings():
    """A capital letter on its own in the docstring of an op is a size, and the legend says which."""
    legend = kernels.__doc__.partition("The legend")[2].partition("The laws")[0]
    known = set(re.findall(r"(?:^    |  )([A-Z])   \w", legend, re.MULTILINE))
    assert known == set("BTSNFCHGDV")
    for op in kernels.FILE_OF:
        for kernel_set in kernels.SETS:
            docstring = kernels.implementation(op, kernel_set).__doc__ or ""
            sizes = set(re.findall(r"\b[A-Z]\b", re.sub(r"\bA (?=[a-z])", "", docstring)))  # not the article
            assert sizes <= known, f"{kernel_set}.{op} uses {sorted(sizes - known)}"
