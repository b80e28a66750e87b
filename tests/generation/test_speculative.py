"""An assistant changes how soon the text comes, and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyllm
from tinyllm import GPT, Llama, generate
from tinyllm.cli import cli
from tinyllm.generation.sampling import Sampler
from tinyllm.generation.speculative import Assisted, accepted
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer

V = 17


def lively(model, seed):
    model.flat.data += np.random.default_rng(seed).standard_normal(model.flat.size)
    return model


@pytest.fixture(scope="module")
def pair():
    """A model, and one that has learned something else; their longest sequences differ."""
    model = lively(GPT.tiny(vocab_size=V, n_positions=24, tie_word_embeddings=False), 1)
    return model, lively(Llama.tiny(vocab_size=V, max_position_embeddings=9), 2)


@settings(max_examples=25)
@given(st.integers(1, 7), st.integers(0, 40), st.lists(st.integers(1, 23), min_size=1, max_size=3), st.integers(0, 99))
def test_greedy_tokens_are_the_same(pair, n, new, lengths, seed):
    """Past the limits of both, with rows that end, and with the model as its own assistant."""
    model, other = pair
    random = np.random.default_rng(seed)
    for assistant in (other, model):
        for length in lengths:
            tokens = random.integers(0, V, (1, length))
            options = {"eos_id": int(random.integers(0, V)), "repetition_penalty": 1.3, "pad_id": 0}
            expected = generate(model, tokens, new, **options)
            found = generate(model, tokens, new, assistant_model=assistant, num_assistant_tokens=n, **options)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_longrope_takes_its_long_divisors_at_the_same_token(n, own):
    """From a prompt shorter than the original length to a text longer than it, and from longer prompts."""
    scaling = {"rope_type": "longrope", "short_factor": [1.0, 1.2], "long_factor": [3.0, 9.0]}
    scaling |= {"original_max_position_embeddings": 10}
    model = lively(Llama.tiny(vocab_size=V, max_position_embeddings=30, rope_scaling=scaling, rope_theta=50.0), 3)
    assistant = model if own else lively(Llama.tiny(vocab_size=V, max_position_embeddings=30), 2)
    for length in (1, 4, 9, 10, 11, 14):
        tokens = np.random.default_rng(length).integers(0, V, (1, length))
        expected = generate(model, tokens, 15, use_cache=False)
        np.testing.assert_array_equal(generate(model, tokens, 15), expected)
        found = generate(model, tokens, 15, assistant_model=assistant, num_assistant_tokens=n)
        np.testing.assert_array_equal(found, expected)


def test_a_batch_of_rows(pair):
    model, assistant = pair
    tokens = np.random.default_rng(0).integers(0, V, (3, 5))
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])
    ended: list[int] = []

    def on_token(row, token):
        ended.append(row)
        return row == 1 and ended.count(1) == 3

    expected = generate(model, tokens, 12, mask, on_token=lambda row, token: False)
    found = generate(model, tokens, 12, mask, on_token=on_token, pad_id=0, assistant_model=assistant)
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    np.testing.assert_array_equal(found[1], [*expected[1, :8], *[0] * 9])


def test_each_token_has_the_models_distribution():
    """Exactly: over all guesses and all draws of a tiny vocabulary, with the uniform numbers of a fine grid."""
    random = np.random.default_rng(3)
    q, p = random.dirichlet(np.ones(4), (2, 2))
    found = np.zeros(4)
    grid = (np.arange(400) + 0.5) / 400
    for x in range(4):
        for u in grid:
            if u * q[0, x] < p[0, x]:
                found[x] += q[0, x] / len(grid)
            else:
                rest = np.maximum(p[0] - q[0], 0)
                found += q[0, x] / len(grid) * rest / rest.sum()
    np.testing.assert_allclose(found, p[0], atol=3e-3)  # the formula
    draws = [accepted([x], [q[0]], [p[0], p[1]], random) for x in random.choice(4, 40_000, p=q[0])]
    first = np.bincount([draw[0] for draw in draws], minlength=4) / len(draws)
    np.testing.assert_allclose(first, p[0], atol=0.012)  # and the code: five standard deviations
    second = np.bincount([draw[1] for draw in draws if len(draw) == 2], minlength=4)
    np.testing.assert_allclose(second / second.sum(), p[1], atol=0.015)
    assert second.sum() / len(draws) == pytest.approx(np.minimum(p[0], q[0]).sum(), abs=0.012)


def test_a_text_of_two_tokens_has_the_models_distribution(pair):
    """Drawn many times, against the product of the model's conditional probabilities."""
    model, assistant = (lively(GPT.tiny(vocab_size=3, n_positions=8), seed) for seed in (5, 6))
    sampler, prompt = Sampler(temperature=0.9, top_k=2), [1, 2]
    expected = {}
    for a, b in itertools.product(range(3), repeat=2):
        p = [sampler.probabilities(model(np.array([row]))[0, -1], row) for row in (prompt, [*prompt, a])]
        expected[a, b] = p[0][a] * p[1][b]
    random, n = np.random.default_rng(0), 1500
    drawn = [tuple(Assisted(model, assistant, list(prompt), sampler, random, 2).tokens(2)) for _ in range(n)]
    for two, probability in expected.items():
        error = 4.5 * np.sqrt(probability * (1 - probability) / n)
        assert drawn.count(two) / n == pytest.approx(probability, abs=error + 1e-9)


def test_a_good_assistant_is_asked_once_for_many_tokens(pair):
    model, _ = pair
    calls = []

    class Counted(Assisted):
        def _step(self, left):
            calls.append(left)
            return super()._step(left)

    list(Counted(model, model, [1], Sampler(), np.random.default_rng(0), 4).tokens(20))
    assert calls == [20, 15, 10, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_assistant_tokens": 0}, "num_assistant_tokens is 0"),
        ({"num_beams": 2}, "choose one of them"),
        ({"use_cache": False}, "leave use_cache=True"),
    ],
)
def test_mistakes(pair, options, message):
    model, assistant = pair
    with pytest.raises(ValueError, match=message):
        generate(model, [[1]], 3, assistant_model=assistant, **options)


def test_an_assistant_of_another_kind_or_vocabulary(pair):
    with pytest.raises(ValueError, match="BERT is none"):
        generate(pair[0], [[1]], 3, assistant_model=tinyllm.BERT.tiny())
    with pytest.raises(ValueError, match="the assistant has 18 tokens and the model 17"):
        generate(pair[0], [[1]], 3, assistant_model=GPT.tiny(vocab_size=18))


def test_from_the_shell(tmp_path):
    tokenizer = ByteTokenizer()
    for seed, name in enumerate(("large", "small")):
        tinyllm.save(tmp_path / name, lively(GPT.tiny(vocab_size=tokenizer.vocab_size), seed), tokenizer)
    other = CharacterTokenizer.train(["abc"])
    tinyllm.save(tmp_path / "other", GPT.tiny(vocab_size=other.vocab_size), other)
    command = ["generate", str(tmp_path / "large"), "--prompt", "a", "--temperature", "0", "--max-new-tokens", "9"]
    alone = CliRunner().invoke(cli, command)
    assisted = CliRunner().invoke(cli, [*command, "--assistant-model", str(tmp_path / "small")])
    assert alone.exit_code == assisted.exit_code == 0 and alone.output == assisted.output
    wrong = CliRunner().invoke(cli, [*command, "--assistant-model", str(tmp_path / "other")])
    assert wrong.exit_code == 1 and "has another tokenizer" in wrong.output
