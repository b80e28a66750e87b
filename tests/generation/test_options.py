"""Options out of range, and logits that are not finite: one clear error or the right token, never one outside of the
vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference_uses import BYTES, V, model_for

import tinyllm
from tinyllm.generation.sampling import Sampler, pick
from tinyllm.pipelines.text2text import Use, answers

MODEL = tinyllm.GPT.tiny()
NAN, INF = float("nan"), float("inf")
WRONG = {
    "temperature": [None, "1", NAN, INF, -INF, -1, -1e-320, 10**400, 1j, True, [1.0]],
    "top_k": [0, -1, 2.0, NAN, INF, "3", True, [1]],
    "top_p": [0, 0.0, -0.1, 1.0000001, NAN, INF, "0.5", True],
    "min_p": [-1e-9, 1.1, NAN, INF, "0.5"],
    "repetition_penalty": [0, -1, NAN, INF, None, "1"],
    "no_repeat_ngram_size": [-1, 1.0, NAN, None, "2"],
    "max_new_tokens": [-1, 2.0, NAN, None, "3", True],
    "num_beams": [0, -1, 1.5, NAN, None, True],
    "seed": [-1, 1.5, "1", NAN],
    "pad_id": [-1, 13, 1.5, "1"],
    "eos_id": [1.5, [1, 2.5], [None]],
    "past_limit": ["stop", None, True],
    "suppress_tokens": [[13], [-1], [0.5]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        tinyllm.generate(MODEL, [[1, 2]], **{"max_new_tokens": 2, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("length_penalty", NAN), ("length_penalty", INF), ("length_penalty", None), ("length_penalty", 1e308)]
    + [("length_penalty", -1e4), ("early_stopping", None), ("early_stopping", "soon"), ("num_beams", 2.0)],
)
def test_a_wrong_value_of_beam_search_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        tinyllm.generate(MODEL, [[1, 2]], **{"max_new_tokens": 5, "num_beams": 2, name: value})


def test_wrong_values_of_the_other_functions():
    model = model_for("GPT")
    with pytest.raises(ValueError, match="temperature is nan"):
        list(tinyllm.stream(model, BYTES, "a", 3, temperature=NAN))
    with pytest.raises(ValueError, match="max_new_tokens is -1"):
        list(tinyllm.stream(model, BYTES, "a", -1))
    with pytest.raises(ValueError, match="top_p is 2"):
        tinyllm.complete(model, BYTES, ["a"], 3, temperature=1.0, top_p=2)
    with pytest.raises(ValueError, match="num_assistant_tokens is 1.5"):
        tinyllm.generate(model, [[1]], 3, assistant_model=model, num_assistant_tokens=1.5)
    for name, value in {"length_penalty": NAN, "num_beams": 0, "max_length": 1.5, "no_repeat_ngram_size": -1}.items():
        with pytest.raises(ValueError, match=f"{name} is"):
            Use(**{name: value})
    for batch_size in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
            answers(model, BYTES, ["a"], batch_size=batch_size)
    bert = tinyllm.BERTForSequenceClassification.tiny(vocab_size=V)
    for batch_size in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
            tinyllm.classify(bert, BYTES, ["a"], batch_size=batch_size)
    for use in (tinyllm.classify, tinyllm.sentence_embeddings):
        with pytest.raises(ValueError, match="max_length is -1"):
            use(bert, BYTES, ["a"], max_length=-1)


# The edges -------------------------------------------------------------------------------------------------------------

temperatures = st.floats(0, 1.7e308) | st.sampled_from([0.0, 5e-324, 1e-320, 1e-300, 1e300])
logits_of_all_sizes = st.lists(st.floats(-(2.0**127), 2.0**127, width=32) | st.just(-INF), min_size=1, max_size=12)


@settings(max_examples=300)
@example([3e38, -3e38, 3e38], 5e-324, None, None, None, 5e-324, 0)
@example([-3e38], 1.0, None, None, None, 1e308, 0)
@given(
    logits=logits_of_all_sizes.filter(lambda values: max(values) > -INF),
    temperature=temperatures,
    top_k=st.none() | st.integers(1, 10**30),
    top_p=st.none() | st.floats(5e-324, 1),
    min_p=st.none() | st.floats(0, 1),
    penalty=st.floats(5e-324, 1e308),
    seed=st.integers(0, 99),
)
def test_a_token_is_always_one_that_can_be(logits, temperature, top_k, top_p, min_p, penalty, seed):
    logits = np.array(logits, np.float32)
    sampler = Sampler(temperature, top_k, top_p, min_p, penalty)
    random = np.random.default_rng(seed)
    token = sampler.choose(logits, [0], random)
    assert 0 <= token < len(logits) and logits[token] > -INF
    p = sampler.probabilities(logits, [0])
    assert p[token] >= 0 and math.isclose(p.sum(), 1, rel_tol=1e-9) and not p[logits == -INF].any()
    if penalty == 1 and 0 <= temperature < 1e-300:
        assert logits[token] == logits.max()


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0}, {"repetition_penalty": 1.2}, {"temperature": 1.0, "top_k": 1}]
)
@pytest.mark.parametrize("logits", [[0, INF, 1], [INF, INF, 0], [-INF] * 3, [0, NAN, INF], [NAN] * 3, [INF, -INF, 0]])
def test_logits_without_a_likeliest_token_are_an_error(options, logits):
    for call in ("choose", "probabilities"):
        more = (np.random.default_rng(0),) if call == "choose" else ()
        with pytest.raises(FloatingPointError, match="the largest must be finite"):
            getattr(Sampler(**options), call)(np.array(logits, np.float32), [0], *more)


class Biased:
    """The output of a model, with something added to its logits."""

    def __init__(self, output, bias):
        self.output, self.bias = output, np.array(bias, np.float32)

    def __call__(self, x):
        return self.output(x) + self.bias


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 0}, {"num_beams": 3}, {"repetition_penalty": 1.1}])
@pytest.mark.parametrize("kind", ["GPT", "T5"])
def test_infinite_logits_of_a_model(kind, options):
    model = getattr(tinyllm, kind).tiny()
    output = model.output
    for bias in ([0] * 12 + [INF], [INF, INF] + [0] * 11, [-INF] * 13, [NAN] + [0] * 12):
        object.__setattr__(model, "output", Biased(output, bias))
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=f"the output of {kind} is not finite"):
            tinyllm.generate(model, [[1, 2]], 3, **options)
    object.__setattr__(model, "output", Biased(output, [-INF] * 11 + [0, 0]))  # two tokens are left
    new = tinyllm.generate(model, [[1, 2]], 5, eos_id=(), **options)[0, 2 if kind == "GPT" else 1 :]
    assert set(new.tolist()) <= {11, 12} and len(new) == 5


def test_a_low_temperature_is_greedy():
    model = model_for("GPT")
    expected = tinyllm.generate(model, [[1, 2, 3]], 8)
    for temperature in (5e-324, 1e-320, 1e-300, 1e-8):
        np.testing.assert_array_equal(tinyllm.generate(model, [[1, 2, 3]], 8, temperature=temperature, seed=0), expected)


def test_more_beams_than_tokens():
    """No beam goes on with a token that cannot be."""
    model = model_for("GPT")
    never = [id for id in range(V) if id not in (3, 4)]
    for num_beams in (2, 7, 50):
        found = tinyllm.generate(model, [[1]], 4, num_beams=num_beams, suppress_tokens=never, eos_id=())
        assert set(found[0, 1:].tolist()) <= {3, 4}


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 0}, {"num_beams": 3}, {"assistant_model": None}])
def test_tokens_that_are_suppressed(options):
    model = model_for("GPT")
    if "assistant_model" in options:
        options = {"assistant_model": model_for("GPT", seed=6)}
    free = tinyllm.generate(model, [[1, 2]], 12, **options)[0, 2:].tolist()
    never = sorted(set(free))
    held = tinyllm.generate(model, [[1, 2]], 12, suppress_tokens=never, **options)[0, 2:].tolist()
    assert not set(held) & set(never) and len(held) == 12
    with pytest.raises(ValueError, match=f"suppress_tokens holds all {V} tokens"):
        tinyllm.generate(model, [[1, 2]], 3, suppress_tokens=range(V))


def test_what_is_picked_has_a_weight():
    class Last:
        def random(self):
            return np.nextafter(1, 0)

    for weights in ([5e-324, 0], [0, 5e-324, 0], [1e-320, 3e-320, 0], [1 / 3] * 3 + [0]):
        assert np.array(weights)[pick(np.array(weights), Last())] > 0
