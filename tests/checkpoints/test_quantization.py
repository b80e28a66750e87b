"""Quantized models: they compute what their widened weights would, are small on disk, load, generate, and take adapters."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import BERT, kernels
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.cli import cli
from tinyllm.layers import packed_arrays
from tinyllm.models import GPT, OPT, Llama

MODELS = {
    "llama": (Llama, {"hidden_size": 64, "intermediate_size": 172}),
    "llama, tied": (Llama, {"hidden_size": 64, "tie_word_embeddings": True, "attention_bias": True}),
    "llama, norms of q and k": (Llama, {"hidden_size": 64, "qk_norm": True}),
    "opt, 350M": (OPT, {"hidden_size": 64, "do_layer_norm_before": False, "word_embed_proj_dim": 40}),
    "gpt": (GPT, {"n_embd": 64, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}),
    "gpt, untied, recomputed": (GPT, {"n_embd": 40, "tie_word_embeddings": False, "recompute": True}),
}


def pair(name, bits, dtype="float32"):
    """A quantized model, and a plain one with the same weights, widened."""
    model_class, fields = MODELS[name]
    quantized, plain = model_class.tiny(**fields), model_class.tiny(**fields)
    for model in (quantized, plain):
        model.flat.cast(dtype)
        model.flat.data += 0.1 * np.random.default_rng(1).standard_normal(model.flat.size)
    quantize(quantized, bits)
    arrays = quantized.arrays()
    for parameter in plain.parameters():
        if parameter.name in arrays:
            parameter.data = arrays[parameter.name]
        else:
            q, scales = arrays[f"{parameter.name}.q"], arrays[f"{parameter.name}.scales"]
            parameter.data = kernels.dequantize(q, scales, parameter.shape[1])
    return quantized, plain


TOKENS, TARGETS = np.random.default_rng(0).integers(0, 13, (2, 2, 8))


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("name", MODELS)
def test_computes_with_the_widened_weights(name, bits, kernel_set):
    quantized, plain = pair(name, bits)
    with kernels.use(kernel_set):
        np.testing.assert_allclose(quantized(TOKENS), plain(TOKENS), atol=2e-4)
        np.testing.assert_allclose(quantized(TOKENS[:1], last_only=True), plain(TOKENS[:1, :])[:, -1:], atol=2e-4)
        assert quantized.loss(TOKENS, TARGETS) == pytest.approx(plain.loss(TOKENS, TARGETS), rel=1e-4)


def test_what_is_quantized():
    model, _ = pair("llama", 4)
    assert {p.name.rpartition(".")[0].rpartition(".")[2] for p in model.parameters()} == {"norm1", "norm2", "norm"}
    dtypes = {name: array.dtype for layer in model.layers() for name, array in packed_arrays(layer).items()}
    assert dtypes["blocks.1.mlp.down.w.q"] == np.uint8
    assert dtypes["tokens.w.q"] == dtypes["output.w.q"] == np.int8  # errors there meet every token
    assert model.bits == 4
    with pytest.raises(ValueError, match="has 4 bits already"):
        quantize(model, 8)
    with pytest.raises(ValueError, match="BERT cannot be quantized yet"):
        quantize(BERT.tiny(), 8)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, bits, tmp_path):
    model, plain = pair(name, bits)
    tinyllm.save(tmp_path / "quantized", model)
    tinyllm.save(tmp_path / "plain", plain)
    again, _ = tinyllm.load(tmp_path / "quantized")
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
    small, large = ((tmp_path / kind / "model.safetensors").stat().st_size for kind in ("quantized", "plain"))
    assert small < large * (max(bits, 8) + 8) / 32


def test_generates_a_story(shared_data):
    model, tokenizer = tinyllm.load(shared_data / "models" / "stories260K")
    tokens = tinyllm.generate(model, [[1]], max_new_tokens=30)
    again, _ = tinyllm.load(shared_data / "models" / "stories260K", dtype="bfloat16")
    assert again.bits == 16 and again.arrays()["blocks.0.attention.qkv.w.q"].dtype == np.uint16
    np.testing.assert_array_equal(tinyllm.generate(again, [[1]], max_new_tokens=30), tokens)
    quantize(model, 8)
    again = tinyllm.generate(model, [[1]], max_new_tokens=30)
    assert tokenizer.decode(again[0, 1:].tolist()).strip().startswith("Once upon a time, there was a little")
    np.testing.assert_array_equal(again, tokens)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("name", MODELS)
def test_adapters_beside_quantized_weights_get_the_gradients_that_plain_ones_give_them(name, bits):
    gradients = []
    for model in pair(name, bits, "float64"):
        lora.add(model, lora.LoRAConfig(r=3))
        model.flat.data += 0.3 * np.random.default_rng(2).standard_normal(model.flat.size)
        loss = model.loss(TOKENS, TARGETS)
        model.backward()
        gradients.append((loss, model.flat.grad.copy()))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    np.testing.assert_allclose(gradients[0][1], gradients[1][1], atol=1e-5)


def test_adapters_beside_quantized_weights_are_kept_apart(tmp_path):
    model, _ = pair("llama", 4)
    lora.add(model, lora.LoRAConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="the model has 4 bits: adapters are merged"):
        lora.merge(model)
    tinyllm.save(tmp_path / "model", model)
    again, _ = tinyllm.load(tmp_path / "model")
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
    lora.save(tmp_path / "adapter", model)
    with pytest.raises(ValueError, match="merge them first"):
        quantize(again, 8)


def test_only_decoders_are_held_in_bfloat16(tmp_path):
    tinyllm.save(tmp_path / "bert", BERT.tiny())
    with pytest.raises(ValueError, match="bert cannot be held in bfloat16: BERT cannot be quantized yet"):
        tinyllm.load(tmp_path / "bert", dtype="bfloat16")


def test_a_hugging_face_directory_is_not_written():
    model, _ = pair("llama", 8)
    with pytest.raises(ValueError, match="quantized"):
        tinyllm.huggingface.state_dict(model)


def test_the_command(tmp_path, shared_data):
    story = shared_data / "models" / "stories260K"
    for bits, part in (("16", 5), ("8", 2), ("4", 1)):
        out = tmp_path / bits
        result = CliRunner().invoke(cli, ["quantize", str(story), str(out), "--bits", bits])
        assert result.exit_code == 0, result.output
        assert re.search(rf"{bits}: 0\.[236] MB of weights, 1\.0 MB in float32 \({part}\d%\)", result.output)
    text = CliRunner().invoke(cli, ["generate", str(tmp_path / "8"), "--prompt", "Once upon", "--temperature", "0"])
    assert "a time, there was a little girl named Lily" in text.output
    again = CliRunner().invoke(cli, ["quantize", str(tmp_path / "8"), str(tmp_path / "9")])
    assert again.exit_code == 1 and "has 8 bits already" in again.output
