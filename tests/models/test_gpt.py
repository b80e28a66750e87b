"""GPT: gradients of the whole model, weight tying, checks of the input."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.models import GPT

VARIANTS = {
    "as published": {},
    "untied": {"tie_word_embeddings": False},
    "no biases": {"bias": False},
    "recomputed": {"recompute": True},
    "erf gelu, wide": {"activation_function": "gelu", "n_inner": 20},
    "relu": {"activation_function": "relu"},
    "unscaled": {"scale_attn_weights": False},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
}


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name, kernel_set):
    model = GPT.tiny(**VARIANTS[name])
    model.train()  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(model, samples=3):
            assert check.error < 1e-6, check


def test_gradients_accumulate_over_two_passes():
    model = GPT.tiny(tie_word_embeddings=True)
    batch = model.example(np.random.default_rng(0))
    model.loss(*batch)
    model.backward()
    once = model.flat.grad.copy()
    model.loss(*batch)
    model.backward(2.0)
    np.testing.assert_allclose(model.flat.grad, 3 * once, rtol=1e-5, atol=1e-7)
    model.zero_grad()
    assert not model.flat.grad.any()


def test_tied_weight_is_one_parameter():
    model = GPT.tiny()
    assert model.output.w is model.tokens.w
    assert [p.name for p in model.parameters()][0] == "tokens.w"
    assert (
        model.n_parameters
        == sum(p.size for p in model.parameters())
        == GPT.tiny(tie_word_embeddings=False).n_parameters - 13 * 8
    )


def test_loss_twice_then_backward_is_of_the_last():
    model = GPT.tiny()
    (tokens, targets), options = model.example(np.random.default_rng(0)), model.example_options(np.random.default_rng(0))
    model.loss(tokens, targets, **options)
    model.backward()
    expected = model.flat.grad.copy()
    model.zero_grad()
    model.loss(tokens[::-1], targets)
    model.loss(tokens, targets, **options)
    model.backward()
    np.testing.assert_array_equal(model.flat.grad, expected)


def test_published_initialisation():
    model = tinyllm.GPT(tinyllm.GPTConfig(vocab_size=100, n_positions=64, n_layer=8, n_head=4, n_embd=256))
    block = model.blocks[0]
    assert block.attention.qkv.w.data.std() == pytest.approx(0.02, rel=0.02)
    assert block.mlp.down.w.data.std() == pytest.approx(0.02 / 4, rel=0.02)  # sqrt(2 * 8 layers)
    assert block.attention.proj.w.data.std() == pytest.approx(0.02 / 4, rel=0.02)
    assert not block.mlp.up.b.data.any() and (model.norm.w.data == 1).all()
    loss = model.loss(*np.random.default_rng(0).integers(0, 100, (2, 4, 64)))
    assert loss == pytest.approx(np.log(100), rel=0.05)


def test_same_seed_same_weights():
    a, b, c = GPT.tiny(), GPT.tiny(), tinyllm.GPT(GPT.tiny().config, seed=1)
    np.testing.assert_array_equal(a.flat.data, b.flat.data)
    assert (a.flat.data != c.flat.data).any()


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([[0, 13]], {}, r"tokens holds 13; each must lie in \[0, 13\)"),
        ([[0, -1]], {}, "tokens holds -1"),
        ([0, 1], {}, r"must be integers of shape \(B, T\)"),
        ([[0.5]], {}, "must be integers"),
        ([[0] * 9], {}, "9 tokens, and this model takes at most 8"),
        ([[0, 1]], {"attention_mask": [[1, 1, 1]]}, r"attention_mask must have shape \(1, 2\)"),
    ],
)
def test_bad_input_is_named(tokens, options, message):
    with pytest.raises(ValueError, match=message):
        GPT.tiny()(tokens, **options)


def test_bad_targets_and_configuration_are_named():
    with pytest.raises(ValueError, match="targets holds -5"):
        GPT.tiny().loss([[0, 1]], [[1, -5]])
    with pytest.raises(ValueError, match=r"integers of shape \(1, 2\)"):
        GPT.tiny().loss([[0, 1]], [[1]])
    with pytest.raises(ValueError, match="n_embd 10 must be a multiple of n_head 3"):
        tinyllm.GPTConfig(n_embd=10, n_head=3)
    with pytest.raises(ValueError, match="'mish' is not supported"):
        GPT.tiny(activation_function="mish")


def test_float32_stays_float32():
    model = GPT.tiny()
    (tokens, targets), options = model.example(np.random.default_rng(0)), model.example_options(np.random.default_rng(0))
    assert model(tokens, **options).dtype == np.float32
    assert isinstance(model.loss(tokens, targets, **options), float)


# Targets that are not shifted ------------------------------------------------------------------------------------------


def test_unshifted_targets_are_warned_of_once():
    model, tokens = GPT.tiny(), np.random.default_rng(0).integers(0, 13, (2, 8))
    labels = tokens.copy()
    labels[:, :3] = -100  # as Hugging Face's models take them, which shift themselves
    for targets in (tokens, tokens.copy(), tokens.tolist(), labels):
        model.warned = False
        with pytest.warns(UserWarning, match=r"targets are the tokens themselves.*loss\(text\[:, :-1\], text\[:, 1:\]\)"):
            model.loss(tokens, targets)
        model.loss(tokens, targets)  # once


@pytest.mark.parametrize(
    ("tokens", "targets"),
    [
        ([[1, 2, 3]], [[2, 3, 4]]),
        ([[5, 5, 5], [2, 2, 2]], [[5, 5, 5], [2, 2, 2]]),  # a text of one letter, shifted
        ([[5], [6]], [[5], [6]]),  # a letter that comes twice
        ([[1, 2, 3]], [[-100, -100, 3]]),  # likewise, at the end
        ([[1, 2, 2]], [[-100, 2, 2]]),
        ([[1, 2, 3]], [[-100, -100, -100]]),
    ],
)
def test_others_are_not(tokens, targets):
    GPT.tiny().loss(tokens, targets)  # a warning would be an error here


@pytest.mark.parametrize("made", [GPT, tinyllm.Llama, tinyllm.OPT])
def test_masks_go_by_name(made):
    model, tokens, mask = made.tiny(), [[1, 2, 3]], [[True, True, True]]
    for call in (lambda: model(tokens, mask), lambda: model.loss(tokens, [[2, 3, 4]], mask)):
        with pytest.raises(TypeError, match="positional argument"):
            call()
