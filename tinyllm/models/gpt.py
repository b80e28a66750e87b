"""GPT-2, a decoder-only transformer.

Radford et al. 2019, Language Models are Unsupervised Multitask Learners; Radford et al. 2018 for what it builds on.
Fields are named as in Hugging Face's GPT2Config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..layers import MLP, Attention, Dropout, Embedding, LayerNorm, PositionEmbedding, PreNormBlock, assembled
from .classification import SequenceClassifier, name_labels
from .config import Config
from .model import LanguageModel


@dataclass
class GPTConfig(Config):
    """GPT-2 small; medium has 24 layers, 16 heads, 1024 channels; large 36, 20, 1280; XL 48, 25, 1600."""

    vocab_size: int = 50257  # 256 bytes, 50,000 merges, <|endoftext|>
    n_positions: int = 1024  # the longest sequence
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768  # channels, C
    n_inner: int | None = None  # the feed-forward size, 4 C where None
    activation_function: str = "gelu_new"  # GELU by tanh: erf was slow when GPT-2 was written
    bias: bool = True  # nanoGPT trains without biases: a bit faster, no worse
    embd_pdrop: float = 0.1  # dropout: of the embeddings,
    attn_pdrop: float = 0.1  # of the attention weights,
    resid_pdrop: float = 0.1  # of what is added to the residual stream
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02  # standard deviation of fresh weights
    scale_attn_weights: bool = True  # by 1 / sqrt(D)
    scale_attn_by_inverse_layer_idx: bool = False  # by 1 / (layer + 1) as well (Mistral's GPT-2s)
    tie_word_embeddings: bool = True  # the output projection is the token embedding
    eos_token_id: int | list[int] | None = None  # generation ends at it, or at any of them
    pad_token_id: int | None = None  # fills rows of a batch that have ended; None: the first of eos_token_id
    num_labels: int | None = None  # of a classifier; None: as many as id2label has, or 2
    id2label: dict[str, str] | None = None  # their names, "0": ..., "1": ...
    task_specific_params: dict[str, Any] | None = None  # how it is used, by task: prefix, suffix (text2text.py)
    recompute: bool = False  # blocks keep their inputs only and run again in the backward: less memory, more time

    def __post_init__(self) -> None:
        self.check_counts()
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")
        name_labels(self)
        super().__post_init__()


class GPT(LanguageModel):
    """tokens (B, T) -> logits (B, T, V)."""

    def __init__(self, config: GPTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__()
        self.config = c = config
        self.max_length = c.n_positions
        self.tokens = Embedding(c.vocab_size, c.n_embd, c.initializer_range)
        self.positions = PositionEmbedding(c.n_positions, c.n_embd, c.initializer_range)
        self.dropout = Dropout(c.embd_pdrop)
        self.blocks = [self._block(layer) for layer in range(c.n_layer)]
        self.norm = self._norm()
        self.add_head(c.n_embd, c.initializer_range)
        self.initialize(seed, dtype)

    def _norm(self):
        c = self.config
        return LayerNorm(c.n_embd, c.bias, c.layer_norm_epsilon)

    def _block(self, layer: int):
        c = self.config
        # 2 n_layer branches are added to the residual stream: scaled so, its variance does not grow with depth
        std, residual_std = c.initializer_range, c.initializer_range / math.sqrt(2 * c.n_layer)
        scale = 1 / math.sqrt(c.n_embd // c.n_head) if c.scale_attn_weights else 1.0
        if c.scale_attn_by_inverse_layer_idx:
            scale /= layer + 1
        block = PreNormBlock(
            self._norm(),
            Attention(
                c.n_embd, c.n_head, bias=c.bias, scale=scale, dropout=c.attn_pdrop, residual_dropout=c.resid_pdrop,
                std=std, residual_std=residual_std,
            ),
            self._norm(),
            MLP(
                c.n_embd, c.n_inner or 4 * c.n_embd, c.activation_function, c.bias, std, residual_std,
                residual_dropout=c.resid_pdrop,
            ),
        )  # fmt: skip
        return assembled(block, c.recompute)

    @classmethod
    def tiny(cls, **options):
        """The smallest GPT that has everything: for gradcheck and tests."""
        return cls(GPTConfig(**{"vocab_size": 13, "n_positions": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, **options}))

    def hidden(self, tokens, context):
        x = self.dropout(self.positions(self.tokens(tokens), context.positions))  # (B, T, C)
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)

    def hidden_backward(self, dh):
        dx = self.norm.backward(dh)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        self.tokens.backward(self.positions.backward(self.dropout.backward(dx)))


class GPTForSequenceClassification(SequenceClassifier, GPT):
    """tokens (B, T) -> logits (B, labels); targets (B,)."""
