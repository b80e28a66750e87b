"""T5 and mT5 in Hugging Face's names."""

from __future__ import annotations

import dataclasses

from .family import Family, Named


def t5_stored(theirs, tensors):
    """transformers 5 writes tie_word_embeddings: true whatever the tensors are, and means by false that h is not scaled."""
    scaled = theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings", True))
    return {"scale_decoder_outputs": scaled, "tie_word_embeddings": scaled or "lm_head.weight" not in tensors}


def t5_read(theirs, default="relu"):
    """How older files say what a model is used for, by task; transformers 5 keeps it and does not name it.

    The activation has three names: transformers derives dense_act_fn and is_gated_act from feed_forward_proj, and computes
    with these two where a file has them.
    """
    written = theirs.get("feed_forward_proj", default)
    kind, _, activation = str(written).rpartition("-")
    if written == "gated-gelu":
        activation = "gelu_new"  # what the published weights were trained with
    gated = theirs.get("is_gated_act", kind == "gated")
    computed = theirs.get("dense_act_fn") or activation
    fields = {}
    if (gated, computed) != (kind == "gated", activation):
        # gelu_python is transformers' other name for the exact GELU: gated-gelu means the approximation
        fields["feed_forward_proj"] = f"gated-{'gelu_python' if computed == 'gelu' else computed}" if gated else computed
    params = theirs.get("task_specific_params")
    return {**fields, "task_specific_params": params} if isinstance(params, dict) else fields


def t5_written(config, tied):
    params = config.task_specific_params
    uses = {"task_specific_params": params} if params else {}
    return {"is_encoder_decoder": True, "tie_word_embeddings": tied, **uses}


def t5_stack(stack, *branches):
    """A stack's names: its blocks have the branches attention, [cross], mlp, each behind a norm of its own."""
    layers = [
        Named(f"{stack}.bias", f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"),
        Named(f"{stack}.norm", f"{stack}.final_layer_norm"),
    ]
    for i, branch in enumerate(branches):
        ours, theirs = f"{stack}.blocks.{{}}.{branch}", f"{stack}.block.{{}}.layer.{i}"
        layers.append(Named(f"{stack}.blocks.{{}}.norm{i + 1}", f"{theirs}.layer_norm"))
        if branch == "attention":
            layers.append(Named(f"{ours}.qkv", [f"{theirs}.SelfAttention.{x}" for x in "qkv"]))
            layers.append(Named(f"{ours}.proj", f"{theirs}.SelfAttention.o"))
        elif branch == "cross":
            layers.append(Named(f"{ours}.q", f"{theirs}.EncDecAttention.q"))
            layers.append(Named(f"{ours}.kv", [f"{theirs}.EncDecAttention.{x}" for x in "kv"]))
            layers.append(Named(f"{ours}.proj", f"{theirs}.EncDecAttention.o"))
        else:
            layers.append(Named(f"{ours}.up", f"{theirs}.DenseReluDense.wi"))
            layers.append(Named(f"{ours}.gate_up", [f"{theirs}.DenseReluDense.wi_{x}" for x in "01"]))
            layers.append(Named(f"{ours}.down", f"{theirs}.DenseReluDense.wo"))
    return layers


T5 = Family(
    model_type="t5",
    architectures={"T5ForConditionalGeneration": "T5"},
    prefix="",
    layers=(
        Named("tokens", "shared"),
        *t5_stack("encoder", "attention", "mlp"),
        *t5_stack("decoder", "attention", "cross", "mlp"),
        Named("output", "lm_head"),
    ),
    aliases={
        "hidden_size": "d_model",
        "head_dim": "d_kv",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
    },
    fixed={"is_encoder_decoder": (True,)},
    unused=("dense_act_fn", "is_gated_act", "n_positions", "output_past", "classifier_dropout", "tokenizer_class"),
    ours_alone=("recompute", "task_specific_params"),
    ignored=(
        r"(en|de)coder\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    ),
    holds=lambda c: c.model_type == "t5" and c.scale_decoder_outputs <= c.tie_word_embeddings,
    read=t5_read,
    stored=t5_stored,
    write=lambda model: t5_written(model.config, model.config.scale_decoder_outputs),
)

MT5 = dataclasses.replace(
    T5,
    model_type="mt5",
    architectures={"MT5ForConditionalGeneration": "T5"},
    defaults={"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"},
    holds=lambda c: c.model_type == "mt5" and not c.scale_decoder_outputs,
    read=lambda theirs: t5_read(theirs, "gated-gelu"),
    stored=lambda theirs, tensors: {
        "scale_decoder_outputs": False,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    },
    write=lambda model: t5_written(model.config, model.config.tie_word_embeddings),
)
