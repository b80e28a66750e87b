"""LLaMA: gradients of every variant, grouped heads, rotary positions, windows, caching."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.generation import KVCache
from tinyllm.models import Llama

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [2.0, 5.0]}
LONGROPE |= {"original_max_position_embeddings": 4}
VARIANTS = {
    "as published": {},
    "one head for all keys": {"num_key_value_heads": 1},
    "a head of keys for each": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 6},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "biases of q, k, v": {"attention_bias": True, "attention_output_bias": False},
    "norms of q and k": {"qk_norm": True, "head_dim": 6},
    "neighbouring pairs": {"rope_neighbours": True},
    "sliding window": {"sliding_window": 3},
    "one layer slides": {"sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 100.0},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 4},
    "llama3": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 4}, "rope_theta": 5e5},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4}},
    "longrope": {"rope_scaling": LONGROPE, "rope_theta": 100.0},
    "a part is rotated": {"partial_rotary_factor": 0.5, "fused_projections": True},
    "residual dropout": {"resid_pdrop": 0.2},
    "gelu gate, dropout": {"hidden_act": "gelu", "attention_dropout": 0.2},
    "recomputed": {"recompute": True},
}


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name, kernel_set):
    model = Llama.tiny(**VARIANTS[name])
    model.train()  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(model, samples=3):
            assert check.error < 1e-6, check


def test_residual_dropout_is_on_both_branches():
    block = Llama.tiny(resid_pdrop=0.2).blocks[0]
    assert block.attention.residual_dropout.p == block.mlp.residual_dropout.p == 0.2


RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 13, (2, 8))


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize(
    "name", ["as published", "norms of q and k", "neighbouring pairs", "sliding window", "yarn", "a part is rotated"]
)
def test_cached_steps_are_the_whole(name, kernel_set):
    model = Llama.tiny(**VARIANTS[name], initializer_range=0.3)
    with kernels.use(kernel_set):
        whole, cache = model(TOKENS), KVCache()
        parts = [model(TOKENS[:, start:end], cache=cache) for start, end in ((0, 3), (3, 4), (4, 8))]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def test_distances_alone_count():
    """Positions may begin anywhere: so padding on the left, and rows packed of several examples, change nothing."""
    model = Llama.tiny(initializer_range=0.3, max_position_embeddings=64)
    alone = model(TOKENS[:, :5])
    np.testing.assert_allclose(model(TOKENS[:, :5], positions=np.arange(5) + 50), alone, atol=1e-5)

    padded, mask = np.pad(TOKENS[:, :5], ((0, 0), (3, 0))), np.arange(8)[None].repeat(2, 0) >= 3
    np.testing.assert_allclose(model(padded, attention_mask=mask)[:, 3:], alone, atol=1e-5)

    packed, blocks = TOKENS[:, :5].reshape(1, 10), np.kron(np.eye(2), np.ones((5, 5)))[None].astype(bool)
    np.testing.assert_allclose(model(packed, attention_mask=blocks)[0], np.concatenate(alone), atol=1e-5)


def test_a_window_forgets_what_lies_behind_it():
    """With windows of 3 in 2 layers a token knows of 4 before it."""
    model = Llama.tiny(sliding_window=3, initializer_range=0.3)
    changed = TOKENS.copy()
    changed[:, 0] = (changed[:, 0] + 1) % 13
    before, after = model(TOKENS), model(changed)
    np.testing.assert_array_equal(before[:, 5:], after[:, 5:])
    assert (np.abs(before[:, :5] - after[:, :5]).max((0, 2)) > 1e-6).all()


def test_each_head_of_keys_serves_its_neighbours():
    """Two heads of keys for four of queries are four heads of keys, each written twice."""
    grouped, full = Llama.tiny(initializer_range=0.3), Llama.tiny(initializer_range=0.3, num_key_value_heads=4)
    for name, parameter in grouped.named_parameters():
        twin = dict(full.named_parameters())[name]
        if name.endswith("qkv.w"):
            q, k, v = np.split(parameter.data.reshape(8, 4, 16), [4, 6])  # 4 + 2 + 2 heads of 4 rows
            twin.data = np.concatenate([q, k.repeat(2, 0), v.repeat(2, 0)]).reshape(48, 16)
        else:
            twin.data = parameter.data
    np.testing.assert_allclose(grouped(TOKENS), full(TOKENS), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 8),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 16),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4}}, 32),
        ({"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 1}}, 8),
    ],
)
def test_scaling_lengthens(options, length):
    model = Llama.tiny(**options)
    assert model.max_length == length
    assert model(np.zeros((1, length), int)).shape == (1, length, 13)
    with pytest.raises(ValueError, match=f"{length + 1} tokens, and this model takes at most {length}"):
        model(np.zeros((1, length + 1), int))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads 4 must be a multiple of num_key_value_heads 3"),
        ({"hidden_size": 18}, "hidden_size 18 must be a multiple of num_attention_heads 4, or head_dim be given"),
        ({"head_dim": 5}, "5 numbers of a head are odd"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 2 layers"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "layer_types has 'chunked_attention'"),
        ({"rope_scaling": {"rope_type": "axial"}}, "rope_scaling has the kind 'axial'; there are default, linear"),
        ({"rope_scaling": {"type": "linear"}}, "missing a required argument: 'factor'"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0, "mrope_section": [1]}},
            r"rope_scaling has mrope_section \[1\]",
        ),
    ],
)
def test_bad_configuration_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Llama.tiny(**options)
