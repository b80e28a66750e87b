"""LLaMA: gradients of every variant, grouped heads, rotary positions, windows, caching."""

import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.models import Llama

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
VARIANTS = {
    "as published": {},
    "one head for all keys": {"num_key_value_heads": 1},
    "a head of keys for each": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 6},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "biases of q, k, v": {"attention_bias": True, "attention_output_bias": False},
    "neighbouring pairs": {"rope_neighbours": True},
    "sliding window": {"sliding_window": 3},
    "one layer slides": {"sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 100.0},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 4},
    "llama3": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 4}, "rope_theta": 5e5},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4}},
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
