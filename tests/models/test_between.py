"""Between a loss and its backward: whatever is called on the model leaves the gradient exact, or the backward raises."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyllm
from tinyllm import kernels
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.generation.cache import KVCache, encoded
from tinyllm.kernels.cpu.simd import BFLOAT16
from tinyllm.layers import Dropout
from tinyllm.models import MODELS, LanguageModel
from tinyllm.optim import Adafactor

DROPOUTS = {
    "GPTConfig": ("embd_pdrop", "attn_pdrop", "resid_pdrop"),
    "BERTConfig": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "T5Config": ("dropout_rate",),
    "LlamaConfig": ("attention_dropout", "resid_pdrop"),
    "OPTConfig": ("dropout", "attention_dropout"),
}


def made(name, recompute=False, **options):
    """A tiny model in training, with dropout; recomputed blocks or not."""
    model, config = MODELS[name]
    model = model.tiny(recompute=recompute, **dict.fromkeys(DROPOUTS[config.__name__], 0.3), **options)
    model.train()
    return model


def loss(model):
    batch, options = model.example(np.random.default_rng(0)), model.example_options(np.random.default_rng(0))
    return model.loss(*batch, **options)


def gradient(model, between=lambda model: None, dloss=1.0):
    model.zero_grad()
    loss(model)
    between(model)
    model.backward(dloss)
    return model.flat.grad.copy()


# What changes nothing --------------------------------------------------------------------------------------------------


def inputs(model):
    return model.example(np.random.default_rng(1))[: 2 if isinstance(model, tinyllm.T5) else 1]


def forward(model):
    model(*inputs(model))


def forward_in_bfloat16(model):
    with tinyllm.autocast("bfloat16") if BFLOAT16 else tinyllm.autocast("float32"):
        model(*inputs(model))


def forward_in_reference(model):
    with kernels.use("reference"):
        model(*inputs(model))


def with_options(model):
    options = model.example_options(np.random.default_rng(0))
    options.pop("next_sentence", None)
    model(*model.example(np.random.default_rng(0))[: len(inputs(model))], **options)


def generate(model):
    if getattr(model, "writes", isinstance(model, tinyllm.T5)):
        tinyllm.generate(model, inputs(model)[0], 2, num_beams=2)


def cached(model):
    if isinstance(model, tinyllm.T5):
        source, target_in = inputs(model)
        model.decode(target_in, encoded(model, source))
    elif isinstance(model, LanguageModel) and model.writes:
        model(inputs(model)[0][:, :4], cache=KVCache())


def hidden_state(model):
    if hasattr(model, "last_hidden_state"):
        model.last_hidden_state(*inputs(model))


def switched_to_eval(model):
    model.eval()


def switched_to_training(model):
    model.train()


def rates_changed(model):
    for layer in model.layers():
        if isinstance(layer, Dropout):
            layer.p = 0.9


def random_numbers_drawn(model):
    model.mode.random.integers(5)


def copied_and_trained(model):
    other = copy.deepcopy(model)
    loss(other)
    other.backward()
    tinyllm.Adam(other, weight_decay=1.0).step()


def another_of_the_same_config(model):
    other = type(model)(model.config, seed=3)
    loss(other)
    other.backward()
    lora.add(other) if lora_has(other) else None


def in_inference(model):
    with model.inference():
        model.tokens(inputs(model)[0])


def bad_loss(model):
    with pytest.raises(ValueError):
        model.loss(*inputs(model), [[1.5]])


def looked_at(model):
    repr(model), model.config, model.arrays(), [p.grad for p in model.parameters()], model._flats()


def same_device(model):
    assert model.with_config().flat is not model.flat


def lora_has(model):
    return not isinstance(model, tinyllm.BERTEncoder)


HARMLESS = [
    forward, forward_in_bfloat16, forward_in_reference, with_options, generate, cached, hidden_state, switched_to_eval,
    switched_to_training, rates_changed, random_numbers_drawn, copied_and_trained, another_of_the_same_config, in_inference,
    bad_loss, looked_at, same_device,
]  # fmt: skip


@given(
    calls=st.lists(st.sampled_from(HARMLESS), min_size=1, max_size=5),
    recompute=st.booleans(),
    name=st.sampled_from([*MODELS]),
)
@settings(max_examples=80, deadline=None)
def test_other_calls_leave_the_gradient_exact(name, recompute, calls):
    expected = gradient(made(name, recompute))
    assert np.abs(expected).max() > 0

    def between(model):
        for call in calls:
            call(model)

    np.testing.assert_array_equal(gradient(made(name, recompute), between), expected)


@pytest.mark.parametrize(
    "change", [lora.add, lambda model: (quantize(model, 8), lora.add(model))], ids=["lora", "quantized"]
)
@pytest.mark.parametrize("recompute", [False, True])
def test_with_adapters_too(change, recompute):
    def adapted():
        model = made("Llama", recompute, hidden_size=32, vocab_size=32)
        change(model)
        return model

    def between(model):
        for call in (forward, generate, cached, switched_to_eval, rates_changed, copied_and_trained):
            call(model)

    expected = gradient(adapted())
    assert np.abs(expected).max() > 0
    np.testing.assert_array_equal(gradient(adapted(), between), expected)


@pytest.mark.parametrize("name", MODELS)
def test_recomputed_or_not_it_is_the_same_gradient(name):
    np.testing.assert_allclose(gradient(made(name, True)), gradient(made(name)), rtol=1e-5, atol=1e-7)


def test_the_caller_may_fill_its_arrays_with_the_next_batch():
    model = made("GPT")
    tokens, targets = model.example(np.random.default_rng(0))
    mask, positions = np.ones(tokens.shape, bool), np.arange(tokens.shape[1])[::-1].copy()
    mask[0, :2] = False
    gradients = []
    for overwrite in (False, True):
        model.zero_grad()
        model.mode.random = np.random.default_rng(0)
        model.loss(tokens, targets, attention_mask=mask, positions=positions)
        if overwrite:
            tokens[...], targets[...], mask[...], positions[...] = 0, 0, True, 0
        model.backward()
        gradients.append(model.flat.grad.copy())
    np.testing.assert_array_equal(gradients[1], gradients[0])


def test_so_it_may_with_vectors_and_weights_of_labels():
    model = made("BERTEncoder")
    tokens, targets = model.example(np.random.default_rng(0))
    model.loss(tokens, targets)
    (kept,) = model.mode.kept[model.head]
    assert not np.shares_memory(kept[1], targets)
    model, weight = made("BERTForTokenClassification"), np.ones(3, np.float32)
    model.loss(*model.example(np.random.default_rng(0)), class_weight=weight)
    assert not any(np.shares_memory(array, weight) for array in model.mode.kept[model.head][0] if array is not None)


# What changes the weights ----------------------------------------------------------------------------------------------


def assigned(model):
    parameter = model.parameters()[-1]
    parameter.data = parameter.data + 1


def shrunk(model):
    model.parameters()[0].data *= 0.5


def written_in_place(model):
    model.parameters()[-1].data[...] = 7


def written_to_the_buffer(model):
    model.flat.data += 1


def stepped(model):
    tinyllm.Adam(model, weight_decay=0.1).step()


def stepped_relatively(model):
    Adafactor(model, weight_decay=0.1).step()


def initialized(model):
    model.initialize(5)


def converted(model):
    model.flat.cast("float64")


def frozen(model):
    model.flat.freeze()


def adapted(model):
    lora.add(model) if lora_has(model) else assigned(model)


def adapted_and_merged(model):
    lora.add(model) if lora_has(model) else assigned(model)
    lora.merge(model) if lora_has(model) else None


def quantized(model):
    quantize(model, 16) if isinstance(model, LanguageModel) else assigned(model)


CHANGES = [
    assigned, shrunk, written_in_place, written_to_the_buffer, stepped, stepped_relatively, initialized, converted, frozen,
    adapted, adapted_and_merged, quantized,
]  # fmt: skip


@given(change=st.sampled_from(CHANGES), recompute=st.booleans(), name=st.sampled_from([*MODELS]))
@settings(max_examples=60, deadline=None)
def test_changed_weights_are_refused(name, recompute, change):
    model = made(name, recompute)
    loss(model)
    change(model)
    before = None if model.flat.frozen else model.flat.grad.copy()
    refused = "weights have changed since loss|packed in 16 bits|call loss.. first"
    with pytest.raises((RuntimeError, ValueError), match=refused):
        model.backward()
    assert before is None or np.array_equal(model.flat.grad, before)  # nothing was added
    with pytest.raises((RuntimeError, ValueError), match="needs a forward pass before it|packed in 16 bits"):
        model.backward()


def test_loaded_weights_are_refused(tmp_path):
    from tinyllm.checkpoints.native import read_parameters

    model = made("GPT")
    tinyllm.save(tmp_path / "model", model)
    loss(model)
    read_parameters(tmp_path / "model", model)
    with pytest.raises(RuntimeError, match="the weights have changed since loss"):
        model.backward()


def test_frozen_weights_beside_adapters_count_too():
    model = made("GPT")
    lora.add(model)
    loss(model)
    model.blocks[0].norm1.w.data *= 2
    with pytest.raises(RuntimeError, match="the weights have changed since loss"):
        model.backward()


@pytest.mark.parametrize("recompute", [False, True])
def test_layers_called_one_by_one_are_noticed(recompute):
    model = made("GPT", recompute)
    expected = gradient(made("GPT", recompute))

    def embedded(model):
        model.tokens(inputs(model)[0])

    def popped_and_pushed(model):
        x, *_ = model.mode.kept[model.norm][-1]
        model.norm.backward(np.ones_like(x))
        model.norm(x + 1)

    for between in (embedded, popped_and_pushed):
        with pytest.raises(RuntimeError, match="layers of this model were called since loss"):
            gradient(model, between)
    model.mode.random = np.random.default_rng([0, 1])
    np.testing.assert_array_equal(gradient(model), expected)  # and the next one is right again


def test_an_evaluation_in_between_is_refused():
    model = made("GPT")

    def evaluated(model):
        with model.without_keeping():
            loss(model)

    with pytest.raises(RuntimeError, match="needs a forward pass before it"):
        gradient(model, evaluated)
