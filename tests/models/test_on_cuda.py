"""Whole models on the cuda set, emulated or on a GPU: they learn as on the cpu set."""

from __future__ import annotations

import numpy as np
import pytest
from on_cuda import require_bfloat16, require_cuda

import tinyllm
from tinyllm import kernels
from tinyllm.kernels.cpu.simd import BFLOAT16
from tinyllm.kernels.cuda import device
from tinyllm.models import MODELS

require_cuda()

emulated_only = pytest.mark.skipif(not device.emulated(), reason="what NumPy arrays do that stand for the GPU's")

TINY = {
    "GPT": lambda: tinyllm.GPT.tiny(),
    "BERT": lambda: tinyllm.BERT.tiny(),
    "T5": lambda: tinyllm.T5.tiny(),
    "Llama": lambda: tinyllm.Llama.tiny(),
    "OPT": lambda: tinyllm.OPT.tiny(),
}


def losses(model, steps=3):
    """Of a few steps, dropout, clipping and weight decay included."""
    batch, options = model.example(np.random.default_rng(5)), model.example_options(np.random.default_rng(5))
    optimizer = tinyllm.Adam(model, lr=1e-2, weight_decay=0.1)
    model.train()
    result = []
    for _ in range(steps):
        model.zero_grad()
        result.append(model.loss(*batch, **options))
        model.backward()
        tinyllm.clip_grad_norm(model, 0.5)
        optimizer.step()
    return result


@emulated_only
@pytest.mark.parametrize("name", TINY)
def test_learns_as_on_the_cpu(name):
    expected = losses(TINY[name]())
    with kernels.use("cuda"):
        found = losses(TINY[name]())
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("name", MODELS)
def test_learns_on_the_device(name):
    """By `to`, as on a GPU: the emulated device's arrays refuse to mix with NumPy's, as CuPy's do."""
    tiny = MODELS[name][0].tiny
    expected, model = losses(tiny()), tiny().to("cuda")
    assert model.device == "cuda"
    np.testing.assert_allclose(losses(model), expected, rtol=2e-5)
    assert model.to("cpu").device == "cpu" and type(model.parameters()[0].data) is np.ndarray


@pytest.mark.parametrize("name", TINY)
def test_learns_in_bfloat16(name):
    """Products of factors rounded to bfloat16, as the cpu set rounds them; but attention, there rounded as well, is
    float32 for float32 arrays here, and the losses differ by less than a rounding to bfloat16."""
    require_bfloat16()
    if not BFLOAT16:
        pytest.skip("this processor does not multiply in bfloat16")
    exact = losses(TINY[name]())
    with kernels.autocast("bfloat16"):
        expected = losses(TINY[name]())
        found = losses(TINY[name]().to("cuda"))
    np.testing.assert_allclose(found, expected, rtol=2**-8)
    assert found != exact


@pytest.mark.parametrize("name", ["GPT", "T5", "Llama", "OPT"])
def test_generates_on_the_device(name):
    tokens = np.array([[3, 1, 4, 1], [5, 9, 2, 6]])
    mask = np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)
    options = {"max_new_tokens": 3, "attention_mask": mask}
    expected = tinyllm.generate(TINY[name](), tokens, **options)
    np.testing.assert_array_equal(tinyllm.generate(TINY[name]().to("cuda"), tokens, **options), expected)


def test_trains_resumes_and_is_read_again(tmp_path):
    """A run on the device, broken off and resumed there, is the run on the cpu; files are the same wherever it computes."""
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 50, encoding="utf-8")
    options = {"data": text, "n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 8, "batch_size": 3, "tokenizer": "char"}
    options |= {"sample_tokens": 4, "eval_every": 3, "eval_batches": 2, "dropout": 0.1, "lr": 1e-2}
    expected, _ = tinyllm.train("gpt", steps=6, **options)
    tinyllm.train("gpt", steps=3, out=tmp_path / "run", device="cuda", **options)
    model, _ = tinyllm.resume(tmp_path / "run", steps=6)
    assert model.device == "cuda" and expected.device == "cpu"
    for read in (
        model.to("cpu"),
        tinyllm.load(tmp_path / "run")[0],
        tinyllm.load(tmp_path / "run", device="cuda")[0].to("cpu"),
    ):
        np.testing.assert_allclose(read.flat.data, expected.flat.data, atol=1e-4)


def test_hugging_face_files_from_the_device(tmp_path):
    model = tinyllm.GPT.tiny()
    expected = tinyllm.huggingface.state_dict(model)
    found = tinyllm.huggingface.state_dict(model.to("cuda"))
    assert all(type(a) is np.ndarray and np.array_equal(a, expected[name]) for name, a in found.items())
    tinyllm.huggingface.save(tmp_path / "hf", model)
    again, _ = tinyllm.load(tmp_path / "hf", device="cuda")
    assert again.device == "cuda" and np.array_equal(again.to("cpu").flat.data, model.to("cpu").flat.data)


@emulated_only
def test_arrays_of_two_devices_do_not_mix():
    model = tinyllm.GPT.tiny().to("cuda")
    weight, host = model.parameters()[0].data, np.ones(8, np.float32)
    assert type(np.concatenate([weight, weight])) is device.EmulatedArray
    for mixed in (
        lambda: weight + host,
        lambda: host * weight,
        lambda: np.concatenate([weight[0], host]),
        lambda: kernels.add_rmsnorm_forward(weight, weight, host),
    ):
        with pytest.raises(TypeError, match="mixes an array on the GPU with a NumPy array"):
            mixed()
    with pytest.raises(TypeError, match="an assignment mixes"):
        weight[...] = np.ones(weight.shape, np.float32)


def test_devices_that_are_not_there(monkeypatch):
    with pytest.raises(ValueError, match="device 'tpu' is not known"):
        tinyllm.GPT.tiny().to("tpu")
    monkeypatch.setenv("TINYLLM_DEVICE", "gpu")
    monkeypatch.setattr(device, "cupy", lambda: (_ for _ in ()).throw(RuntimeError("CUDA needs CuPy")))
    for asked in (lambda: tinyllm.GPT.tiny().to("cuda"), lambda: tinyllm.load("anything", device="cuda")):
        with pytest.raises(ValueError, match="device 'cuda': CUDA needs CuPy"):
            asked()
