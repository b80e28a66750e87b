"""Models and optimizers can be copied, pickled and sent to another process, and say what they are."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.generation.cache import KVCache
from tinyllm.layers import Dropout, Linear
from tinyllm.models import MODELS
from tinyllm.optim import Adafactor

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
}


def adapted(bits=None):
    model = tinyllm.Llama.tiny(hidden_size=32, vocab_size=32)
    if bits:
        quantize(model, bits)
    lora.add(model)
    return model


MADE = {name: cls.tiny for name, (cls, _) in MODELS.items()} | {
    "recomputed": lambda: tinyllm.T5.tiny(recompute=True),
    "untied": lambda: tinyllm.GPT.tiny(tie_word_embeddings=False),
    "with adapters": adapted,
    "quantized, with adapters": lambda: adapted(4),
    "in float64": lambda: tinyllm.GPT(tinyllm.GPT.tiny().config, dtype="float64"),
}


def trained(model, optimizer, steps=2):
    """The losses of a few steps with dropout, and the weights after them."""
    model.train()
    losses = []
    for step in range(steps):
        random = np.random.default_rng(step)
        model.zero_grad()
        losses.append(model.loss(*model.example(random), **model.example_options(random)))
        model.backward()
        optimizer.step()
    return losses, model.flat.data.copy()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", MADE)
def test_a_copied_pair_goes_on_by_itself(name, how):
    model = MADE[name]()
    optimizer = (Adafactor if name == "T5" else tinyllm.Adam)(model, lr=0.01, weight_decay=0.1)
    trained(model, optimizer)
    model.loss(*model.example(np.random.default_rng(0)))  # of which a copy knows nothing
    other, its_optimizer = COPIES[how]((model, optimizer))
    assert type(other) is type(model) and its_optimizer.model is other and its_optimizer.flat is other.flat
    assert other.config == model.config and other.config is not model.config
    with pytest.raises(RuntimeError, match="needs a forward pass before it"):
        other.backward()

    pairs = list(zip(model.parameters(), other.parameters(), strict=True))
    for mine, its in pairs:
        assert its.name == mine.name and np.array_equal(its.data, mine.data)
        assert np.shares_memory(its.data, its.flat.data) and not np.shares_memory(its.data, mine.data)
        assert not its.trained or np.shares_memory(its.grad, other.flat.grad)
    for (names, p), (its_names, q) in zip(model.named_parameters(), other.named_parameters()):  # ties included
        assert names == its_names and p.name == q.name

    before = model.flat.data.copy()
    went_on = trained(other, its_optimizer)
    np.testing.assert_array_equal(model.flat.data, before)
    losses, weights = trained(model, optimizer)
    assert went_on[0] == losses
    np.testing.assert_array_equal(went_on[1], weights)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_quantized_models(bits, how):
    model = tinyllm.Llama.tiny(hidden_size=32, vocab_size=32, tie_word_embeddings=True)
    quantize(model, bits)
    other = COPIES[how](model)
    assert other.tokens.w is other.output.w and other.tokens.w is not model.tokens.w
    np.testing.assert_array_equal(tinyllm.generate(other, [[1, 2]], 4), tinyllm.generate(model, [[1, 2]], 4))


def test_an_optimizer_alone_brings_its_model_along():
    model = tinyllm.GPT.tiny()
    other = copy.deepcopy(tinyllm.Adam(model))
    assert other.model is not model
    trained(other.model, other)
    assert not np.array_equal(other.model.flat.data, model.flat.data)


def its_logits(model):
    return model([[1, 2, 3]])


def test_another_process():
    model = tinyllm.GPT.tiny()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_allclose(pool.apply(its_logits, (model,)), its_logits(model), rtol=1e-6)


# What they say they are ------------------------------------------------------------------------------------------------


def test_models_describe_themselves():
    assert repr(tinyllm.GPT.tiny()) == (
        "GPT(1,928 parameters, 2 layers, 8 channels, 13 tokens in the vocabulary, float32 on cpu)"
    )
    assert repr(tinyllm.T5(tinyllm.T5.tiny(num_decoder_layers=1).config, dtype="float64")) == (
        "T5(1,552 parameters, 2 + 1 layers, 8 channels, 13 tokens in the vocabulary, float64 on cpu)"
    )
    model = adapted(8)
    whole = tinyllm.Llama.tiny(hidden_size=32, vocab_size=32).n_parameters + model.n_parameters
    assert repr(model) == (
        f"Llama({whole:,} parameters, 2 layers, 32 channels, 32 tokens in the vocabulary, float32 on cpu, "
        f"matrices in 8 bits, adapters of rank 8 with {model.n_parameters:,} trained parameters)"
    )


@pytest.mark.parametrize("name", MADE)
def test_all_layers_and_parameters_do_so_shortly(name):
    model = MADE[name]()
    for value in (model, *model.layers(), *model.parameters(), model.flat, tinyllm.Adam(model), Adafactor(model), KVCache()):
        assert repr(value).startswith(type(value).__name__ + "(") and len(repr(value)) < 300 and "0x" not in repr(value)


def test_parts_describe_themselves():
    layer = Linear(3, 2)
    assert repr(layer) == "Linear(w=(2, 3), b=(2,))" and repr(Dropout(0.5)) == "Dropout(p=0.5)"
    assert repr(layer.w) == "Parameter('', (2, 3), not initialized)"
    layer.initialize()
    assert repr(layer.w) == "Parameter('w', (2, 3), float32 on cpu)"
    layer.flat.freeze()
    assert repr(layer.b) == "Parameter('b', (2,), float32 on cpu, frozen)"
    assert repr(layer.flat) == "Flat(8 numbers of 2 parameters, float32 on cpu, frozen)"
    assert repr(tinyllm.Adam(tinyllm.GPT.tiny(), lr=0.1)) == (
        "Adam(lr=0.1, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, after 0 steps, of GPT)"
    )
    assert repr(tinyllm.GPT.tiny().blocks[0].attention) == (
        "Attention(H=2, G=2, D=4, qkv=Linear, dropout=Dropout, proj=Linear, residual_dropout=Dropout)"
    )


def test_a_cache_describes_itself():
    model, cache = tinyllm.GPT.tiny(), KVCache()
    assert repr(cache) == "KVCache(0 positions)"
    model([[1, 2, 3], [4, 5, 6]], cache=cache)
    assert repr(cache) == "KVCache(3 positions, 2 layers)"
