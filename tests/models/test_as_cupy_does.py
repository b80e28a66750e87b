"""Models on the device "cuda", whose arrays do what CuPy's do and no more: what forgets that they are elsewhere raises."""

from __future__ import annotations

import numpy as np
import pytest
from cupy_on_cpu import cupy_on_cpu, ndarray, waited  # noqa: F401
from on_cuda import require_bfloat16

import tinyllm
from tinyllm import kernels
from tinyllm.kernels.cuda.emulator.loader import require_compiler
from tinyllm.models import MODELS
from tinyllm.optim import Adafactor

try:
    require_compiler()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)
require_bfloat16()
pytestmark = pytest.mark.usefixtures("cupy_on_cpu")


def losses(model, optimizer, dtype="float32"):
    batch, options = model.example(np.random.default_rng(5)), model.example_options(np.random.default_rng(5))
    optimizer = optimizer(model, lr=1e-2)
    model.train()
    result = []
    for _ in range(3):
        model.zero_grad()
        with tinyllm.autocast(dtype):
            result.append(model.loss(*batch, **options))
            model.backward()
        tinyllm.clip_grad_norm(model, 0.5)
        optimizer.step()
    return result


@pytest.mark.parametrize("dtype", kernels.PRECISIONS)
@pytest.mark.parametrize("name", MODELS)
def test_learns(name, dtype):
    made, optimizer = MODELS[name][0].tiny, Adafactor if name == "T5" else tinyllm.Adam
    model = made().to("cuda")
    assert type(model.flat.data) is ndarray
    with kernels.use("reference"):
        expected = losses(made(), optimizer)
    np.testing.assert_allclose(losses(model, optimizer, dtype), expected, rtol=2e-5 if dtype == "float32" else 2**-7)
    assert type(model.to("cpu").flat.data) is np.ndarray


@pytest.mark.parametrize("name", MODELS)
def test_a_step_waits_for_the_loss_and_the_norm_alone(name):
    model = MODELS[name][0].tiny().to("cuda")
    batch, optimizer = model.example(np.random.default_rng(5)), tinyllm.Adam(model)
    waited.clear()
    model.zero_grad()
    model.loss(*batch)
    assert len(waited) == 1
    model.backward()
    assert len(waited) == 1
    tinyllm.clip_grad_norm(model, 1.0)
    optimizer.step()
    assert len(waited) == 2, waited


def test_a_step_of_adafactor_waits_for_nothing():
    model = tinyllm.T5.tiny().to("cuda")
    optimizer = Adafactor(model)
    waited.clear()
    optimizer.step()
    assert not waited


@pytest.mark.parametrize("name", ["GPT", "T5", "Llama"])
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"temperature": 1.0, "top_k": 3, "seed": 1}])
def test_generates(name, options):
    tokens, mask = np.array([[3, 1, 4, 1], [5, 9, 2, 6]]), np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)
    model = MODELS[name][0].tiny()
    with kernels.use("reference"):
        expected = tinyllm.generate(model, tokens, 3, attention_mask=mask, **options)
    np.testing.assert_array_equal(tinyllm.generate(model.to("cuda"), tokens, 3, attention_mask=mask, **options), expected)


def test_files_hold_what_is_on_the_device(tmp_path):
    model = tinyllm.GPT.tiny()
    before = model.flat.data.copy()
    tinyllm.save(tmp_path / "ours", model.to("cuda"))
    tinyllm.huggingface.save(tmp_path / "theirs", model)
    for folder in ("ours", "theirs"):
        read, _ = tinyllm.load(tmp_path / folder, device="cuda")
        assert type(read.flat.data) is ndarray
        np.testing.assert_array_equal(read.to("cpu").flat.data, before)


def test_accidents_are_found():
    there, here = tinyllm.GPT.tiny().to("cuda").parameters()[0].data, np.ones(8, np.float32)
    for accident in (lambda: np.asarray(there), lambda: there + here, lambda: np.concatenate([there[0], here])):
        with pytest.raises(TypeError, match=r"Implicit conversion|meets a NumPy array"):
            accident()
    with pytest.raises(TypeError, match="meets a NumPy array"):
        there[...] = here
