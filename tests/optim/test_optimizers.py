"""What all optimizers refuse: arrays that are no longer the model's, and options that cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.optim import Adafactor, Adam, clip_factor, clip_grad_norm
from tinyllm.training import TrainConfig

OPTIMIZERS = {"Adam": Adam, "Adafactor": Adafactor}


def model_of(kind="Llama"):
    return (
        tinyllm.Llama.tiny(hidden_size=32, vocab_size=32)
        if kind == "Llama"
        else tinyllm.BERTForSequenceClassification.tiny()
    )


def step(model, optimizer):
    model.zero_grad()
    batch, options = model.example(np.random.default_rng(0)), model.example_options(np.random.default_rng(0))
    model.loss(*batch, **options)
    model.backward()
    optimizer.step()


CHANGES = {
    "lora.add": lora.add,
    "quantize": lambda model: quantize(model, 8),
    "quantize, lora.add": lambda model: (quantize(model, 8), lora.add(model)),
    "initialize": lambda model: model.initialize(1),
    "cast": lambda model: model.flat.cast("float64"),
    "cast to the same": lambda model: model.flat.cast("float32"),
    "freeze": lambda model: model.flat.freeze(),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("change", CHANGES)
def test_arrays_that_are_no_longer_the_models_are_refused(change, optimizer):
    model = model_of()
    optimizer = OPTIMIZERS[optimizer](model, lr=0.05, weight_decay=0.1)
    step(model, optimizer)
    CHANGES[change](model)
    before = {name: array.copy() for name, array in model.arrays().items()}
    for call in (optimizer.step, optimizer.moments):
        with pytest.raises(RuntimeError, match=rf"this {type(optimizer).__name__} was made for other arrays.*new optimizer"):
            call()
    assert optimizer.steps == 1
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["Llama", "BERT"])  # BERT's head is trained beside the adapters
def test_from_adapters_to_the_merged_model(kind, optimizer):
    model = model_of(kind)
    lora.add(model)
    optimizer = OPTIMIZERS[optimizer](model, lr=0.05)
    step(model, optimizer)
    lora.merge(model)
    with pytest.raises(RuntimeError, match="made for other arrays"):
        optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["Llama", "BERT"])
def test_weight_decay_leaves_frozen_weights_alone(kind, optimizer):
    model = model_of(kind)
    lora.add(model)
    optimizer = OPTIMIZERS[optimizer](model, lr=0.05, weight_decay=0.5)
    before = {p.name: p.data.copy() for p in model.parameters()}
    for _ in range(3):
        step(model, optimizer)
    for p in model.parameters():
        assert np.array_equal(p.data, before[p.name]) != p.trained, p


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_keeps_the_arrays_is_allowed(optimizer):
    model = model_of()
    optimizer = OPTIMIZERS[optimizer](model)
    before = model.flat.data
    model.to("cpu")
    model.train()
    model.parameters()[0].data *= 2
    step(model, optimizer)
    assert model.flat.data is before and optimizer.steps == 1


def test_a_quantized_model_has_nothing_to_train():
    model = model_of()
    quantize(model, 8)
    with pytest.raises(ValueError, match="packed in 8 bits, which are not trained: add LoRA adapters first"):
        Adam(model)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-3])
@pytest.mark.parametrize(
    ("optimizer", "name"),
    [("Adam", "lr"), ("Adam", "eps"), ("Adam", "weight_decay")]
    + [("Adafactor", name) for name in ("lr", "decay", "clip", "least", "eps", "weight_decay")],
)
def test_options_that_cannot_be(optimizer, name, value):
    with pytest.raises(ValueError, match=f"{name.replace('least', 'relative')} is {value}, and must be a finite number"):
        OPTIMIZERS[optimizer](model_of(), **{name: value})


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan), (0.9, 2), (0.9,)])
def test_betas(betas):
    with pytest.raises(ValueError, match="betas (is|are) "):
        Adam(model_of(), betas=betas)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_options_that_change_later_are_checked_too(optimizer):
    model = model_of()
    optimizer = OPTIMIZERS[optimizer](model, weight_decay=0.1)
    before = model.flat.data.copy()
    optimizer.lr = math.nan
    with pytest.raises(ValueError, match="lr is nan"):
        optimizer.step()
    optimizer.lr = 0.1
    with pytest.raises(ValueError, match="factor is nan"):
        optimizer.step(math.nan)
    np.testing.assert_array_equal(model.flat.data, before)
    optimizer.step(clip_factor(3.0, 1.0))
    assert optimizer.steps == 1


@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_clipping(value):
    with pytest.raises(ValueError, match="max_norm is"):
        clip_grad_norm(model_of(), value)


@pytest.mark.parametrize("name", ["weight_decay", "clip", "epochs"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_trainings_options(name, value):
    with pytest.raises(ValueError, match=f"{name}.* must be (at least 0|a finite number)"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("value", [1.0, -0.1, math.nan, 2, None, "0.1"])
@pytest.mark.parametrize("made", [tinyllm.GPT, tinyllm.T5, tinyllm.Llama, tinyllm.OPT])
def test_label_smoothing(made, value):
    model = made.tiny()
    with pytest.raises(ValueError, match=r"label_smoothing is .*must be a number in \[0, 1\)"):
        model.loss(*model.example(np.random.default_rng(0)), label_smoothing=value)


@pytest.mark.parametrize(
    "options",
    [{"betas": None}, {"betas": 0.9}, {"betas": ("a", "b")}, {"betas": (0.9,)}, {"lr": None}, {"lr": "1e-3"}, {"eps": None}],
)
def test_options_of_another_type(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} (is|are) .*must be"):
        Adam(tinyllm.GPT.tiny(), **options)
