"""LLaMA, a decoder-only transformer of which most open models since are variants: Mistral, Qwen2, Qwen3, Phi-3, SmolLM.

Touvron et al. 2023, LLaMA: Open and Efficient Foundation Language Models, and Llama 2; Grattafiori et al. 2024, The Llama 3
Herd of Models. Against GPT-2: RMSNorm, rotary positions, a gated feed-forward, fewer key/value heads, no biases.
Fields are named as in Hugging Face's LlamaConfig.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..layers import Attention, Embedding, GatedMLP, PreNormBlock, RMSNorm, Rotary, assembled
from .classification import SequenceClassifier, name_labels
from .config import Config
from .model import LanguageModel


@dataclass
class LlamaConfig(Config):
    """LLaMA 7B; 13B has 40 layers, 40 heads, 5120 channels, 13824 features; LLaMA 3 8B 32, 32 and 8, 4096, 14336."""

    vocab_size: int = 32000
    hidden_size: int = 4096  # channels, C
    intermediate_size: int = 11008  # feed-forward features, F: 8/3 C rounded up, as a gated one has three matrices, not two
    num_hidden_layers: int = 32
    num_attention_heads: int = 32  # H
    num_key_value_heads: int | None = None  # G: each serves H / G query heads (Ainslie et al. 2023); H where None
    head_dim: int | None = None  # D, C / H where None
    hidden_act: str = "silu"  # of the gate: SwiGLU (Shazeer 2020)
    max_position_embeddings: int = 2048  # the longest sequence
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0  # the longest wavelength over 2 pi; LLaMA 3 has 500,000 for its longer context
    rope_scaling: dict[str, Any] | None = (
        None  # {"rope_type": linear, dynamic, llama3, yarn or longrope, and its options} (layers/rotary)
    )
    partial_rotary_factor: float = 1.0  # the share of each head that is rotated; the rest knows no position (Phi-4-mini)
    rope_neighbours: bool = False  # pairs of neighbouring numbers are turned, as in the paper; else a half against the other
    attention_bias: bool = False  # of q, k, v
    attention_output_bias: bool | None = None  # of the output projection: as the others where None; Qwen2 has none there
    mlp_bias: bool = False
    qk_norm: bool = False  # normalise each head of q and k before the rotation: scores stay small in training (Qwen3)
    sliding_window: int | None = None  # each token sees that many keys, itself included (Mistral)
    layer_types: list[str] | None = None  # "sliding_attention" or "full_attention" for each layer; with a window all slide
    attention_dropout: float = 0.0  # dropout: of the attention weights,
    resid_pdrop: float = 0.0  # of what is added to the residual stream (Phi-3)
    fused_projections: bool = False  # Hugging Face's files hold q, k, v in one matrix, as we do, and gate, up (Phi-3)
    initializer_range: float = 0.02  # standard deviation of fresh weights
    tie_word_embeddings: bool = False  # the output projection is the token embedding
    eos_token_id: int | list[int] | None = None  # generation ends at it, or at any of them
    pad_token_id: int | None = None  # fills rows of a batch that have ended; None: the first of eos_token_id
    padding_idx: int | None = None  # a token whose embedding is not trained; in Hugging Face's models the pad token
    num_labels: int | None = None  # of a classifier; None: as many as id2label has, or 2
    id2label: dict[str, str] | None = None  # their names, "0": ..., "1": ...
    task_specific_params: dict[str, Any] | None = None  # how it is used, by task: prefix, suffix (text2text.py)
    recompute: bool = False  # blocks keep their inputs only and run again in the backward: less memory, more time

    def __post_init__(self) -> None:
        self.check_counts()
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must be a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}, "
                    "or head_dim be given"
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        if not 0 < self.partial_rotary_factor <= 1:
            raise ValueError(f"partial_rotary_factor is {self.partial_rotary_factor}; it must be above 0, and at most 1")
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(f"layer_types has {len(self.layer_types)} entries for {self.num_hidden_layers} layers")
        for kind in self.layer_types or ():
            if kind not in ("full_attention", "sliding_attention"):
                raise ValueError(f"layer_types has {kind!r}; there are full_attention and sliding_attention")
        name_labels(self)
        super().__post_init__()

    @property
    def rotated(self) -> int:
        """How many numbers of each head are rotated."""
        assert self.head_dim is not None
        return int(self.head_dim * self.partial_rotary_factor)


class Llama(LanguageModel):
    """tokens (B, T) -> logits (B, T, V)."""

    config: LlamaConfig

    def __init__(self, config: LlamaConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__()
        self.config = c = config
        std = c.initializer_range
        self.rotary = Rotary(c.rotated, c.rope_theta, c.max_position_embeddings, c.rope_scaling, c.rope_neighbours)
        self.max_length = self.rotary.longest
        self.tokens = Embedding(c.vocab_size, c.hidden_size, std, c.padding_idx)
        self.blocks = [self._block(layer) for layer in range(c.num_hidden_layers)]
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.add_head(c.hidden_size, std)
        self.initialize(seed, dtype)

    def _block(self, layer: int):
        c = self.config
        slides = c.layer_types is None or c.layer_types[layer] == "sliding_attention"
        std = c.initializer_range
        block = PreNormBlock(
            RMSNorm(c.hidden_size, c.rms_norm_eps),
            Attention(
                c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.attention_bias,
                proj_bias=c.attention_output_bias, dropout=c.attention_dropout, residual_dropout=c.resid_pdrop,
                window=c.sliding_window if slides else None,
                rotary=self.rotary, norm_eps=c.rms_norm_eps if c.qk_norm else None, std=std, residual_std=std,
            ),
            RMSNorm(c.hidden_size, c.rms_norm_eps),
            GatedMLP(
                c.hidden_size, c.intermediate_size, c.hidden_act, c.mlp_bias, std=std, residual_std=std,
                residual_dropout=c.resid_pdrop,
            ),
        )  # fmt: skip
        return assembled(block, c.recompute)

    @classmethod
    def tiny(cls, **options):
        """The smallest LLaMA that has everything: for gradcheck and tests."""
        sizes = {"vocab_size": 13, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8}
        return cls(LlamaConfig(**{**sizes, **heads, **options}))

    @property
    def steady(self) -> bool:
        return not self.rotary.stretches

    @property
    def switches_at(self) -> int | None:
        return self.rotary.switches_at

    def hidden(self, tokens, context):
        x = self.tokens(tokens)  # (B, T, C)
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)

    def hidden_backward(self, dh):
        dx = self.norm.backward(dh)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        self.tokens.backward(dx)


class LlamaForSequenceClassification(SequenceClassifier, Llama):
    """tokens (B, T) -> logits (B, labels); targets (B,)."""
