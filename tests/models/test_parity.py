"""LLaMA, Mistral, Qwen2, Qwen3 and OPT beside transformers' own: logits, loss and every gradient; and written back."""

import dataclasses

import numpy as np
import pytest
from parity import TOLERANCE, assert_parity, batch, order_one, peers

import tinyllm
from tinyllm.checkpoints import huggingface
from tinyllm.checkpoints.families import FIXED, LLAMA, MISTRAL, OPT, QWEN2, QWEN3, UNUSED
from tinyllm.models import MODELS

SIZES = {"vocab_size": 43, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": 4}
SIZES |= {"eos_token_id": 5, "pad_token_id": None, "max_position_embeddings": 16}
GATED = {**SIZES, "intermediate_size": 40, "num_key_value_heads": 2}
SIZES_OF = {"Llama": GATED, "Mistral": GATED, "Qwen2": GATED, "Qwen3": {**GATED, "head_dim": 10}}
SIZES_OF |= {"OPT": {**SIZES, "ffn_dim": 40}}


def rope(kind, **options):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **options}}


VARIANTS = {
    "llama": ("Llama", {}),
    "llama, multi-query": ("Llama", {"num_key_value_heads": 1}),
    "llama, a key for each query": ("Llama", {"num_key_value_heads": 4, "rms_norm_eps": 0.1}),
    "llama, tied, wide heads": ("Llama", {"tie_word_embeddings": True, "head_dim": 10}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, a padding token": ("Llama", {"pad_token_id": 7, "hidden_act": "gelu"}),
    "llama, theta": ("Llama", rope("default")),
    "llama, linear": ("Llama", rope("linear", factor=4.0)),
    "llama, dynamic": ("Llama", {**rope("dynamic", factor=4.0), "max_position_embeddings": 8}),
    "llama, llama3": (
        "Llama",
        rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16),
    ),
    "llama, yarn": ("Llama", rope("yarn", factor=4.0, original_max_position_embeddings=8)),
    "llama, yarn in full": (
        "Llama",
        rope("yarn", factor=2.0, mscale=0.7, mscale_all_dim=1.2, beta_fast=4.0, beta_slow=0.1, truncate=False),
    ),
    "mistral": ("Mistral", {"sliding_window": 4}),
    "mistral without a window": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen2, some layers slide": ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {}),
    "qwen3, tied, biases": ("Qwen3", {"tie_word_embeddings": True, "attention_bias": True, "rms_norm_eps": 0.1}),
    "qwen3, some layers slide": ("Qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3, yarn": ("Qwen3", rope("yarn", factor=4.0, original_max_position_embeddings=8)),
    "opt": ("OPT", {}),
    "opt, 350M": ("OPT", {"do_layer_norm_before": False, "word_embed_proj_dim": 10}),
    "opt, narrow embeddings, untied": ("OPT", {"word_embed_proj_dim": 10, "tie_word_embeddings": False}),
    "opt, no final norm": ("OPT", {"_remove_final_layer_norm": True}),
    "opt, no biases": ("OPT", {"enable_bias": False, "activation_function": "gelu"}),
    "opt, plain norms": ("OPT", {"layer_norm_elementwise_affine": False}),
    "opt, a padding token": ("OPT", {"pad_token_id": 1}),
}


def in_torch(name, dtype, attention="eager", **options):
    torch, transformers = peers()
    config = getattr(transformers, f"{name}Config")(**{**SIZES_OF[name], **options}, attn_implementation=attention)
    return order_one(getattr(transformers, f"{name}ForCausalLM")(config)).to(getattr(torch, dtype))


@pytest.mark.parametrize(("dtype", "kernel_set"), [("float64", "reference"), ("float64", "cpu"), ("float32", "cpu")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_are_autograds(variant, dtype, kernel_set, in_float64_throughout, tmp_path):
    if dtype == "float64":
        in_float64_throughout()
    name, options = VARIANTS[variant]
    theirs = in_torch(name, dtype, **options)
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype=dtype)
    for padded in (False, True):
        tokens, targets, mask = batch(padded)
        given = {"attention_mask": mask} if padded else {}
        theirs_given = {"input_ids": tokens, "attention_mask": mask.astype(int)}
        # a key's bias moves all scores of a query alike: its gradient is zero, up to rounding
        assert_parity(ours, theirs, (tokens,), targets, given, kernel_set, floor=1e-3, **theirs_given)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens(variant, use_cache, tmp_path):
    torch, _ = peers()
    name, options = VARIANTS[variant]
    theirs = in_torch(name, "float64", attention="sdpa", **options)
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    tokens, _, _ = batch(padded=False)
    mask = np.arange(7) >= np.array([[3], [0], [6]])  # prompts of 4, 7 and 1 tokens
    settings = {"use_cache": use_cache, "max_new_tokens": 6}
    given = {"input_ids": torch.tensor(tokens[:, :7]), "attention_mask": torch.tensor(mask.astype(int))}
    expected = theirs.generate(**given, **settings, do_sample=False, eos_token_id=None, pad_token_id=0)
    result = tinyllm.generate(ours, tokens[:, :7], attention_mask=mask, eos_id=(), **settings)
    np.testing.assert_array_equal(result[:, 7:], expected[:, 7:])
    if not variant.endswith("dynamic"):  # whose angles depend on the longest row
        for row, real, new in zip(tokens, mask, result):
            alone = tinyllm.generate(ours, row[None, :7][:, real], eos_id=(), **settings)
            np.testing.assert_array_equal(alone[0, real.sum() :], new[7:])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write(variant, dtype, tmp_path):
    torch, transformers = peers()
    name, options = VARIANTS[variant]
    theirs = in_torch(name, dtype, **options)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, _ = tinyllm.load(tmp_path / "theirs", dtype=dtype)
    huggingface.save(tmp_path / "ours", ours)
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values())
    assert same_network(type(again), type(theirs))
    tokens, _, _ = batch(padded=False)
    with torch.no_grad():
        for a, b in zip(again.eval()(torch.tensor(tokens)).logits, theirs(torch.tensor(tokens)).logits):
            torch.testing.assert_close(a, b)


def same_network(written, read):
    """A Mistral without a window is a LLaMA."""
    return written is read or {written.__name__, read.__name__} == {"LlamaForCausalLM", "MistralForCausalLM"}


@pytest.mark.parametrize("options", [{"attention_bias": True}, {"qk_norm": True}], ids=str)
def test_neighbouring_pairs_are_written_as_halves(options, tmp_path):
    torch, transformers = peers()
    ours = tinyllm.Llama.tiny(rope_neighbours=True, initializer_range=0.3, **options)
    ours.flat.data += 0.1 * np.random.default_rng(0).standard_normal(ours.flat.size).astype(np.float32)
    huggingface.save(tmp_path, ours)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = np.random.default_rng(0).integers(0, 13, (2, 8))
    targets = np.roll(tokens, -1, 1)
    assert_parity(ours, theirs, (tokens,), targets, {}, "reference", floor=1e-3, input_ids=tokens)


FAMILIES = {"Llama": LLAMA, "Mistral": MISTRAL, "Qwen2": QWEN2, "Qwen3": QWEN3, "OPT": OPT}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_of_their_configuration_is_known_and_its_default_ours(name):
    """transformers may write only what differs from its defaults."""
    _, transformers = peers()
    family, theirs = FAMILIES[name], getattr(transformers, f"{name}Config")().to_dict()
    config_class = MODELS[family.architectures[f"{name}ForCausalLM"]][1]
    ours = dataclasses.asdict(config_class(**family.defaults))
    known = {*ours, *UNUSED, *FIXED, *family.fixed, *family.unused}
    assert set(theirs) <= known
    derived = ("head_dim", "word_embed_proj_dim", "num_key_value_heads", "layer_types", "sliding_window", "id2label")
    for key in set(theirs) & set(ours) - set(derived):
        assert ours[key] == theirs[key], key


def test_a_network_that_transformers_lacks_is_told():
    with pytest.raises(ValueError, match="Llama has no counterpart .* none of llama, mistral, qwen2, qwen3"):
        huggingface.state_dict(tinyllm.Llama.tiny(sliding_window=3, attention_bias=True))
