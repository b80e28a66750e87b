"""BERT, RoBERTa and DistilBERT in Hugging Face's names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .family import Family, Named, read_labels, write_labels


def beginning(theirs: str | Sequence[str], before: str, now: str) -> str | list[str]:
    """The names of a layer with another beginning."""
    return theirs.replace(before, now, 1) if isinstance(theirs, str) else [name.replace(before, now, 1) for name in theirs]


def bert_stored(theirs, tensors):
    """A file may have a pooler and a next-sentence head that its architecture does not name, or lack the pooler."""
    return {
        "next_sentence": "cls.seq_relationship.weight" in tensors,
        "pooler": not tensors.isdisjoint({"pooler.dense.weight", "bert.pooler.dense.weight"}),
    }


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
    read=read_labels,
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
