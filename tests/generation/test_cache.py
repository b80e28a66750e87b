"""A cache belongs to one model, with the weights that it had, and to as many sequences as it holds."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
from inference_uses import batch_of

from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.generation import KVCache, encoded
from tinyllm.models import MODELS
from tinyllm.optim import Adam

TOKENS = np.array([[3, 1, 4], [5, 9, 2]])
NEXT = np.array([[1], [6]])


def made(kind="GPT", seed=0):
    model = MODELS[kind][0].tiny()
    model.flat.data += np.random.default_rng(seed).standard_normal(model.flat.size).astype(np.float32)
    return model


@pytest.mark.parametrize("kind", ["GPT", "Llama", "OPT"])
@pytest.mark.parametrize("second", ["GPT", "Llama", "OPT", "a copy"])
def test_a_second_model_is_refused(kind, second):
    model, cache = made(kind), KVCache()
    model(TOKENS, cache=cache)
    other = copy.deepcopy(model) if second == "a copy" else made(second, seed=1)
    with pytest.raises(ValueError, match="keys and values of another model: begin with a new KVCache"):
        other(NEXT, cache=cache)
    whole = model(np.concatenate([TOKENS, NEXT], 1))
    np.testing.assert_allclose(model(NEXT, cache=cache)[:, 0], whole[:, -1], atol=1e-4)  # which the refusal did not change


def test_a_model_that_is_gone_is_another_model():
    cache = KVCache()
    made()(TOKENS, cache=cache)
    gc.collect()
    with pytest.raises(ValueError, match="of another model"):
        made()(NEXT, cache=cache)


def learn(model):
    optimizer = Adam(model, lr=0.1)
    model.loss(*batch_of(model))
    model.backward()
    optimizer.step()


def assign(model):
    w = model.blocks[0].attention.qkv.w
    w.data = 2 * w.data


CHANGES = {
    "a step": learn,
    "an assignment": assign,
    "initialize": lambda model: model.initialize(1),
    "cast": lambda model: model.flat.cast("float64"),
    "quantize": lambda model: quantize(model, 8),
    "adapters": lambda model: lora.add(model, lora.LoRAConfig(r=2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_changed_are_refused(change):
    model, cache = made(), KVCache()
    model(TOKENS, cache=cache)
    CHANGES[change](model)
    with pytest.raises(ValueError, match="weights that the model no longer has: begin with a new KVCache"):
        model(NEXT, cache=cache)
    cache = KVCache()
    model(TOKENS, cache=cache)
    assert np.isfinite(model(NEXT, cache=cache)).all()


def test_adapters_that_are_trained_or_merged_are_other_weights():
    model = made()
    lora.add(model, lora.LoRAConfig(r=2))
    for change in (learn, lora.merge):
        cache = KVCache()
        model(TOKENS, cache=cache)
        model(NEXT, cache=cache)
        change(model)
        with pytest.raises(ValueError, match="no longer has"):
            model(NEXT, cache=cache)


def test_the_cache_of_a_source():
    model, other = made("T5"), made("T5", seed=1)
    cache = encoded(model, TOKENS)
    for wrong in (other, made("GPT")):
        with pytest.raises(ValueError, match="of another model"):
            wrong.decode(NEXT, cache) if wrong is other else wrong(NEXT, cache=cache)
    expected = model(TOKENS, NEXT)
    np.testing.assert_allclose(model.decode(NEXT, cache), expected, atol=1e-4)
    with pytest.raises(ValueError, match="holds 2 sequences, and tokens has 1 rows"):
        model.decode(NEXT[:1], cache)
    learn(model)
    with pytest.raises(ValueError, match="no longer has: .* or call `encoded` again"):
        model.decode(NEXT, cache)
    with pytest.raises(ValueError, match=r"holds no source: make the cache by tinyllm.generation.encoded"):
        model.decode(NEXT, KVCache())


@pytest.mark.parametrize("rows", [1, 3])
def test_another_number_of_sequences_is_refused(rows):
    """A single row would be broadcast to all."""
    model, cache = made(), KVCache()
    model(TOKENS, cache=cache)
    with pytest.raises(
        ValueError, match=f"the cache holds 2 sequences, and tokens has {rows} rows: give it one row for each"
    ):
        model(np.resize(NEXT, (rows, 1)), cache=cache)


def test_an_empty_cache_may_be_anyones():
    """Also one from which everything was dropped."""
    cache = KVCache()
    made("Llama")(TOKENS, cache=cache)
    cache.crop(0)
    model = made()
    model(TOKENS[:1], cache=cache)
    whole = model(np.concatenate([TOKENS, NEXT], 1)[:1])
    np.testing.assert_allclose(model(NEXT[:1], cache=cache)[:, 0], whole[:, -1], atol=1e-4)
