"""BERT's configuration. Fields are named as in Hugging Face's BertConfig."""

from __future__ import annotations

from dataclasses import dataclass

from .classification import name_labels
from .config import Config


@dataclass
class BERTConfig(Config):
    """BERT-base, uncased; large has 24 layers, 16 heads, 1024 channels, 4096 inner."""

    vocab_size: int = 30522  # WordPiece
    hidden_size: int = 768  # channels, C
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072  # feed-forward, F
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1  # dropout: of the embeddings and of what is added to the residual stream,
    attention_probs_dropout_prob: float = 0.1  # of the attention weights,
    classifier_dropout: float | None = None  # before a classifier; hidden_dropout_prob where None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2  # segments: the first and the second sentence; 0: the model has none
    initializer_range: float = 0.02  # standard deviation of fresh weights
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0  # its embedding gets no gradient from the padding
    tie_word_embeddings: bool = True  # masked words are predicted by the token embedding
    num_labels: int | None = None  # of a classifier; None: as many as id2label has, or 2
    id2label: dict[str, str] | None = None  # their names, "0": ..., "1": ...
    next_sentence: bool = False  # BERT: whether there is a next-sentence head beside the masked-LM head
    pooler: bool = True  # BERTEncoder: whether the pooler of the pretraining is kept
    model_type: str = "bert"  # roberta: positions count from pad_token_id + 1; distilbert: its pooler's activation is ReLU
    recompute: bool = False  # blocks keep their inputs only and run again in the backward: less memory, more time

    def __post_init__(self) -> None:
        self.check_counts()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
        name_labels(self)
        super().__post_init__()

    @property
    def head_dropout(self) -> float:
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    @property
    def first_position(self) -> int:
        return (self.pad_token_id or 0) + 1 if self.model_type == "roberta" else 0
