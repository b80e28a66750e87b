"""A model in use: dropout is off and training goes on undisturbed, and a NaN is an error that names its layer."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_uses import BYTES, MEASURES, USES, WORDS, V, batch_of, model_for

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.layers import Dropout, Mode, without_dropout
from tinyllm.layers.quantized import Packed
from tinyllm.models import nonfinite
from tinyllm.optim import Adam

ALL = {**USES, **MEASURES}


# Dropout ---------------------------------------------------------------------------------------------------------------


def modes(model):
    return [(layer.mode.training, layer.mode.random.bit_generator.state["state"]) for layer in model.layers()]


@pytest.mark.parametrize("name", ALL)
def test_dropout_is_off_and_nothing_changes(name):
    """Also where one layer has its own mode."""
    kind, use = ALL[name]
    model = model_for(kind)
    expected = use(model)
    model.train()
    dropouts = [layer for layer in model.layers() if isinstance(layer, Dropout)]
    dropouts[0].mode, dropouts[1].mode = Mode(training=False), Mode(training=True)
    before = modes(model)
    np.testing.assert_equal(use(model), expected)
    assert modes(model) == before


def test_dropout_would_change_the_result():
    model = model_for("BERTForSequenceClassification")
    tokens = np.arange(1, 11)[None]
    model.train()
    assert (model(tokens) != model(tokens)).any()
    with without_dropout():
        assert (model(tokens) == model(tokens)).all()
        other = threading.Thread(target=lambda: seen.append((model(tokens) != model(tokens)).any()))
        seen: list[bool] = []
        other.start()
        other.join()
    assert seen == [True]  # another thread's dropout is its own


@pytest.mark.parametrize("name", USES)
def test_an_error_changes_nothing(name):
    kind, use = USES[name]
    model = model_for(kind)
    model.train()
    model.flat.data[:] = np.nan
    before = modes(model)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        use(model)
    assert modes(model) == before
    dropout = next(layer for layer in model.layers() if isinstance(layer, Dropout))
    assert dropout.draw()[0] == 0.5


def step(model, optimizer, random):
    """One step of training -> its loss."""
    model.train()
    model.zero_grad()
    loss = model.loss(*batch_of(model, random))
    model.backward()
    optimizer.step()
    return loss


@settings(max_examples=15)
@given(names=st.lists(st.sampled_from([name for name, (kind, _) in ALL.items() if kind == "GPT"]), max_size=4))
def test_training_goes_on_as_if_nothing_had_been_used(names):
    """Any uses between its steps, a stream that is read a piece a step, and one that is closed early."""
    losses = []
    for uses in ([], names):
        model, random = model_for("GPT"), np.random.default_rng(0)
        optimizer = Adam(model, lr=1e-3)
        pieces = tinyllm.stream(model, BYTES, "Once", 20, temperature=1.0, seed=0) if uses else iter(())
        losses.append([])
        for i in range(5):
            for name in uses:
                ALL[name][1](model)
            next(pieces, None)
            if i == 3 and uses:
                pieces.close()
            losses[-1].append(step(model, optimizer, random))
            assert model.mode.training
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["GPT", "T5", "assisted"])
def test_tokens_between_steps_of_training_come_from_the_weights_of_the_moment(kind):
    """The cache was computed with weights that have changed since."""
    model = model_for(kind if kind != "assisted" else "GPT")
    options = {"assistant_model": model_for("GPT", seed=6), "num_assistant_tokens": 1} if kind == "assisted" else {}
    optimizer, random = Adam(model, lr=0.3), np.random.default_rng(0)
    source, row = np.array([[5, 6, 7]]), [0] if kind == "T5" else [5, 6, 7]
    n_equal = 0

    def on_token(_, token):
        nonlocal n_equal
        with without_dropout():
            logits = model(source, [row]) if kind == "T5" else model([row])
        n_equal += token == logits[0, -1].argmax()
        row.append(token)
        step(model, optimizer, random)

    tinyllm.generate(model, source, 8, on_token=on_token, **options)
    # of two tokens that are accepted together the second was computed before the step between them
    assert len(row) >= 9 and n_equal == 8 or kind == "assisted" and n_equal >= 4


# NaN -------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def named(layer):
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as error:
        yield error
    assert f"the first layer whose output is not finite is {layer};" in str(error.value), error.value


def poisoned(kind):
    """Parameters of a model that every use of it looks at."""
    unused = ("head.pooler",) if kind in ("BERT", "BERTEncoder") else ()
    return [p.name for p in model_for(kind).parameters() if not p.name.startswith((*unused, "token_types"))]


@pytest.mark.parametrize("name", USES)
@settings(max_examples=4)
@given(data=st.data())
def test_a_nan_is_traced_to_its_layer(name, data):
    kind, use = USES[name]
    model = model_for(kind)
    parameter, value = data.draw(st.sampled_from(poisoned(kind))), data.draw(st.sampled_from([np.nan, np.inf]))
    next(p for p in model.parameters() if p.name == parameter).data[...] = value
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as error:
        use(model)
    assert f"the first parameter that is not finite is {parameter}." in str(error.value)
    if np.isnan(value):  # an infinite bias may still give finite numbers: then the layer is one that follows
        assert f"not finite is {parameter.rpartition('.')[0]};" in str(error.value)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("layer", ["norm1", "attention.qkv", "norm2", "mlp.down"])
def test_the_layers_of_a_block_are_told_apart(layer, recompute):
    """The norm inside a fused block too, which runs as a part of another op, and in a block that is recomputed."""
    model = tinyllm.GPT.tiny(recompute=recompute)
    part = model.blocks[1].block if recompute else model.blocks[1]
    kinds = [type(one) for one in model.layers()]
    for name in layer.split("."):
        part = getattr(part, name)
    part.w.data[0] = np.nan
    with named(f"blocks.1.{layer}"):
        tinyllm.generate(model, [[1, 2]], 2)
    assert [type(one) for one in model.layers()] == kinds and not any("forward" in vars(one) for one in model.layers())


def test_a_number_that_grows_too_large_is_told_from_a_damaged_weight():
    model = tinyllm.GPT.tiny(tie_word_embeddings=False)
    model.output.w.data[5], model.norm.w.data = 3e38, np.full(8, 100)
    with named("output") as error:
        tinyllm.generate(model, [[1, 2]], 2)
    assert "all parameters are finite, so that numbers grew too large for float32" in str(error.value)


def test_a_nan_in_an_adapter_and_in_a_quantized_matrix():
    model = tinyllm.GPT.tiny()
    lora.add(model, lora.LoRAConfig(r=2))
    adapter = next(name for name, _ in model.named_parameters() if name.endswith("adapters.0.a"))
    dict(model.named_parameters())[adapter].data[...] = np.nan
    with named(adapter.removesuffix(".a")):
        tinyllm.generate(model, [[1, 2]], 2)
    model = tinyllm.Llama.tiny(hidden_size=32, intermediate_size=32)
    quantize(model, 8)
    packed = model.blocks[0].mlp.down.w
    assert isinstance(packed, Packed)
    packed.scales[...] = 0x7FC0  # NaN as the upper half of a float32
    with named("blocks.0.mlp.down") as error:
        tinyllm.generate(model, [[1, 2]], 2)
    assert "the first parameter that is not finite is blocks.0.mlp.down.w.scales" in str(error.value)


def test_a_nan_that_is_never_used_is_no_error():
    model = model_for("GPT")
    expected = tinyllm.complete(model, BYTES, ["Once"], 5)
    model.tokens.w.data[V - 1] = np.nan  # no text has that token, and the output has its own matrix
    assert tinyllm.complete(model, BYTES, ["Once"], 5) == expected
    model.output.w.data[V - 1] = np.nan  # a token that the tokenizer lacks is never written
    assert tinyllm.complete(model, BYTES, ["Once"], 5) == expected
    model = model_for("BERTForSequenceClassification")
    model.tokens.w.data[WORDS.mask_id] = np.nan
    assert np.isfinite(tinyllm.classify(model, WORDS, ["the first"])).all()
    model.tokens.w.data[WORDS.pad_id] = np.nan
    assert np.isfinite(tinyllm.classify(model, WORDS, ["the first", "a model"])).all()  # texts of one length


def test_the_call_itself_is_not_checked():
    model = tinyllm.GPT.tiny()
    model.norm.w.data = np.full(8, np.nan)
    assert np.isnan(model([[1, 2]])).all()


def test_layers_are_looked_at_only_after_an_output_was_not_finite(monkeypatch):
    monkeypatch.setattr(nonfinite, "first_layer", lambda *_: pytest.fail("layers were looked at"))
    tinyllm.generate(model_for("GPT"), [[1, 2]], 5)


def test_a_layer_that_all_blocks_share_is_watched_once():
    model = model_for("Llama")
    batch = batch_of(model)
    assert nonfinite.in_loss(model, batch) == "all layers' outputs are finite"
    assert "forward" not in vars(model.rotary)
