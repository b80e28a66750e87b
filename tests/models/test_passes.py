"""Between a loss and its backward: the precision is remembered, other calls change nothing, packed weights refuse."""

import threading

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.kernels.cpu.simd import BFLOAT16

needs_bfloat16 = pytest.mark.skipif(not BFLOAT16, reason="this processor does not multiply bfloat16")
TINY = {
    "GPT": tinyllm.GPT.tiny,
    "BERT": tinyllm.BERT.tiny,
    "T5": tinyllm.T5.tiny,
    "Llama": tinyllm.Llama.tiny,
    "OPT": tinyllm.OPT.tiny,
    "recomputed": lambda: tinyllm.GPT.tiny(recompute=True),
}


def gradient(model, batch, within=None, between=None):
    model.zero_grad()
    with tinyllm.autocast(within or "float32"):
        model.loss(*batch)
    if between is not None:
        between()
    model.backward()
    return model.flat.grad.copy()


@needs_bfloat16
@pytest.mark.parametrize("name", TINY)
def test_the_backward_has_the_precision_of_its_loss(name):
    model = TINY[name]()
    batch = model.example(np.random.default_rng(0))
    model.zero_grad()
    with tinyllm.autocast("bfloat16"):
        model.loss(*batch)
        model.backward()
    inside = model.flat.grad.copy()
    np.testing.assert_array_equal(gradient(model, batch, within="bfloat16"), inside)
    plain = gradient(model, batch)
    assert (plain != inside).any()
    with tinyllm.autocast("bfloat16"):  # a loss outside, a backward within
        model.zero_grad()
        with tinyllm.autocast("float32"):
            model.loss(*batch)
        model.backward()
    np.testing.assert_array_equal(model.flat.grad, plain)


@needs_bfloat16
def test_another_thread_computes_as_before():
    model = tinyllm.GPT.tiny()
    batch = model.example(np.random.default_rng(0))
    expected, found = model.loss(*batch), []
    with tinyllm.autocast("bfloat16"), kernels.use("cpu"):
        thread = threading.Thread(target=lambda: found.append(model.loss(*batch)))
        thread.start()
        thread.join()
        assert model.loss(*batch) != expected
    assert found == [expected]


@pytest.mark.parametrize("name", TINY)
def test_a_call_between_loss_and_backward_changes_nothing(name):
    model = TINY[name]()
    batch = model.example(np.random.default_rng(0))
    inputs = {"T5": batch[:2]}.get(name, batch[:1])

    def between():
        model(*inputs)
        if name != "BERT":
            tinyllm.generate(model, batch[0], 2)

    np.testing.assert_array_equal(gradient(model, batch, between=between), gradient(model, batch))


@pytest.mark.parametrize("name", TINY)
def test_each_loss_has_one_backward(name):
    model = TINY[name]()
    batch = model.example(np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="backward.*needs a forward pass before it"):
        model.backward()
    model.loss(*batch)
    model.backward()
    with pytest.raises(RuntimeError, match="needs a forward pass before it"):
        model.backward()
    expected = gradient(model, batch)
    model.loss(*batch)  # whose backward never comes
    np.testing.assert_array_equal(gradient(model, batch), expected)


@pytest.mark.parametrize("bits", [16, 8])
def test_packed_matrices_have_no_backward(bits):
    model = tinyllm.Llama.tiny(hidden_size=32, vocab_size=32)
    quantize(model, bits)
    batch = model.example(np.random.default_rng(0))
    assert model.loss(*batch) > 0  # to be evaluated is all right
    with pytest.raises(ValueError, match=rf"packed in {bits} bits, for inference only.*autocast.*LoRA adapters"):
        model.backward()
    lora.add(model)
    model.loss(*batch)
    model.backward()
    assert np.abs(model.flat.grad).sum() > 0


def test_the_reference_set_refuses_autocast():
    model = tinyllm.GPT.tiny()
    batch = model.example(np.random.default_rng(0))
    with kernels.use("reference"), pytest.raises(ValueError, match="reference set"), tinyllm.autocast("bfloat16"):
        model.loss(*batch)
