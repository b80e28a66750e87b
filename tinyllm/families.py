"""The families of Hugging Face checkpoints that tinyllm reads and writes: all that is particular to one, as a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Named:
    """One of our layers in their names. {} stands for a block's number; our `w` and `b` are their weight and bias.

    theirs: several where our layer is theirs packed, row below row; their shares of the rows follow from `shares`, numbers
    from our configuration, and are equal where it is None. transposed: their matrix is (C, F), ours (F, C). bias: theirs
    always has one; where ours has none, zeros stand for it. rows: part `number` of theirs, with its rows in their order.
    """

    ours: str
    theirs: str | Sequence[str]
    transposed: bool = False
    bias: bool = False
    shares: Callable[[Any], Sequence[int]] | None = None
    rows: Callable[[np.ndarray, int, Any], np.ndarray] = lambda part, number, config: part

    def names(self, parameter: str) -> list[str]:
        """What they call our parameter; [] where it is not of this layer."""
        layer, _, kind = parameter.rpartition(".")
        match = re.fullmatch(re.escape(self.ours).replace(r"\{\}", r"(\d+)"), layer)
        theirs = [self.theirs] if isinstance(self.theirs, str) else self.theirs
        return [f"{name.format(*match.groups())}.{ {'w': 'weight', 'b': 'bias'}[kind] }" for name in theirs] if match else []


@dataclass(frozen=True)
class Family:
    """All that is particular to one of their families. Fields of configurations are named alike."""

    model_type: str
    architectures: Mapping[str, str]  # their class -> ours; of those that are one class of ours, the first is written
    prefix: str  # what their class with a head puts before the names of the class without
    layers: Sequence[Named]
    renamed: Mapping[str, str] = field(default_factory=dict)  # their names of fields -> ours, where they differ
    aliases: Mapping[str, str] = field(default_factory=dict)  # further names of theirs -> ours
    fixed: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # their field -> the values that we compute
    defaults: Mapping[str, Any] = field(default_factory=dict)  # our field -> their default, where it is not ours
    unused: Sequence[str] = ()  # fields that change nothing here
    ours_alone: Sequence[str] = ()  # our fields that they do not have
    ignored: Sequence[str] = ()  # patterns of tensors that hold nothing learned, or what our class does not have
    older: Sequence[tuple[str, str]] = ()  # how names of tensors end in older files -> how they do now
    same: Callable[[Any], Mapping[str, str]] = lambda config: {}  # further names of one tensor -> its first
    base: str = ""  # our class without a head: its names have no prefix
    holds: Callable[[Any], bool] = lambda config: True  # which of our configurations this family has
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda theirs: {}  # our fields that have no name in config.json
    stored: Callable[[Mapping[str, Any], Set[str]], Mapping[str, Any]] = lambda theirs, tensors: {}  # or tensors alone tell
    write: Callable[[Any], Mapping[str, Any]] = lambda model: {}  # their fields that have no name in our configuration


def beginning(theirs: str | Sequence[str], before: str, now: str) -> str | list[str]:
    """The names of a layer with another beginning."""
    return theirs.replace(before, now, 1) if isinstance(theirs, str) else [name.replace(before, now, 1) for name in theirs]


GPT2 = Family(
    model_type="gpt2",
    architectures={"GPT2LMHeadModel": "GPT", "GPT2Model": "GPT"},
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
    ),
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    fixed={"add_cross_attention": (False,)},
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
    ours_alone=("bias", "recompute"),
    ignored=(r"h\.\d+\.attn\.(masked_)?bias",),
)


def padding(theirs):
    """Their embedding of pad_token_id is not trained."""
    return {"padding_idx": theirs.get("pad_token_id")}


def written_padding(model):
    return {} if model.config.padding_idx is None else {"pad_token_id": model.config.padding_idx}


def heads(config):
    """The rows of q, k and v, in heads."""
    return config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads


def halves(part, number, config):
    """q and k, whose heads turn neighbouring numbers, in the order of heads that turn one half against the other."""
    if not config.rope_neighbours or number == 2:
        return part
    pairs = part.reshape(-1, config.head_dim // 2, 2, *part.shape[1:])
    return pairs.swapaxes(1, 2).reshape(part.shape)


def read_llama(theirs):
    """Since version 5 of transformers all about rotary positions stands in rope_parameters."""
    fields = padding(theirs)
    rope = dict(theirs.get("rope_parameters") or {})
    if rope:
        fields["rope_theta"] = rope.pop("rope_theta", 10000.0)
        fields["rope_scaling"] = None if rope.get("rope_type") == "default" and len(rope) == 1 else rope
    return fields


def read_qwen2(theirs):
    fields = read_llama(theirs)
    if not theirs.get("use_sliding_window", False):
        return {**fields, "sliding_window": None, "layer_types": None}
    if theirs.get("layer_types") is None:
        first, n = theirs.get("max_window_layers", 28), theirs["num_hidden_layers"]
        fields["layer_types"] = ["full_attention" if i < first else "sliding_attention" for i in range(n)]
    return fields


def write_qwen2(model):
    config = model.config
    slides = config.sliding_window is not None
    kinds = config.layer_types or ["sliding_attention" if slides else "full_attention"] * config.num_hidden_layers
    return {**written_padding(model), "use_sliding_window": slides, "layer_types": kinds, "max_window_layers": 0}


LLAMA = Family(
    model_type="llama",
    architectures={"LlamaForCausalLM": "Llama", "LlamaModel": "Llama"},
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
    ),
    defaults={"eos_token_id": 2},
    unused=("rope_parameters", "pretraining_tp"),
    ours_alone=(
        "rope_neighbours",
        "attention_output_bias",
        "sliding_window",
        "layer_types",
        "padding_idx",
        "recompute",
    ),
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
    holds=lambda c: c.sliding_window is None and c.attention_output_bias in (None, c.attention_bias),
    read=read_llama,
    write=written_padding,
)

MISTRAL = dataclasses.replace(
    LLAMA,
    model_type="mistral",
    architectures={"MistralForCausalLM": "Llama", "MistralModel": "Llama"},
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
        "layer_types",
        "padding_idx",
        "recompute",
    ),
    holds=lambda c: not (c.attention_bias or c.attention_output_bias or c.mlp_bias) and c.layer_types is None,
)

QWEN2 = dataclasses.replace(
    LLAMA,
    model_type="qwen2",
    architectures={"Qwen2ForCausalLM": "Llama", "Qwen2Model": "Llama"},
    defaults={
        "attention_bias": True,
        "attention_output_bias": False,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
    },
    unused=("rope_parameters", "use_sliding_window", "max_window_layers"),
    ours_alone=("rope_neighbours", "attention_bias", "attention_output_bias", "mlp_bias", "padding_idx", "recompute"),
    holds=lambda c: c.attention_bias and c.attention_output_bias is False and not c.mlp_bias,
    read=read_qwen2,
    write=write_qwen2,
)

OPT = Family(
    model_type="opt",
    architectures={"OPTForCausalLM": "OPT", "OPTModel": "OPT"},
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
    ),
    fixed={"layerdrop": (0.0,)},
    defaults={"eos_token_id": 2, "pad_token_id": 1},
    unused=("prefix",),
    ours_alone=("padding_idx", "recompute"),
    read=lambda theirs: padding({"pad_token_id": 1, **theirs}),
    write=written_padding,
)


def bert_stored(theirs, tensors):
    """A file may have a pooler and a next-sentence head that its architecture does not name, or lack the pooler."""
    return {
        "next_sentence": "cls.seq_relationship.weight" in tensors,
        "pooler": not tensors.isdisjoint({"pooler.dense.weight", "bert.pooler.dense.weight"}),
    }


def write_labels(model):
    """The labels' names both ways, where the model has labels; without names, transformers' own."""
    if "Classification" not in type(model).__name__:
        return {}
    names = model.config.id2label or {str(i): f"LABEL_{i}" for i in range(model.config.num_labels)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def write_bert(model):
    pretraining = type(model).__name__ == "BERT" and model.config.next_sentence
    return {**write_labels(model), **({"architectures": ["BertForPreTraining"]} if pretraining else {})}


BERT = Family(
    model_type="bert",
    architectures={
        "BertForMaskedLM": "BERT",
        "BertForPreTraining": "BERT",
        "BertForSequenceClassification": "BERTForSequenceClassification",
        "BertForTokenClassification": "BERTForTokenClassification",
        "BertForQuestionAnswering": "BERTForQuestionAnswering",
        "BertModel": "BERTEncoder",
    },
    prefix="bert.",
    layers=(
        Named("tokens", "bert.embeddings.word_embeddings"),
        Named("positions", "bert.embeddings.position_embeddings"),
        Named("token_types", "bert.embeddings.token_type_embeddings"),
        Named("norm", "bert.embeddings.LayerNorm"),
        Named("blocks.{}.attention.qkv", [f"bert.encoder.layer.{{}}.attention.self.{x}" for x in ("query", "key", "value")]),
        Named("blocks.{}.attention.proj", "bert.encoder.layer.{}.attention.output.dense"),
        Named("blocks.{}.norm1", "bert.encoder.layer.{}.attention.output.LayerNorm"),
        Named("blocks.{}.mlp.up", "bert.encoder.layer.{}.intermediate.dense"),
        Named("blocks.{}.mlp.down", "bert.encoder.layer.{}.output.dense"),
        Named("blocks.{}.norm2", "bert.encoder.layer.{}.output.LayerNorm"),
        Named("head.pooler.dense", "bert.pooler.dense"),
        Named("head.masked.dense", "cls.predictions.transform.dense"),
        Named("head.masked.norm", "cls.predictions.transform.LayerNorm"),
        Named("head.masked.output", "cls.predictions.decoder"),
        Named("head.next_sentence.linear", "cls.seq_relationship"),
        Named("head.classifier.linear", "classifier"),
        Named("head.linear", "classifier"),
        Named("head.spans", "qa_outputs"),
    ),
    fixed={
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "position_embedding_type": ("absolute",),
        "problem_type": (None, "single_label_classification"),
    },
    unused=(
        "label2id", "eos_token_id", "directionality", "pooler_fc_size", "pooler_num_attention_heads",
        "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "output_past", "finetuning_task",
    ),
    ours_alone=("next_sentence", "pooler", "recompute"),
    ignored=(r"embeddings\.position_ids", r"pooler\.dense\.(weight|bias)", r"cls\.(predictions\.bias|seq_relationship\..*)"),
    older=((".gamma", ".weight"), (".beta", ".bias")),
    same=lambda c: {"cls.predictions.bias": "cls.predictions.decoder.bias"} if c.tie_word_embeddings else {},
    base="BERTEncoder",
    holds=lambda c: c.model_type == "bert",
    stored=bert_stored,
    write=write_bert,
)  # fmt: skip

ROBERTA = dataclasses.replace(
    BERT,
    model_type="roberta",
    architectures={
        "RobertaForMaskedLM": "BERT",
        "RobertaForSequenceClassification": "BERTForSequenceClassification",
        "RobertaForTokenClassification": "BERTForTokenClassification",
        "RobertaForQuestionAnswering": "BERTForQuestionAnswering",
        "RobertaModel": "BERTEncoder",
    },
    prefix="roberta.",
    layers=(
        *(dataclasses.replace(n, theirs=beginning(n.theirs, "bert.", "roberta.")) for n in BERT.layers[:10]),
        Named("head.masked.dense", "lm_head.dense"),
        Named("head.masked.norm", "lm_head.layer_norm"),
        Named("head.masked.output", "lm_head.decoder"),
        Named("head.pooler.dense", "classifier.dense"),
        Named("head.classifier.linear", "classifier.out_proj"),
        Named("head.linear", "classifier"),
        Named("head.spans", "qa_outputs"),
    ),
    defaults={"vocab_size": 50265, "pad_token_id": 1},
    ignored=(r"embeddings\.position_ids", r"pooler\.dense\.(weight|bias)", r"lm_head\.bias"),
    same=lambda c: {"lm_head.bias": "lm_head.decoder.bias"} if c.tie_word_embeddings else {},
    holds=lambda c: c.model_type == "roberta" and not c.next_sentence,
    stored=lambda theirs, tensors: {"pooler": False},  # it was never trained
    write=write_labels,
)

DISTILBERT = dataclasses.replace(
    BERT,
    model_type="distilbert",
    architectures={
        "DistilBertForMaskedLM": "BERT",
        "DistilBertForSequenceClassification": "BERTForSequenceClassification",
        "DistilBertForTokenClassification": "BERTForTokenClassification",
        "DistilBertForQuestionAnswering": "BERTForQuestionAnswering",
        "DistilBertModel": "BERTEncoder",
    },
    prefix="distilbert.",
    layers=(
        Named("tokens", "distilbert.embeddings.word_embeddings"),
        Named("positions", "distilbert.embeddings.position_embeddings"),
        Named("norm", "distilbert.embeddings.LayerNorm"),
        Named("blocks.{}.attention.qkv", [f"distilbert.transformer.layer.{{}}.attention.{x}_lin" for x in "qkv"]),
        Named("blocks.{}.attention.proj", "distilbert.transformer.layer.{}.attention.out_lin"),
        Named("blocks.{}.norm1", "distilbert.transformer.layer.{}.sa_layer_norm"),
        Named("blocks.{}.mlp.up", "distilbert.transformer.layer.{}.ffn.lin1"),
        Named("blocks.{}.mlp.down", "distilbert.transformer.layer.{}.ffn.lin2"),
        Named("blocks.{}.norm2", "distilbert.transformer.layer.{}.output_layer_norm"),
        Named("head.masked.dense", "vocab_transform"),
        Named("head.masked.norm", "vocab_layer_norm"),
        Named("head.masked.output", "vocab_projector"),
        Named("head.pooler.dense", "pre_classifier"),
        Named("head.classifier.linear", "classifier"),
        Named("head.linear", "classifier"),
        Named("head.spans", "qa_outputs"),
    ),
    renamed={
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "seq_classif_dropout": "classifier_dropout",
    },
    fixed={**BERT.fixed, "sinusoidal_pos_embds": (False, True)},  # stored as they are, either way
    defaults={"num_hidden_layers": 6, "type_vocab_size": 0, "classifier_dropout": 0.2},
    unused=(*BERT.unused, "qa_dropout"),
    ours_alone=("type_vocab_size", "layer_norm_eps", *BERT.ours_alone),
    same=lambda c: {},
    holds=lambda c: c.model_type == "distilbert" and not c.next_sentence,
    stored=lambda theirs, tensors: {"pooler": False},
    write=write_labels,
)


def t5_stored(theirs, tensors):
    """transformers 5 writes tie_word_embeddings: true whatever the tensors are, and means by false that h is not scaled."""
    scaled = theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings", True))
    return {"scale_decoder_outputs": scaled, "tie_word_embeddings": scaled or "lm_head.weight" not in tensors}


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
    ours_alone=("recompute",),
    ignored=(
        r"(en|de)coder\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    ),
    holds=lambda c: c.model_type == "t5" and c.scale_decoder_outputs <= c.tie_word_embeddings,
    stored=t5_stored,
    write=lambda model: {"is_encoder_decoder": True, "tie_word_embeddings": model.config.scale_decoder_outputs},
)

MT5 = dataclasses.replace(
    T5,
    model_type="mt5",
    architectures={"MT5ForConditionalGeneration": "T5"},
    defaults={"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"},
    holds=lambda c: c.model_type == "mt5" and not c.scale_decoder_outputs,
    stored=lambda theirs, tensors: {
        "scale_decoder_outputs": False,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    },
    write=lambda model: {"is_encoder_decoder": True, "tie_word_embeddings": model.config.tie_word_embeddings},
)

FAMILIES = (GPT2, BERT, ROBERTA, DISTILBERT, T5, MT5, LLAMA, MISTRAL, QWEN2, OPT)

# What any config.json may hold beside its family's fields
FIXED: dict[str, Sequence[Any]] = {
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
    "is_encoder_decoder": (False,),
}
UNUSED = {
    "architectures", "model_type", "transformers_version", "_name_or_path", "name_or_path", "dtype", "torch_dtype",
    "use_cache", "gradient_checkpointing", "chunk_size_feed_forward", "output_attentions", "output_hidden_states",
    "return_dict", "is_decoder", "bos_token_id", "task_specific_params", "id2label", "label2id", "_num_labels", "num_labels",
    "problem_type", "attn_implementation", "_attn_implementation", "auto_map", "use_bfloat16", "torchscript",
}  # fmt: skip
