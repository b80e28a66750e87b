"""LLaMA, its relatives and OPT beside transformers' own: logits, loss and every gradient; and written back."""

import dataclasses
import json

import numpy as np
import pytest
from parity import TOLERANCE, assert_parity, batch, order_one, peers

import tinyllm
from tinyllm.checkpoints import huggingface
from tinyllm.checkpoints.families import FIXED, LLAMA, MISTRAL, OPT, PHI3, QWEN2, QWEN3, UNUSED
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.models import MODELS

SIZES = {"vocab_size": 43, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": 4}
SIZES |= {"eos_token_id": 5, "pad_token_id": None, "max_position_embeddings": 16}
GATED = {**SIZES, "intermediate_size": 40, "num_key_value_heads": 2}
SIZES_OF = {"Llama": GATED, "Mistral": GATED, "Qwen2": GATED, "Qwen3": {**GATED, "head_dim": 10}}
SIZES_OF |= {"Phi3": {**GATED, "hidden_size": 32}, "OPT": {**SIZES, "ffn_dim": 40}}


def rope(kind, **options):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **options}}


# a divisor for each of four pairs; sequences of more than 8 or 16 tokens take the long ones
LONGROPE = {"short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.0, 2.0, 4.0, 8.0]}


def longrope(original, longest, **options):
    scaling = rope("longrope", **{**LONGROPE, **options})
    return {**scaling, "original_max_position_embeddings": original, "max_position_embeddings": longest}


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
    "phi3": ("Phi3", {"resid_pdrop": 0.1, "embd_pdrop": 0.2, "attention_dropout": 0.3}),
    "phi3, tied, a padding token": ("Phi3", {"tie_word_embeddings": True, "pad_token_id": 7, "num_key_value_heads": None}),
    "phi3, a window": ("Phi3", {"sliding_window": 4}),
    "phi3, a part is rotated": ("Phi3", rope("default", partial_rotary_factor=0.75)),
    "phi3, longrope, short": ("Phi3", longrope(16, 64)),
    "phi3, longrope, long": ("Phi3", longrope(8, 64)),
    "phi3, longrope of a part": (
        "Phi3",
        longrope(10, 40, partial_rotary_factor=0.5, short_factor=[1.0, 1.5], long_factor=[2.0, 4.0], attention_factor=1.2),
    ),
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
    if not variant.endswith("dynamic") and "longrope" not in variant:  # whose angles depend on the longest row
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


PARTLY = {"fused_projections": True, "hidden_size": 24, "partial_rotary_factor": 0.7}  # 4 of 6 numbers


@pytest.mark.parametrize("options", [{"attention_bias": True}, {"qk_norm": True}, PARTLY], ids=str)
def test_neighbouring_pairs_are_written_as_halves(options, tmp_path):
    torch, transformers = peers()
    ours = tinyllm.Llama.tiny(rope_neighbours=True, initializer_range=0.3, **options)
    ours.flat.data += 0.1 * np.random.default_rng(0).standard_normal(ours.flat.size).astype(np.float32)
    huggingface.save(tmp_path, ours)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = np.random.default_rng(0).integers(0, 13, (2, 8))
    targets = np.roll(tokens, -1, 1)
    assert_parity(ours, theirs, (tokens,), targets, {}, "reference", floor=1e-3, input_ids=tokens)


FAMILIES = {"Llama": LLAMA, "Mistral": MISTRAL, "Qwen2": QWEN2, "Qwen3": QWEN3, "Phi3": PHI3, "OPT": OPT}


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
    with pytest.raises(ValueError, match="Llama has no counterpart .* none of llama, mistral, qwen2, qwen3, phi3"):
        huggingface.state_dict(tinyllm.Llama.tiny(sliding_window=3, attention_bias=True))


# Phi-3's config.json ---------------------------------------------------------------------------------------------------


def reconfigure(directory, **changes):
    path = directory / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "REMOVED"}), encoding="utf-8")


@pytest.mark.parametrize("kind", ["su", "yarn", "longrope"])
def test_older_names_of_longrope(kind, tmp_path):
    """As the files of Phi-3-mini-128k have it: beside rope_theta, and with `type`."""
    theirs = in_torch("Phi3", "float64", **longrope(8, 64))
    theirs.save_pretrained(tmp_path)
    expected, _ = tinyllm.load(tmp_path, dtype="float64")
    reconfigure(tmp_path, rope_parameters="REMOVED", rope_scaling={"type": kind, **LONGROPE}, rope_theta=1000.0)
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    tokens, _, _ = batch(padded=False)
    np.testing.assert_array_equal(ours(tokens), expected(tokens))
    assert ours.config.rope_scaling == expected.config.rope_scaling


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("Phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "kind 'linear', which Phi-3 does not have"),
        (
            "Phi3",
            {"rope_parameters": {"rope_type": "longrope", **LONGROPE, "long_factor": [1.0]}},
            "long_factor has 1 numbers",
        ),
        ("Phi3", {"rope_parameters": {"rope_type": "longrope"}}, "missing a required argument: 'short_factor'"),
        ("Phi3", {"rope_parameters": {"partial_rotary_factor": 1.5}}, "partial_rotary_factor is 1.5; it must be"),
        ("Phi3", {"rope_parameters": {"partial_rotary_factor": 0.4}}, "3 numbers of a head are odd"),
        ("Phi3", {"rope_parameters": [1]}, "config.json: "),
        ("Phi3", {"attention_bias": True}, "attention_bias is True, which tinyllm does not compute"),
        ("Phi3", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("Qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, which tinyllm does not compute"),
        ("Qwen3", {"model_type": "qwen3_moe"}, "model_type 'qwen3_moe'; tinyllm reads"),
        ("Qwen3", {"head_dim": 12}, "weight has shape"),
    ],
)
def test_what_is_not_computed_is_refused(name, changes, message, tmp_path):
    in_torch(name, "float32").save_pretrained(tmp_path)
    reconfigure(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        tinyllm.load(tmp_path)
