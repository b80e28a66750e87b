"""T5: gradients of both versions, what the encoder and the decoder share, decoding from a cache."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.generation import encoded
from tinyllm.models import T5, T5Config

VARIANTS = {
    "as published": {},
    "version 1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "tied, not scaled": {"scale_decoder_outputs": False},
    "gated silu": {"feed_forward_proj": "gated-silu"},
    "uneven": {"num_layers": 1, "num_decoder_layers": 3, "num_heads": 3, "d_kv": 5},
    "recomputed": {"recompute": True},
}


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name, kernel_set):
    model = T5.tiny(**VARIANTS[name])
    model.train()  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(model, samples=3):
            assert check.error < 1e-6, check
        for check in tinyllm.gradcheck(model, samples=3, label_smoothing=0.1):
            assert check.error < 1e-6, check


def example(**options):
    model = T5.tiny(**options)
    model.flat.data += 0.3 * np.random.default_rng(1).standard_normal(model.flat.size)
    return model, *model.example(np.random.default_rng(0)), model.example_options(np.random.default_rng(0))


def test_gradients_accumulate_over_two_passes():
    model, *batch, options = example()
    model.loss(*batch, **options)
    model.backward()
    once = model.flat.grad.copy()
    model.loss(*batch, **options)
    model.backward(2.0)
    np.testing.assert_allclose(model.flat.grad, 3 * once, rtol=1e-4, atol=1e-6)


def test_padding_changes_nothing():
    model, source, target_in, _, options = example()
    logits = model(source, target_in, **options)
    alone = model(source[:1, :5], target_in[:1])
    np.testing.assert_allclose(logits[:1], alone, atol=1e-5)
    longer = np.pad(target_in, ((0, 0), (0, 4)), constant_values=7)
    np.testing.assert_allclose(model(source, longer, **options)[:, :5], logits, atol=1e-5)


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
def test_decoding_step_by_step_is_the_whole(kernel_set):
    model, source, target_in, _, options = example(num_decoder_layers=3)
    with kernels.use(kernel_set):
        whole = model(source, target_in, **options)
        cache = encoded(model, source, **options)
        first = model.decode(target_in[:, :2], cache)
        np.testing.assert_allclose(first, whole[:, :2], atol=1e-5)
        rows = np.array([1, 0, 1])
        cache.select(rows)
        for t in range(2, 5):
            step = model.decode(target_in[rows, t : t + 1], cache, last_only=True)
            np.testing.assert_allclose(step[:, 0], whole[rows, t], atol=1e-5)
    assert cache.length == 5


def test_one_bias_for_each_stack_and_none_for_cross_attention():
    names = [p.name for p in T5.tiny().parameters()]
    assert [name for name in names if "bias" in name] == ["encoder.bias.w", "decoder.bias.w"]
    assert names[0] == "tokens.w" and T5.tiny().output.w is T5.tiny().tokens.w or "output.w" not in names


def test_published_initialisation():
    c = T5Config(vocab_size=500, d_model=256, d_kv=16, d_ff=512, num_layers=1, num_heads=8, tie_word_embeddings=False)
    model = T5(c)
    decoder = model.decoder.blocks[0]
    q, kv = np.split(decoder.attention.qkv.w.data, [128])
    expected = {
        "q": (q, (256 * 16) ** -0.5),
        "k and v": (kv, 256**-0.5),
        "cross q": (decoder.cross.q.w.data, (256 * 16) ** -0.5),
        "cross k and v": (decoder.cross.kv.w.data, 256**-0.5),
        "o": (decoder.attention.proj.w.data, 128**-0.5),
        "cross o": (decoder.cross.proj.w.data, 128**-0.5),
        "up": (decoder.mlp.up.w.data, 256**-0.5),
        "down": (decoder.mlp.down.w.data, 512**-0.5),
        "bias": (model.decoder.bias.w.data, 256**-0.5),
        "embedding": (model.tokens.w.data, 1.0),
        "output": (model.output.w.data, 1.0),
    }
    for name, (values, std) in expected.items():
        assert values.std() == pytest.approx(std, rel=0.1), name
    tied = T5(T5Config(vocab_size=500, d_model=256, d_kv=16, d_ff=512, num_layers=2, num_heads=8))
    logits = tied(*np.random.default_rng(0).integers(0, 500, (2, 4, 32)))
    assert logits.std() == pytest.approx(1, rel=0.2)  # by C^-1/2


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[0, 13]], [[1]], [[1]]), {}, "source holds 13"),
        (([[0, 1]], [[13]], [[1]]), {}, "target_in holds 13"),
        (([[0, 1]], [[1], [2]], [[1], [2]]), {}, "source has 1 rows and target_in 2"),
        (([[0, 1]], [[1, 2]], [[1]]), {}, r"targets must be integers of shape \(1, 2\)"),
        (([[0, 1]], [[1]], [[1]]), {"source_mask": [[1]]}, r"source_mask must have shape \(1, 2\), and has \(1, 1\)"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        T5.tiny().loss(*arguments, **options)


def test_bad_configuration_is_named():
    with pytest.raises(ValueError, match="num_buckets 2 must be 4 at least"):
        T5Config(relative_attention_num_buckets=2)
    with pytest.raises(ValueError, match="'mish' is not supported"):
        T5.tiny(feed_forward_proj="gated-mish")
    with pytest.raises(ValueError, match="feed_forward_proj is 'double-relu': it must be an activation"):
        T5.tiny(feed_forward_proj="double-relu")


def test_the_mask_goes_by_name():
    model, tokens = T5.tiny(), [[1, 2, 3]]
    for call in (lambda: model(tokens, tokens, tokens), lambda: model.loss(tokens, tokens, [[2, 3, 4]], tokens)):
        with pytest.raises(TypeError, match="positional argument"):
            call()
    with pytest.raises(TypeError):
        model.encode(tokens, tokens)


def test_unshifted_targets_are_warned_of():
    model, tokens = T5.tiny(), [[1, 2, 3]]
    with pytest.warns(UserWarning, match="the targets are the tokens themselves"):
        model.loss([[4, 5]], tokens, tokens)
    model.loss(tokens, [[0, 1, 2]], tokens)  # to copy the source is all right
