"""OPT, a GPT with ReLU whose positions are counted from the padding on.

Zhang et al. 2022, OPT: Open Pre-trained Transformer Language Models. OPT-350M alone has its norms behind the branches, and
embeddings narrower than its channels. Fields are named as in Hugging Face's OPTConfig.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..layers import (
    MLP,
    Attention,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    PositionEmbedding,
    PostNormBlock,
    PreNormBlock,
    assembled,
)
from .classification import SequenceClassifier, name_labels
from .config import Config
from .model import LanguageModel

OFFSET = 2  # the first rows of the position table are fairseq's own: no token, padding


@dataclass
class OPTConfig(Config):
    """OPT-125M; 350M has 24 layers, 16 heads, 1024 channels, do_layer_norm_before=False, word_embed_proj_dim=512; 1.3B has
    24, 32, 2048; 2.7B 32, 32, 2560; 6.7B 32, 32, 4096; ffn_dim is 4 channels everywhere."""

    vocab_size: int = 50272  # GPT-2's, four more, and some that round it up
    hidden_size: int = 768  # channels, C
    num_hidden_layers: int = 12
    ffn_dim: int = 3072  # feed-forward features, F
    num_attention_heads: int = 12
    max_position_embeddings: int = 2048  # the longest sequence
    activation_function: str = "relu"
    do_layer_norm_before: bool = True  # norms before the branches; else behind the sums, and none at the end
    _remove_final_layer_norm: bool = False  # some early fine-tuned checkpoints have none
    word_embed_proj_dim: int | None = None  # channels of the token embeddings, projected to C and back; C where None
    enable_bias: bool = True  # of the linear maps (Galactica has none)
    layer_norm_elementwise_affine: bool = True  # norms have weights and biases
    dropout: float = 0.1  # of what is added to the residual stream
    attention_dropout: float = 0.0  # of the attention weights
    init_std: float = 0.02  # standard deviation of fresh weights
    tie_word_embeddings: bool = True  # the output projection is the token embedding
    eos_token_id: int | list[int] | None = None  # generation ends at it, or at any of them
    pad_token_id: int | None = None  # fills rows of a batch that have ended; None: the first of eos_token_id
    padding_idx: int | None = None  # a token whose embedding is not trained; in Hugging Face's models the pad token
    num_labels: int | None = None  # of a classifier; None: as many as id2label has, or 2
    id2label: dict[str, str] | None = None  # their names, "0": ..., "1": ...
    task_specific_params: dict[str, Any] | None = None  # how it is used, by task: prefix, suffix (text2text.py)
    recompute: bool = False  # blocks keep their inputs only and run again in the backward: less memory, more time

    def __post_init__(self) -> None:
        self.check_counts()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
        name_labels(self)
        super().__post_init__()


class OPT(LanguageModel):
    """tokens (B, T) -> logits (B, T, V). E: channels of the token embeddings."""

    config: OPTConfig

    def __init__(self, config: OPTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__()
        self.config = c = config
        self.max_length = c.max_position_embeddings
        C, E, std = c.hidden_size, c.word_embed_proj_dim or c.hidden_size, c.init_std
        self.tokens = Embedding(c.vocab_size, E, std, c.padding_idx)
        self.project_in = None if E == C else Linear(E, C, bias=False, std=std)
        self.positions = PositionEmbedding(c.max_position_embeddings + OFFSET, C, std)
        self.blocks = [self._block() for _ in range(c.num_hidden_layers)]
        self.norm = self._norm() if c.do_layer_norm_before and not c._remove_final_layer_norm else None
        self.project_out = None if E == C else Linear(C, E, bias=False, std=std)
        self.add_head(E, std)
        self.initialize(seed, dtype)

    def _norm(self):
        c = self.config
        return LayerNorm(c.hidden_size, affine=c.layer_norm_elementwise_affine)

    def _block(self):
        c = self.config
        std, residual_std = c.init_std, c.init_std / math.sqrt(2 * c.num_hidden_layers)
        attention = Attention(
            c.hidden_size, c.num_attention_heads, bias=c.enable_bias, dropout=c.attention_dropout,
            residual_dropout=c.dropout, std=std, residual_std=residual_std,
        )  # fmt: skip
        mlp = MLP(
            c.hidden_size, c.ffn_dim, c.activation_function, c.enable_bias, std, residual_std, residual_dropout=c.dropout
        )
        block: Layer
        if c.do_layer_norm_before:
            block = PreNormBlock(self._norm(), attention, self._norm(), mlp)
        else:
            block = PostNormBlock(attention, self._norm(), mlp, self._norm())
        return assembled(block, c.recompute)

    @classmethod
    def tiny(cls, **options):
        """The smallest OPT that has everything: for gradcheck and tests."""
        sizes = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 2, "ffn_dim": 12, "num_attention_heads": 2}
        return cls(OPTConfig(**{**sizes, "max_position_embeddings": 8, **options}))

    def default_positions(self, mask, past, T):
        """The positions of T tokens after `past` others, (T,) or (B, T). They count the real tokens, and padding has -1.

        If a mask (B, T, S) packs several examples in a row, each is counted from its own beginning.
        """
        if mask is None:
            return np.arange(past, past + T)
        if mask.ndim == 2:
            return (mask.cumsum(1) * mask - 1)[:, past:]  # (B, T)
        return np.tril(mask, past).sum(-1) - 1  # keys that the token sees, up to itself

    def _checked(self, tokens, attention_mask, positions, cache=None):
        tokens, context = super()._checked(tokens, attention_mask, positions, cache)
        if positions is None:
            past = 0 if cache is None else cache.length
            context.positions = self.default_positions(context.mask, past, tokens.shape[1])
        return tokens, replace(context, positions=context.positions + OFFSET)  # rows of the table

    def hidden(self, tokens, context):
        x = self.tokens(tokens)  # (B, T, E)
        if self.project_in is not None:
            x = self.project_in(x)
        x = self.positions(x, context.positions)  # (B, T, C)
        for block in self.blocks:
            x = block(x, context)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.project_out is None else self.project_out(x)  # (B, T, E)

    def hidden_backward(self, dh):
        dx = dh if self.project_out is None else self.project_out.backward(dh)
        if self.norm is not None:
            dx = self.norm.backward(dx)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        dx = self.positions.backward(dx)
        if self.project_in is not None:
            dx = self.project_in.backward(dx)
        self.tokens.backward(dx)


class OPTForSequenceClassification(SequenceClassifier, OPT):
    """tokens (B, T) -> logits (B, labels); targets (B,)."""
