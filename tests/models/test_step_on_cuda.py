"""Decoding by CUDA graphs, emulated or on a GPU: the same tokens as on the cpu, recorded rarely, launched for each."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from on_cuda import require_bfloat16, require_cuda

import tinyllm
from tinyllm import kernels
from tinyllm.device import to_host
from tinyllm.kernels.cuda.module import Kernels
from tinyllm.layers import KVCache, cache
from tinyllm.lora import LoRAConfig, add
from tinyllm.models import MODELS
from tinyllm.models.step import Step
from tinyllm.quantization import quantize

require_cuda()

LIMIT = 40
TOKENS = np.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]])
MASK = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]], bool)
MADE = {
    "GPT": {},
    "OPT": {},
    "OPT post-norm": {"do_layer_norm_before": False, "word_embed_proj_dim": 6},
    "Llama": {},
    "Llama with a window": {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "Llama by YaRN": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
}


def made(name, seed=5, **options):
    """A model that is sure of what it says: rounding decides nothing."""
    kind = name.split()[0]
    model = MODELS[kind][0].tiny(**{"n_positions" if kind == "GPT" else "max_position_embeddings": LIMIT, **options})
    model.flat.data += np.random.default_rng(seed).standard_normal(model.flat.size).astype(np.float32)
    return model


@pytest.fixture
def counted(monkeypatch):
    """Of the steps made meanwhile: how many tokens each gave."""
    steps = []
    begin, call = Step.__init__, Step.__call__

    def begun(self, *args):
        steps.append(0)
        begin(self, *args)

    def called(self, *args):
        steps[-1] += 1
        return call(self, *args)

    monkeypatch.setattr(Step, "__init__", begun)
    monkeypatch.setattr(Step, "__call__", called)
    return steps


def both(model, tokens, new, **options):
    """The tokens on the cpu, and on the device."""
    with kernels.use("reference"):
        expected = tinyllm.generate(model, tokens, new, **options)
    return expected, tinyllm.generate(model.to("cuda"), tokens, new, **options)


@pytest.mark.parametrize("name", MADE)
def test_rows_of_several_lengths(name, counted):
    expected, found = both(made(name, **MADE[name]), TOKENS, 8, attention_mask=MASK)
    np.testing.assert_array_equal(found, expected)
    assert counted == [7]  # the prompt gives the first


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0, "top_k": 5, "seed": 3},
        {"num_beams": 2},
        {"repetition_penalty": 1.5, "past_limit": "slide", "max_new_tokens": 42},
        {"eos_id": [10, 3, 7], "pad_id": 0},
    ],
    ids=str,
)
def test_as_generate_asks(options):
    options = {"max_new_tokens": 9, **options}
    expected, found = both(made("GPT", seed=8), TOKENS[:2], options.pop("max_new_tokens"), **options)
    np.testing.assert_array_equal(found, expected)


def test_a_cache_that_grows_is_recorded_again(counted, monkeypatch):
    monkeypatch.setattr(cache, "LEAST", 2)
    expected, found = both(made("GPT"), TOKENS[:1], 20)
    np.testing.assert_array_equal(found, expected)
    assert counted == [4, 10, 5]  # room for 8, 18, 38


def test_rows_that_end_leave_a_smaller_graph(counted):
    model, written = made("GPT"), []

    def ends(row, token):
        written.append(row)
        return written.count(row) == 3 + 2 * row

    with kernels.use("reference"):
        expected = tinyllm.generate(model, TOKENS, 12, on_token=ends, pad_id=0)
    written.clear()
    np.testing.assert_array_equal(tinyllm.generate(model.to("cuda"), TOKENS, 12, on_token=ends, pad_id=0), expected)
    assert counted == [2, 2, 2]


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=str)
def test_an_encoder_decoder(options, counted):
    model = tinyllm.T5.tiny()
    model.flat.data += np.random.default_rng(5).standard_normal(model.flat.size).astype(np.float32)
    expected, found = both(model, TOKENS, 14, attention_mask=MASK, eos_id=(), **options)
    np.testing.assert_array_equal(found, expected)
    assert counted[0] > 10


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_quantized(bits, counted):
    quantize(model := made("Llama"), bits)
    expected, found = both(model, TOKENS, 6, attention_mask=MASK)
    np.testing.assert_array_equal(found, expected)
    assert counted == [5]


def test_adapters(counted):
    add(model := made("GPT"), LoRAConfig(r=2))
    model.flat.data += np.random.default_rng(4).standard_normal(model.flat.size).astype(np.float32)
    expected, found = both(model, TOKENS, 6)
    np.testing.assert_array_equal(found, expected)
    assert counted == [5]


def test_an_assistant_guesses_by_a_graph(counted):
    options = {"assistant_model": made("GPT", seed=9).to("cuda"), "num_assistant_tokens": 3}
    model = made("GPT", seed=8)
    with kernels.use("reference"):
        expected = tinyllm.generate(model, TOKENS[:1], 12)
    np.testing.assert_array_equal(tinyllm.generate(model.to("cuda"), TOKENS[:1], 12, **options), expected)
    assert max(counted) > 2


def test_in_bfloat16(counted):
    """Weights that are rounded for a while: a step with others is another graph."""
    require_bfloat16()
    model, kv = made("GPT").to("cuda"), KVCache()
    with model.in_bfloat16():
        model(TOKENS, cache=kv)
        for token in range(3):
            y = model(TOKENS[:, :1] + token, cache=kv)
    whole = model(np.concatenate([TOKENS, *(TOKENS[:, :1] + token for token in range(3))], 1))
    assert y.dtype.name == "bfloat16" and counted == [3]
    np.testing.assert_allclose(to_host(y).astype("f4")[:, 0], to_host(whole)[:, -1], atol=0.3)
    one = kv.step
    with model.in_bfloat16():
        model(TOKENS[:, :1], cache=kv)
    assert kv.step is not one


def test_launches_of_a_step(monkeypatch):
    """Ten a block and four beside them, as blogs/kernels.md says; and none once they are recorded."""
    launched, launch = [], Kernels.launch
    monkeypatch.setattr(Kernels, "launch", lambda self, name, *args, **options: (
        launched.append(name), launch(self, name, *args, **options)
    ))  # fmt: skip
    model, kv = made("GPT").to("cuda"), KVCache()
    model(TOKENS, cache=kv)
    counts = []
    for _ in range(4):
        launched.clear()
        model(TOKENS[:, :1], cache=kv)
        counts.append(len(launched))
    assert counts == [24, 24, 0, 0]


def test_logits_that_a_caller_holds_stay():
    model, kv = made("Llama").to("cuda"), KVCache()
    model(TOKENS, cache=kv)
    held = [model(TOKENS[:, i : i + 1], cache=kv) for i in range(4)]
    before = [to_host(a).copy() for a in held]
    kv.crop(4)  # and the same again, at the same places
    again = [to_host(model(TOKENS[:, i : i + 1], cache=kv)) for i in range(4)]
    whole = to_host(model(np.concatenate([TOKENS, TOKENS], 1)))
    for i in range(4):
        np.testing.assert_array_equal(to_host(held[i]), before[i])
        np.testing.assert_array_equal(again[i], before[i])
        np.testing.assert_allclose(before[i][:, 0], whole[:, 4 + i], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "rows", "training"),
    [
        ("GPT", {}, 9, False),  # cuBLAS's
        ("GPT", {}, 2, True),  # dropout
        ("Llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 2, False),  # frequencies that change
    ],
)
def test_what_is_not_recorded(name, options, rows, training, counted):
    model, kv = made(name, **options).to("cuda"), KVCache()
    tokens = np.resize(TOKENS, (rows, 4))
    model.train(training)
    step = functools.partial(model, cache=kv)
    step(tokens), step(tokens[:, :1])
    assert step(tokens[:, :1]).shape[:2] == (rows, 1) and counted == []


def test_wrong_tokens_are_refused_before():
    model, kv = made("GPT").to("cuda"), KVCache()
    for tokens in (TOKENS, TOKENS[:, :1], TOKENS[:, :1]):
        model(tokens, cache=kv)
    with pytest.raises(ValueError, match="tokens holds 13, outside of the vocabulary"):
        model(np.full((3, 1), 13), cache=kv)
    assert kv.length == 6
