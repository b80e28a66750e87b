"""Steps of decoding that are recorded and repeated, on the cpu and by CUDA graphs, emulated or on a GPU: the same tokens as
the reference set gives, recorded rarely, repeated for each."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from on_cuda import require_bfloat16, require_cuda

import tinyllm
from tinyllm import kernels
from tinyllm.checkpoints.lora import LoRAConfig, add
from tinyllm.checkpoints.quantization import quantize
from tinyllm.generation import KVCache, sessions
from tinyllm.generation.recorded import Step
from tinyllm.kernels.cpu.simd import BFLOAT16
from tinyllm.kernels.cuda.module import Kernels
from tinyllm.kernels.device import to_host
from tinyllm.models import MODELS

LIMIT = 40
TOKENS = np.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]])
MASK = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]], bool)
MADE = {
    "GPT": {},
    "OPT": {},
    "OPT post-norm": {"do_layer_norm_before": False, "word_embed_proj_dim": 6},
    "Llama": {},
    "Llama with a window": {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "Llama with norms of q and k": {"qk_norm": True},
    "Llama with a part of each head rotated": {"partial_rotary_factor": 0.5},
    "Llama by YaRN": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
}
LONGROPE = {"rope_type": "longrope", "short_factor": [1, 2], "long_factor": [2, 5], "original_max_position_embeddings": 7}


IN_PYTHON = {"cpu": 3, "cuda": 2}  # steps of each record that Python makes: the first, the recorded one, on the cpu a trial


@pytest.fixture(params=IN_PYTHON)
def device(request):
    if request.param == "cuda":
        require_cuda()
    return request.param


@pytest.fixture
def cuda():
    require_cuda()


def made(name, seed=5, **options):
    """A model that is sure of what it says: rounding decides nothing."""
    kind = name.split()[0]
    model = MODELS[kind][0].tiny(**{"n_positions" if kind == "GPT" else "max_position_embeddings": LIMIT, **options})
    model.flat.data += np.random.default_rng(seed).standard_normal(model.flat.size).astype(np.float32)
    return model


@pytest.fixture
def counted(monkeypatch):
    """Of the steps made meanwhile: how many tokens each gave, and how many of them Python computed."""
    steps = []
    begin, call = Step.__init__, Step.__call__

    def begun(self, *args):
        steps.append([0, 0])
        begin(self, *args)

    def called(self, model, *args):
        def counting(*inputs):
            steps[-1][1] += 1
            return type(model).decoder_hidden(model, *inputs)

        steps[-1][0] += 1
        with monkeypatch.context() as patch:
            patch.setattr(model, "decoder_hidden", counting)
            return call(self, model, *args)

    monkeypatch.setattr(Step, "__init__", begun)
    monkeypatch.setattr(Step, "__call__", called)
    return steps


def recorded(device, *tokens):
    """What is counted of records that gave so many tokens."""
    return [[n, min(n, IN_PYTHON[device])] for n in tokens]


def both(device, model, tokens, new, **options):
    """The tokens by the reference set, and on the device."""
    with kernels.use("reference"):
        expected = tinyllm.generate(model, tokens, new, **options)
    return expected, tinyllm.generate(model.to(device), tokens, new, **options)


@pytest.mark.parametrize("name", MADE)
def test_rows_of_several_lengths(name, device, counted):
    expected, found = both(device, made(name, **MADE[name]), TOKENS, 8, attention_mask=MASK)
    np.testing.assert_array_equal(found, expected)
    assert counted == recorded(device, 7)  # the prompt gives the first


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
def test_as_generate_asks(options, device):
    options = {"max_new_tokens": 9, **options}
    expected, found = both(device, made("GPT", seed=8), TOKENS[:2], options.pop("max_new_tokens"), **options)
    np.testing.assert_array_equal(found, expected)


def test_a_cache_that_grows_is_recorded_again(device, counted, monkeypatch):
    monkeypatch.setattr(sessions, "AHEAD", 2)
    expected, found = both(device, made("GPT"), TOKENS[:1], 20)
    np.testing.assert_array_equal(found, expected)
    assert counted == recorded(device, 2, 8, 9)  # room for 6, 14, 30


def test_rows_that_end_leave_a_smaller_graph(device, counted):
    model, written = made("GPT"), []

    def ends(row, token):
        written.append(row)
        return written.count(row) == 3 + 2 * row

    with kernels.use("reference"):
        expected = tinyllm.generate(model, TOKENS, 12, on_token=ends, pad_id=0)
    written.clear()
    np.testing.assert_array_equal(tinyllm.generate(model.to(device), TOKENS, 12, on_token=ends, pad_id=0), expected)
    assert counted == recorded(device, 2, 2, 2)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=str)
def test_an_encoder_decoder(options, device, counted):
    model = tinyllm.T5.tiny()
    model.flat.data += np.random.default_rng(5).standard_normal(model.flat.size).astype(np.float32)
    expected, found = both(device, model, TOKENS, 14, attention_mask=MASK, eos_id=(), **options)
    np.testing.assert_array_equal(found, expected)
    assert counted == recorded(device, counted[0][0]) and counted[0][0] > 10


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_quantized(bits, device, counted):
    quantize(model := made("Llama", hidden_size=32), bits)  # a whole group, as all that is trained has
    expected, found = both(device, model, TOKENS, 6, attention_mask=MASK)
    np.testing.assert_array_equal(found, expected)
    assert counted == recorded(device, 5)


def test_adapters(device, counted):
    """They add by NumPy, which the cpu's graph does not note, and finds out."""
    add(model := made("GPT"), LoRAConfig(r=2))
    model.flat.data += np.random.default_rng(4).standard_normal(model.flat.size).astype(np.float32)
    expected, found = both(device, model, TOKENS, 6)
    np.testing.assert_array_equal(found, expected)
    assert counted == ([[5, 5]] if device == "cpu" else recorded(device, 5))


def test_an_assistant_guesses_by_a_graph(device, counted):
    options = {"assistant_model": made("GPT", seed=9).to(device), "num_assistant_tokens": 3}
    model = made("GPT", seed=8)
    with kernels.use("reference"):
        expected = tinyllm.generate(model, TOKENS[:1], 12)
    np.testing.assert_array_equal(tinyllm.generate(model.to(device), TOKENS[:1], 12, **options), expected)
    assert max(counted)[0] > 3


def test_in_bfloat16(cuda, counted):
    """The recorded step reads the rounded copy of the weights, in this block and in the next one."""
    require_bfloat16()
    model, kv = made("GPT").to("cuda"), KVCache()
    with tinyllm.autocast("bfloat16"):
        model(TOKENS, cache=kv)
        for token in range(3):
            y = model(TOKENS[:, :1] + token, cache=kv)
    whole = model(np.concatenate([TOKENS, *(TOKENS[:, :1] + token for token in range(3))], 1))
    assert y.dtype.name == "bfloat16" and counted == [[3, 2]]
    np.testing.assert_allclose(to_host(y).astype("f4")[:, 0], to_host(whole)[:, -1], atol=0.3)
    one = kv.step
    with tinyllm.autocast("bfloat16"):
        model(TOKENS[:, :1], cache=kv)
    assert kv.step is one  # the copy of the weights is made again in the same memory


def test_launches_of_a_step(cuda, monkeypatch):
    """A step is eleven launches a block and four more, as blogs/kernels.md says, and none once it is recorded."""
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
    assert counts == [26, 26, 0, 0]


def test_logits_that_a_caller_holds_stay(device):
    model, kv = made("Llama").to(device), KVCache()
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


def test_a_copy_of_the_cache_goes_on_by_itself(device):
    """One prompt, read once, continued in two ways by turns."""
    model, kv = made("GPT").to(device), KVCache()
    for tokens in (TOKENS, *TOKENS.T[:, :, None]):
        model(tokens, cache=kv)
    other = copy.deepcopy(kv)
    for i in range(4):
        model(TOKENS[:, i : i + 1], cache=kv)
        found = model(TOKENS[:, i : i + 1] - 1, cache=other)
    whole = model(np.concatenate([TOKENS, TOKENS, TOKENS - 1], 1))
    np.testing.assert_allclose(to_host(found)[:, 0], to_host(whole)[:, -1], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "rows", "training"),
    [
        ("GPT", {}, 9, False),  # on a GPU cuBLAS's
        ("GPT", {}, 2, True),  # dropout
        ("Llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 2, False),  # frequencies that change
        ("Llama", {"rope_scaling": LONGROPE}, 2, False),
    ],
)
def test_what_is_not_recorded(name, options, rows, training, device, counted):
    model, kv = made(name, **options).to(device), KVCache()
    tokens = np.resize(TOKENS, (rows, 4))
    model.train(training)
    step = functools.partial(model, cache=kv)
    step(tokens), step(tokens[:, :1])
    assert step(tokens[:, :1]).shape[:2] == (rows, 1)
    assert counted == ([[2, 2]] if (rows, device) == (9, "cpu") else [])


def test_wrong_tokens_are_refused_before(device):
    model, kv = made("GPT").to(device), KVCache()
    for tokens in (TOKENS, TOKENS[:, :1], TOKENS[:, :1]):
        model(tokens, cache=kv)
    with pytest.raises(ValueError, match="tokens holds 13; each must lie in"):
        model(np.full((3, 1), 13), cache=kv)
    assert kv.length == 6


def test_another_precision_is_another_record(counted):
    """Inside the block, rounded; outside, not: whichever was recorded before."""
    if not BFLOAT16:
        pytest.skip("this processor does not multiply in bfloat16")
    model, found = made("GPT"), {}
    for precision in ("float32", "bfloat16", "float32"):
        kv = KVCache()
        with kernels.autocast(precision):
            model(TOKENS, cache=kv)
        for now in (precision, "bfloat16", "float32"):
            with kernels.autocast(now):
                y = [model(TOKENS[:, i : i + 1], cache=kv) for i in range(4)]
            kv.crop(4)
            found.setdefault((precision, now), []).append(y)
    for several in found.values():
        for y in several[1:]:
            np.testing.assert_array_equal(y, several[0])
    assert not np.array_equal(found["float32", "float32"][0], found["float32", "bfloat16"][0])
    assert len(counted) == 8


class Twice(tinyllm.GPT):
    """What a reader may write: arithmetic of NumPy's between the layers."""

    def hidden(self, tokens, context):
        return super().hidden(tokens, context) * 2 + self.tokens.w.data[tokens]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_that_computes_by_numpy_is_not_repeated(dtype, counted):
    model = Twice(made("GPT").config, seed=3, dtype=dtype)
    model.flat.data += np.random.default_rng(7).standard_normal(model.flat.size)
    expected, found = both("cpu", model, TOKENS, 12, attention_mask=MASK)
    np.testing.assert_array_equal(found, expected)
    assert counted == [[11, 11]]
