"""GPT-2, LLaMA, Mistral, Qwen2, Qwen3, Phi-3 and OPT in Hugging Face's names."""

from __future__ import annotations

import dataclasses

import numpy as np

from .family import LABELS, Family, Named, read_labels, write_labels
from .rope import read_rope, rope_kind, rope_of, scaling

PHI3_ALONE = ("fused_projections", "resid_pdrop", "partial_rotary_factor")  # fields that only Phi-3's files have
ROPE = ("rope_parameters", "original_max_position_embeddings")  # read into rope_scaling
ONE_LABEL = {"problem_type": (None, "single_label_classification")}

GPT2 = Family(
    model_type="gpt2",
    architectures={
        "GPT2LMHeadModel": "GPT",
        "GPT2Model": "GPT",
        "GPT2ForSequenceClassification": "GPTForSequenceClassification",
    },
    prefix="transformer.",
    layers=(
        Named("tokens", "transformer.wte"),
        Named("positions", "transformer.wpe"),
        Named("blocks.{}.norm1", "transformer.h.{}.ln_1", bias=True),
        Named("blocks.{}.attention.qkv", "transformer.h.{}.attn.c_attn", transposed=True, bias=True),
        Named("blocks.{}.attention.proj", "transformer.h.{}.attn.c_proj", transposed=True, bias=True),
        Named("blocks.{}.norm2", "transformer.h.{}.ln_2", bias=True),
        Named("blocks.{}.mlp.up", "transformer.h.{}.mlp.c_fc", transposed=True, bias=True),
        Named("blocks.{}.mlp.down", "transformer.h.{}.mlp.c_proj", transposed=True, bias=True),
        Named("norm", "transformer.ln_f", bias=True),
        Named("output", "lm_head"),
        Named("score.linear", "score"),
    ),
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    fixed={"add_cross_attention": (False,), **ONE_LABEL},
    defaults={"eos_token_id": 50256},
    unused=(
        "reorder_and_upcast_attn",  # the same numbers, in another order and type
        "n_ctx",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_proj_to_labels",
        "summary_first_dropout",
    ),
    ours_alone=("bias", "recompute", *LABELS),
    ignored=(r"h\.\d+\.attn\.(masked_)?bias",),
    read=read_labels,
    write=write_labels,
)


def read_decoder(theirs):
    """Their embedding of pad_token_id is not trained."""
    return {"padding_idx": theirs.get("pad_token_id"), **read_labels(theirs)}


def write_decoder(model):
    padding = {} if model.config.padding_idx is None else {"pad_token_id": model.config.padding_idx}
    return {**padding, **write_labels(model)}


def heads(config):
    """The rows of q, k and v, in heads."""
    return config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads


def halves(part, number, config):
    """q and k, whose heads turn neighbouring numbers, in the order of heads that turn one half against the other."""
    if not config.rope_neighbours or number == 2:
        return part
    heads_of_part, R = part.reshape(-1, config.head_dim, *part.shape[1:]), config.rotated
    order = [*range(0, R, 2), *range(1, R, 2), *range(R, config.head_dim)]
    return heads_of_part[:, order].reshape(part.shape)


def halves_of_packed(part, number, config):
    """The same for q, k and v in one matrix."""
    if not config.rope_neighbours:
        return part
    q, k, v = np.split(part, np.cumsum(heads(config)[:2]) * config.head_dim)
    return np.concatenate([halves(q, 0, config), halves(k, 1, config), v])


def same_biases(config):
    """Whether the output projection has a bias if and only if q, k and v have one."""
    return config.attention_output_bias in (None, config.attention_bias)


def has_biases(config):
    """Whether any linear map of the blocks has a bias."""
    return config.attention_bias or config.attention_output_bias or config.mlp_bias


def only_phi3_has(config):
    """Whether a configuration differs from LLaMA's in what only Phi-3's files can say."""
    return config.fused_projections or config.resid_pdrop or config.partial_rotary_factor != 1


def read_llama(theirs):
    return {**read_decoder(theirs), **read_rope(theirs)}


def read_qwen2(theirs):
    fields = read_llama(theirs)
    if not theirs.get("use_sliding_window", False):
        return {**fields, "sliding_window": None, "layer_types": None}
    if theirs.get("layer_types") is None:
        first, n = theirs.get("max_window_layers", 28), theirs.get("num_hidden_layers", 32)
        fields["layer_types"] = ["full_attention" if i < first else "sliding_attention" for i in range(n)]
    return fields


def write_qwen2(model):
    config = model.config
    slides = config.sliding_window is not None
    kinds = config.layer_types or ["sliding_attention" if slides else "full_attention"] * config.num_hidden_layers
    return {**write_decoder(model), "use_sliding_window": slides, "layer_types": kinds, "max_window_layers": 0}


def read_phi3(theirs):
    """longrope was called su, and then yarn, before it had its name."""
    fields = read_decoder({"pad_token_id": 32000, **theirs})
    rope = rope_of(theirs)
    for name, default in (("rope_theta", 10000.0), ("partial_rotary_factor", 1.0)):
        fields[name] = rope.pop(name, theirs.get(name, default))
    kind = rope_kind(rope)
    if kind in ("su", "yarn", "longrope"):
        original = {"original_max_position_embeddings": theirs.get("original_max_position_embeddings", 4096)}
        rope = {**rope, "rope_type": "longrope", **original}
    elif kind != "default":
        raise ValueError(f"rope_scaling has the kind {kind!r}, which Phi-3 does not have; it has longrope")
    return {**fields, "rope_scaling": scaling(rope)}


def write_phi3(model):
    config, rope = model.config, dict(model.config.rope_scaling or {})
    original = rope.pop("original_max_position_embeddings", None) or config.max_position_embeddings
    if rope:  # `type`, because Phi-3 in transformers 4 wants that and the two lists, and nothing else
        rope = {"type": rope_kind(rope), **{key: value for key, value in rope.items() if key not in ("type", "rope_type")}}
    return {**write_decoder(model), "rope_scaling": rope or None, "original_max_position_embeddings": original}


LLAMA = Family(
    model_type="llama",
    architectures={
        "LlamaForCausalLM": "Llama",
        "LlamaModel": "Llama",
        "LlamaForSequenceClassification": "LlamaForSequenceClassification",
    },
    prefix="model.",
    layers=(
        Named("tokens", "model.embed_tokens"),
        Named("blocks.{}.norm1", "model.layers.{}.input_layernorm"),
        Named(
            "blocks.{}.attention.qkv", [f"model.layers.{{}}.self_attn.{x}_proj" for x in "qkv"], shares=heads, rows=halves
        ),
        Named("blocks.{}.attention.proj", "model.layers.{}.self_attn.o_proj"),
        Named("blocks.{}.norm2", "model.layers.{}.post_attention_layernorm"),
        Named("blocks.{}.mlp.gate_up", ["model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"]),
        Named("blocks.{}.mlp.down", "model.layers.{}.mlp.down_proj"),
        Named("norm", "model.norm"),
        Named("output", "lm_head"),
        Named("score.linear", "score"),
    ),
    fixed={"partial_rotary_factor": (None, 1.0), "rope_interleaved": (False, None), **ONE_LABEL},
    defaults={"eos_token_id": 2},
    unused=(*ROPE, "pretraining_tp"),
    ours_alone=(
        "rope_neighbours",
        "attention_output_bias",
        "qk_norm",
        *PHI3_ALONE,
        "sliding_window",
        "layer_types",
        "padding_idx",
        "recompute",
        *LABELS,
    ),
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
    holds=lambda c: c.sliding_window is None and same_biases(c) and not (c.qk_norm or only_phi3_has(c)),
    read=read_llama,
    write=write_decoder,
)

MISTRAL = dataclasses.replace(
    LLAMA,
    model_type="mistral",
    architectures={
        "MistralForCausalLM": "Llama",
        "MistralModel": "Llama",
        "MistralForSequenceClassification": "LlamaForSequenceClassification",
    },
    defaults={
        "eos_token_id": 2,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    ours_alone=(
        "rope_neighbours",
        "attention_bias",
        "attention_output_bias",
        "mlp_bias",
        "qk_norm",
        *PHI3_ALONE,
        "layer_types",
        "padding_idx",
        "recompute",
        *LABELS,
    ),
    holds=lambda c: not (has_biases(c) or c.qk_norm or only_phi3_has(c)) and c.layer_types is None,
)

QWEN2 = dataclasses.replace(
    LLAMA,
    model_type="qwen2",
    architectures={
        "Qwen2ForCausalLM": "Llama",
        "Qwen2Model": "Llama",
        "Qwen2ForSequenceClassification": "LlamaForSequenceClassification",
    },
    defaults={
        "attention_bias": True,
        "attention_output_bias": False,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
    unused=(*ROPE, "use_sliding_window", "max_window_layers"),
    ours_alone=(
        "rope_neighbours",
        "attention_bias",
        "attention_output_bias",
        "mlp_bias",
        "qk_norm",
        *PHI3_ALONE,
        "padding_idx",
        "recompute",
        *LABELS,
    ),
    holds=lambda c: (
        c.attention_bias and c.attention_output_bias is False and not (c.mlp_bias or c.qk_norm or only_phi3_has(c))
    ),
    read=read_qwen2,
    write=write_qwen2,
)

QWEN3 = dataclasses.replace(
    QWEN2,
    model_type="qwen3",
    architectures={
        "Qwen3ForCausalLM": "Llama",
        "Qwen3Model": "Llama",
        "Qwen3ForSequenceClassification": "LlamaForSequenceClassification",
    },
    layers=(
        *LLAMA.layers,
        Named("blocks.{}.attention.q_norm", "model.layers.{}.self_attn.q_norm", rows=halves),
        Named("blocks.{}.attention.k_norm", "model.layers.{}.self_attn.k_norm", rows=halves),
    ),
    defaults={
        "qk_norm": True,
        "head_dim": 128,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
    ours_alone=(
        "rope_neighbours",
        "attention_output_bias",
        "mlp_bias",
        "qk_norm",
        *PHI3_ALONE,
        "padding_idx",
        "recompute",
        *LABELS,
    ),
    holds=lambda c: c.qk_norm and same_biases(c) and not (c.mlp_bias or only_phi3_has(c)),
)

PHI3 = dataclasses.replace(
    LLAMA,
    model_type="phi3",
    architectures={
        "Phi3ForCausalLM": "Llama",
        "Phi3Model": "Llama",
        "Phi3ForSequenceClassification": "LlamaForSequenceClassification",
    },
    layers=(
        Named("blocks.{}.attention.qkv", "model.layers.{}.self_attn.qkv_proj", rows=halves_of_packed),
        Named("blocks.{}.mlp.gate_up", "model.layers.{}.mlp.gate_up_proj"),
        *(layer for layer in LLAMA.layers if not layer.ours.endswith((".qkv", ".gate_up"))),
    ),
    fixed={"attention_bias": (False,), "mlp_bias": (False,), **ONE_LABEL},
    defaults={
        "fused_projections": True,
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "eos_token_id": 32000,
        "pad_token_id": 32000,
    },
    unused=(
        *ROPE,
        "embd_pdrop",  # transformers applies it nowhere
    ),
    ours_alone=(
        "rope_neighbours",
        "attention_bias",
        "attention_output_bias",
        "mlp_bias",
        "qk_norm",
        "fused_projections",
        "layer_types",
        "padding_idx",
        "recompute",
        *LABELS,
    ),
    holds=lambda c: (
        not (has_biases(c) or c.qk_norm) and c.layer_types is None and rope_kind(c.rope_scaling) in ("default", "longrope")
    ),
    read=read_phi3,
    write=write_phi3,
)

OPT = Family(
    model_type="opt",
    architectures={
        "OPTForCausalLM": "OPT",
        "OPTModel": "OPT",
        "OPTForSequenceClassification": "OPTForSequenceClassification",
    },
    prefix="model.",
    layers=(
        Named("tokens", "model.decoder.embed_tokens"),
        Named("project_in", "model.decoder.project_in"),
        Named("positions", "model.decoder.embed_positions"),
        Named("blocks.{}.norm1", "model.decoder.layers.{}.self_attn_layer_norm"),
        Named("blocks.{}.attention.qkv", [f"model.decoder.layers.{{}}.self_attn.{x}_proj" for x in "qkv"]),
        Named("blocks.{}.attention.proj", "model.decoder.layers.{}.self_attn.out_proj"),
        Named("blocks.{}.norm2", "model.decoder.layers.{}.final_layer_norm"),
        Named("blocks.{}.mlp.up", "model.decoder.layers.{}.fc1"),
        Named("blocks.{}.mlp.down", "model.decoder.layers.{}.fc2"),
        Named("norm", "model.decoder.final_layer_norm"),
        Named("project_out", "model.decoder.project_out"),
        Named("output", "lm_head"),
        Named("score.linear", "score"),
    ),
    fixed={"layerdrop": (0.0,), **ONE_LABEL},
    defaults={"eos_token_id": 2, "pad_token_id": 1},
    unused=("prefix",),
    ours_alone=("padding_idx", "recompute", *LABELS),
    read=lambda theirs: read_decoder({"pad_token_id": 1, **theirs}),
    write=write_decoder,
)
