"""Training in bfloat16 on the cuda set, emulated or on a GPU: activations rounded, what is learned and summed in float32."""

from __future__ import annotations

import numpy as np
import pytest
from on_cuda import require_bfloat16, require_cuda

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.kernels.cuda import device
from tinyllm.kernels.cuda.module import Kernels
from tinyllm.models import GPTForSequenceClassification

require_cuda()
bfloat16 = require_bfloat16()

TINY = {
    "GPT": lambda: tinyllm.GPT.tiny(),
    "BERT": lambda: tinyllm.BERT.tiny(next_sentence=True),
    "T5": lambda: tinyllm.T5.tiny(),
    "Llama": lambda: tinyllm.Llama.tiny(),
    "OPT": lambda: tinyllm.OPT.tiny(),
    "OPT-350m": lambda: tinyllm.OPT.tiny(do_layer_norm_before=False, word_embed_proj_dim=4),
    "recomputed": lambda: tinyllm.GPT.tiny(recompute=True),
    "classifier": lambda: GPTForSequenceClassification.tiny(num_labels=3, pad_token_id=0),
    "BERT's classifier": lambda: tinyllm.BERTForSequenceClassification.tiny(),
    "BERT's spans": lambda: tinyllm.BERTForQuestionAnswering.tiny(),
}


def losses(model, steps=4, narrow=True, lr=1e-2):
    """Of a few steps, dropout, clipping and weight decay included."""
    batch, options = model.example(np.random.default_rng(5)), model.example_options(np.random.default_rng(5))
    optimizer = tinyllm.Adam(model, lr=lr, weight_decay=0.1)
    model.train()
    result = []
    for _ in range(steps):
        model.zero_grad()
        with tinyllm.autocast("bfloat16" if narrow else "float32"):
            result.append(model.loss(*batch, **options))
            model.backward()
        tinyllm.clip_grad_norm(model, 0.5)
        optimizer.step()
    return result


@pytest.mark.parametrize("name", TINY)
def test_learns_as_in_float32(name):
    """Roundings by 2^-9 of what flows through a model cancel out in part: a mean of losses is off by about as much."""
    expected, model = losses(TINY[name](), narrow=False), TINY[name]().to("cuda")
    found = losses(model)
    np.testing.assert_allclose(found, expected, rtol=2**-8)
    assert found != expected and found[-1] < found[0]
    assert model.flat.data.dtype == model.flat.grad.dtype == np.float32


@pytest.mark.parametrize("name", TINY)
def test_gradients_are_float32s(name):
    """At the same rounded weights, up to 3 in a hundred of each parameter's, or 1 of all of them together: numbers that
    almost cancel out are off by the roundings of what they are the difference of, and ReLU by its corner."""
    model = TINY[name]().to("cuda")
    model.flat.data[...] = model.flat.data.astype(bfloat16)
    random, gradients = np.random.default_rng(6), []
    batch, options = model.example(random), model.example_options(random)
    for narrow in (False, True):
        model.zero_grad()
        with tinyllm.autocast("bfloat16" if narrow else "float32"):
            model.loss(*batch, **options)
            model.backward()
        gradients.append({p.name: device.to_host(p.grad).copy() for p in model.parameters()})
    whole = np.sqrt(sum((g**2).sum() for g in gradients[0].values()))
    for name, expected in gradients[0].items():
        difference = np.linalg.norm(gradients[1][name] - expected)
        assert difference < 0.03 * np.linalg.norm(expected) + 0.01 * whole, name


def test_updates_that_bfloat16_would_lose_are_kept():
    """A norm's weights are 1, and bfloat16's next lower number is 2^-8 away: a step of 1e-3 is none to it. Ten are."""
    model = tinyllm.GPT.tiny().to("cuda")
    weight, lr = model.blocks[0].norm1.w, 1e-3
    losses(model, steps=1, lr=lr)
    moved = np.abs(device.to_host(weight.data) - 1)
    assert (moved > lr / 2).all() and (moved < 2**-9).all()  # Adam's first step is lr long
    with tinyllm.autocast("bfloat16"), model.inference():
        assert weight.data.dtype == bfloat16 and (device.to_host(weight.data) == 1).all()
    losses(model, steps=10, lr=lr)
    with tinyllm.autocast("bfloat16"), model.inference():
        assert (device.to_host(weight.data) != 1).any()
        rounded = weight.view(model.flat.data).astype(bfloat16)
        np.testing.assert_array_equal(device.to_host(weight.data), device.to_host(rounded))
    assert weight.data.dtype == np.float32


def test_the_rounded_copy_follows_the_weights():
    """It is made once a block for inference, and again after an assignment, an optimizer's step, or for a loss."""
    model = tinyllm.GPT.tiny().to("cuda")
    batch, weight = model.example(np.random.default_rng(5)), model.norm.w
    optimizer = tinyllm.Adam(model, lr=0.1)

    def logits():
        return device.to_host(model(batch[0])).astype(np.float32)

    with tinyllm.autocast("bfloat16"):
        before = logits()
        weight.data = np.full(weight.shape, 2)
        assert (device.to_host(weight.data) == 2).all() and (logits() != before).any()
        before = logits()
        model.loss(*batch)
        model.backward()
        optimizer.step()
        assert (logits() != before).any()
        loss = model.loss(*batch)
        model.flat.data *= 1.5  # by hand, of which nothing tells the copy
        assert model.loss(*batch) != loss


def test_the_backward_has_the_precision_of_its_loss():
    """Wherever it is called: within the block, after it, or in a block of the other precision."""
    model, gradients = tinyllm.GPT.tiny().to("cuda"), []
    batch = model.example(np.random.default_rng(5))
    for where in ("inside", "after", "in another"):
        model.zero_grad()
        with tinyllm.autocast("bfloat16"):
            model.loss(*batch)
            if where == "inside":
                model.backward()
        with tinyllm.autocast("float32"):
            if where == "in another":
                model.backward()
        if where == "after":
            model.backward()
        gradients.append(device.to_host(model.flat.grad).copy())
    np.testing.assert_array_equal(gradients[1], gradients[0])
    np.testing.assert_array_equal(gradients[2], gradients[0])


def test_activations_and_attention_are_of_bfloat16(monkeypatch):
    """Every kernel of a step runs in bfloat16, attention's on tensor cores, but those of the gradient's norm and of Adam."""
    seen, launch = set(), Kernels.launch

    def noted(self, name, like, *args, **options):
        seen.add((self.file, like.dtype.name))
        launch(self, name, like, *args, **options)

    monkeypatch.setattr(Kernels, "launch", noted)
    model = tinyllm.GPT.tiny(n_embd=16, n_positions=16).to("cuda")
    losses(model, steps=1)  # T 7: the forward is decoding's
    tokens = np.arange(32).reshape(2, 16) % 13
    with tinyllm.autocast("bfloat16"):
        model.loss(tokens, np.roll(tokens, -1))
        model.backward()
    assert {("attention_tensor.cu", "bfloat16"), ("linear.cu", "bfloat16"), ("norm.cu", "bfloat16")} < seen
    assert {file for file, dtype in seen if dtype != "bfloat16"} == {"optimizer.cu"}


@pytest.mark.parametrize("bits", [None, 8])
def test_adapters_learn(bits):
    def made():
        model = tinyllm.Llama.tiny(vocab_size=32, hidden_size=32)
        if bits:
            quantize(model, bits)
        lora.add(model, lora.LoRAConfig(r=2))
        return model

    expected, model = losses(made(), narrow=False), made().to("cuda")
    np.testing.assert_allclose(losses(model), expected, rtol=2**-8)
    assert model.mode.dtype is None


def test_float64_is_never_rounded():
    model = tinyllm.GPT(tinyllm.GPT.tiny().config, dtype="float64").to("cuda")
    batch = model.example(np.random.default_rng(5))
    expected = model.loss(*batch)
    with tinyllm.autocast("bfloat16"):
        assert model.loss(*batch) == expected


def test_an_error_leaves_the_model_in_float32():
    model = tinyllm.GPT.tiny().to("cuda")
    with pytest.raises(ZeroDivisionError), tinyllm.autocast("bfloat16"), model.forward_pass():
        raise ZeroDivisionError
    assert model.parameters()[0].data.dtype == np.float32 and model.mode.dtype is None


def test_labels_of_unequal_weight():
    model, weight = tinyllm.BERTForSequenceClassification.tiny(), np.array([0.2, 1.0, 3.0])
    batch = model.example(np.random.default_rng(5))
    expected = model.loss(*batch, class_weight=weight)
    model.to("cuda")
    with tinyllm.autocast("bfloat16"):
        assert model.loss(*batch, class_weight=weight) == pytest.approx(expected, rel=2**-8)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_run_is_resumed_bit_for_bit(tmp_path, optimizer):
    """`--device cuda --dtype bfloat16`: broken off and resumed, it ends where it ends at once; files hold float32."""
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 50, encoding="utf-8")
    options = {
        "data": text,
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 16,
        "batch_size": 3,
        "tokenizer": "char",
    }
    options |= {"sample_tokens": 4, "eval_every": 3, "eval_batches": 2, "dropout": 0.1, "lr": 1e-3, "device": "cuda"}
    options["optimizer"] = optimizer
    exact, _ = tinyllm.train("gpt", steps=6, **options)
    options["dtype"] = "bfloat16"
    expected, _ = tinyllm.train("gpt", steps=6, **options)
    tinyllm.train("gpt", steps=3, out=tmp_path / "run", **options)
    resumed, _ = tinyllm.resume(tmp_path / "run", steps=6)
    np.testing.assert_array_equal(device.to_host(resumed.flat.data), device.to_host(expected.flat.data))
    read, _ = tinyllm.load(tmp_path / "run")
    np.testing.assert_array_equal(read.flat.data, device.to_host(expected.flat.data))
    assert (read.flat.data != read.flat.data.astype(bfloat16)).mean() > 0.5  # the numbers between bfloat16's
    apart = np.abs(device.to_host(exact.flat.data) - read.flat.data)
    assert 0 < apart.max() < 2 * 6 * 1e-3  # all six updates may be of the other sign, where a gradient is all rounding
    tokens = np.array([[3, 1, 4, 1]])
    np.testing.assert_array_equal(tinyllm.generate(read, tokens, 3), tinyllm.generate(expected, tokens, 3))
