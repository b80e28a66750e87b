"""OPT: gradients of every variant, positions counted from the mask."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.models import OPT

PUBLISHED_350M = {"do_layer_norm_before": False, "word_embed_proj_dim": 6}
VARIANTS = {
    "as published": {},
    "350M": PUBLISHED_350M,
    "350M, recomputed": {**PUBLISHED_350M, "recompute": True},
    "narrow embeddings, pre-norm": {"word_embed_proj_dim": 4},
    "untied": {"tie_word_embeddings": False, "word_embed_proj_dim": 4},
    "no final norm": {"_remove_final_layer_norm": True},
    "no biases": {"enable_bias": False},
    "plain norms": {"layer_norm_elementwise_affine": False},
    "gelu, dropout": {"activation_function": "gelu", "dropout": 0.3, "attention_dropout": 0.2},
}


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name, kernel_set):
    model = OPT.tiny(**VARIANTS[name])
    model.train()  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(model, samples=3):
            assert check.error < 1e-6, check


def test_positions_count_real_tokens():
    model = OPT.tiny()
    mask = np.array([[False, False, True, True, True], [True, True, True, False, False]])
    np.testing.assert_array_equal(model.default_positions(mask, 0, 5), [[-1, -1, 0, 1, 2], [0, 1, 2, -1, -1]])
    np.testing.assert_array_equal(model.default_positions(mask, 3, 2), [[1, 2], [-1, -1]])
    np.testing.assert_array_equal(model.default_positions(None, 3, 2), [3, 4])


def test_packed_examples_are_what_they_are_alone():
    """Two examples in one row, by a mask (B, T, S): each begins at position 0 and sees itself alone."""
    model = OPT.tiny()
    a, b = np.random.default_rng(0).integers(0, 13, (2, 1, 4))
    mask = np.zeros((1, 7, 7), bool)
    mask[0, :4, :4] = mask[0, 4:, 4:] = True
    packed = model(np.concatenate([a, b[:, :3]], 1), attention_mask=mask)
    alone = np.concatenate([model(a), model(b[:, :3])], 1)
    np.testing.assert_allclose(packed, alone, atol=1e-6)


def test_padding_on_the_left_changes_nothing():
    model = OPT.tiny()
    tokens = np.random.default_rng(0).integers(0, 13, (1, 5))
    padded, mask = np.pad(tokens, ((0, 0), (3, 0))), np.arange(8)[None] >= 3
    np.testing.assert_allclose(model(padded, attention_mask=mask)[:, 3:], model(tokens), atol=1e-6)


def test_padding_token_has_no_gradient_as_an_input():
    model = OPT.tiny(padding_idx=1, tie_word_embeddings=False)
    model.loss([[1, 2, 3]], [[2, 3, 1]])
    model.backward()
    assert not model.tokens.w.grad[1].any() and model.tokens.w.grad[2].any() and model.output.w.grad[1].any()


def test_bad_configuration_is_named():
    with pytest.raises(ValueError, match="hidden_size 10 must be a multiple of num_attention_heads 3"):
        tinyllm.OPTConfig(hidden_size=10, num_attention_heads=3)
