"""T5, an encoder-decoder that turns every task into text to text.

Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer. Version 1.1, Flan and
mT5 have a gated feed-forward (Shazeer 2020) and an output matrix of their own.
Fields are named as in Hugging Face's T5Config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels
from ..kernels.common import IGNORE
from ..layers import (
    MLP,
    Attention,
    Context,
    CrossAttention,
    CrossBlock,
    Dropout,
    Embedding,
    GatedMLP,
    Layer,
    Output,
    PreNormBlock,
    RelativeBias,
    RMSNorm,
    Shared,
    assembled,
)
from ..layers.parameter import normal, stacked
from .checks import warn_if_unshifted
from .config import Config
from .model import Model, checked_ids, checked_mask


@dataclass
class T5Config(Config):
    """T5-small; base has 12 layers, 12 heads, 768 channels, 3072 inner."""

    vocab_size: int = 32128  # SentencePiece's 32,000 and 100 sentinels, filled up to a multiple of 128
    d_model: int = 512  # channels, C
    d_kv: int = 64  # head size, D; H D need not be C
    d_ff: int = 2048  # feed-forward, F
    num_layers: int = 6  # of the encoder,
    num_decoder_layers: int | None = None  # and of the decoder, as many where None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128  # farther keys share a bucket
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"  # gated-gelu since version 1.1
    tie_word_embeddings: bool = True  # the output is the embedding; untied since version 1.1
    scale_decoder_outputs: bool | None = None  # by C^-1/2 before the output; where it is tied, if None
    initializer_factor: float = 1.0
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int = 0  # what the decoder sees first: padding
    task_specific_params: dict[str, Any] | None = None  # how it is used, by task: prefix, max_length (text2text.py)
    model_type: str = "t5"  # or mt5, which is T5 1.1 by another name
    recompute: bool = False  # blocks keep their inputs only and run again in the backward: less memory, more time

    def __post_init__(self) -> None:
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        if self.scale_decoder_outputs is None:
            self.scale_decoder_outputs = self.tie_word_embeddings
        n, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if n < 4 or distance <= n // 2:
            raise ValueError(
                f"relative_attention_num_buckets {n} must be 4 at least, and half of it less than the distance that they "
                f"reach to, relative_attention_max_distance {distance}"
            )
        super().__post_init__()


class T5(Model):
    """source (B, S), target_in (B, T) -> logits (B, T, V)."""

    def __init__(self, config: T5Config, seed: int | None = 0, dtype: str = "float32"):
        super().__init__()
        self.config = c = config
        self.tokens = Embedding(c.vocab_size, c.d_model, c.initializer_factor)  # of the source and of the target
        self.encoder = Stack(c, c.num_layers, is_decoder=False)
        self.decoder = Stack(c, c.num_decoder_layers or c.num_layers, is_decoder=True)
        tied = self.tokens.w if c.tie_word_embeddings else None
        self.output = Output(c.d_model, c.vocab_size, tied, std=c.initializer_factor)
        # a tied embedding has numbers of order 1, and C products of them a sum of order sqrt(C)
        self.scale = c.d_model**-0.5 if c.scale_decoder_outputs else 1.0
        self.initialize(seed, dtype)

    @classmethod
    def tiny(cls, **options):
        """The smallest T5 that has everything: for gradcheck and tests."""
        sizes = {"vocab_size": 13, "d_model": 8, "d_kv": 3, "d_ff": 12, "num_layers": 2, "num_heads": 2}
        buckets = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
        return cls(T5Config(**{**sizes, **buckets, **options}))

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    steady = True  # a token is computed in the same way whatever the number of tokens before it

    def hidden(self, source, target_in, mask):
        """The decoder's last hidden state (B, T, C), scaled for the output."""
        encoded = Shared(self.encoder(self.tokens(source), Context(mask)))  # (B, S, C)
        self.keep(encoded)
        h = self.decoder(self.tokens(target_in), Context(source=encoded, source_mask=mask))  # (B, T, C)
        kernels.scale(h, self.scale)  # in place: no layer keeps h
        return h

    def hidden_backward(self, dh):
        """The decoder's backward leaves in encoded.grad the sum of the gradients from all its cross attentions."""
        (encoded,) = self.kept()
        kernels.scale(dh, self.scale)
        self.tokens.backward(self.decoder.backward(dh))
        self.tokens.backward(self.encoder.backward(encoded.grad))

    arguments = ("source", "target_in", "targets", "source_mask")

    def __call__(self, source, target_in, *, source_mask=None):
        """logits (B, T, V) of source (B, S) and target_in (B, T): decoder_start_token_id, then the target without its end.

        source_mask (B, S): true for real tokens. (Padding after a target needs no mask, because no token looks ahead.)
        """
        inputs = self._checked(source, target_in, source_mask)
        with self.inference():
            return self.output(self.hidden(*inputs))

    def loss(self, source, target_in, targets, *, source_mask=None, label_smoothing=0.0):
        """Mean cross-entropy, a Python float, of predicting targets (B, T). Targets of -100 are ignored."""
        source, target_in, mask = self._checked(source, target_in, source_mask)
        targets = checked_ids(targets, self.config.vocab_size, "targets", target_in.shape, may_ignore=True)
        if ((targets == target_in) | (targets == IGNORE)).all():
            warn_if_unshifted(self, target_in, targets)
        with self.forward_pass():
            return self.output.loss(self.hidden(source, target_in, mask), targets, label_smoothing)

    def backward(self, dloss=1.0) -> None:
        """Adds the gradient of dloss * loss, for the loss computed last, into every Parameter.grad."""
        with self.backward_pass():
            self.hidden_backward(self.output.backward(dloss))

    def encode(self, source, *, source_mask=None):
        """Runs the encoder alone: its last hidden state (B, S, C), and source_mask (B, S) as bool or None."""
        source, _, mask = self._checked(source, None, source_mask)
        with self.inference():
            return self.encoder(self.tokens(source), Context(mask)), mask

    def decode(self, target_in, cache, last_only=False):
        """logits (B, T, V) of the target's next tokens (B, T). Their predecessors are in the cache, which receives these.

        cache: what generation/cache.py's `encoded` returned for the source. last_only: the last token alone, (B, 1, V).
        """
        target_in = checked_ids(target_in, self.config.vocab_size, "target_in")
        with self.inference():
            return cache.logits(self, target_in, Context(cache=cache, source_mask=cache.mask), last_only)

    def decoder_hidden(self, target_in, context):
        """What a cache runs on the next tokens: the decoder's half of `hidden`."""
        h = self.decoder(self.tokens(target_in), context)  # (B, T, C)
        kernels.scale(h, self.scale)
        return h

    def example(self, random):
        B, S, T = 2, 7, 5
        source = random.integers(0, self.vocab_size, (B, S))
        target_in, targets = random.integers(0, self.vocab_size, (2, B, T))
        targets[1, -2:] = IGNORE  # a shorter target
        return source, target_in, targets

    def example_options(self, random):
        source_mask = np.ones((2, 7), bool)
        source_mask[0, -2:] = False  # a shorter source
        return {"source_mask": source_mask}

    def _checked(self, source, target_in, source_mask):
        """The three as arrays of the right kind, the mask as bool or None. target_in may be None, for the encoder alone."""
        source = checked_ids(source, self.config.vocab_size, "source")
        if target_in is not None:
            target_in = checked_ids(target_in, self.config.vocab_size, "target_in")
            if len(source) != len(target_in):
                raise ValueError(
                    f"source has {len(source)} rows and target_in {len(target_in)}: each source needs its target"
                )
        return source, target_in, checked_mask(source_mask, source.shape, name="source_mask")


class Stack(Layer):
    """The encoder or the decoder: n blocks that share one relative bias, and a norm.  x (B, T, C) -> h (B, T, C)."""

    def __init__(self, c: T5Config, n: int, is_decoder: bool):
        super().__init__()
        std = c.initializer_factor * c.d_model**-0.5
        self.bias = RelativeBias(
            c.relative_attention_num_buckets, c.num_heads, not is_decoder, c.relative_attention_max_distance, std
        )
        self.dropout = Dropout(c.dropout_rate)
        self.blocks = [block(c, is_decoder) for _ in range(n)]
        self.norm = norm(c)
        self.last_dropout = Dropout(c.dropout_rate)

    def forward(self, x, context):
        context.bias = self.bias(x.shape[1], context.cache)  # (H, T, S)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, context)
        return self.last_dropout(self.norm(x))

    def backward(self, dh):
        dx = self.norm.backward(self.last_dropout.backward(dh))
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        self.bias.backward()  # when all blocks have added to its gradient
        return self.dropout.backward(dx)


def block(c: T5Config, is_decoder: bool) -> Layer:
    first, last = (norm(c), attention(c, is_decoder)), (norm(c), feed_forward(c))
    made = CrossBlock(*first, norm(c), cross_attention(c), *last) if is_decoder else PreNormBlock(*first, *last)
    return assembled(made, c.recompute)


def norm(c: T5Config) -> RMSNorm:
    return RMSNorm(c.d_model, c.layer_norm_epsilon)


def attention(c: T5Config, causal: bool) -> Attention:
    """Scores are not divided by sqrt(D); the initial q is small instead, of order 1 / sqrt(C D)."""
    HD = c.num_heads * c.d_kv
    layer = Attention(
        c.d_model, c.num_heads, D=c.d_kv, bias=False, causal=causal, scale=1.0, dropout=c.dropout_rate,
        residual_dropout=c.dropout_rate, residual_std=c.initializer_factor * HD**-0.5,
    )  # fmt: skip
    layer.qkv.w.initial = stacked((HD, query_initial(c)), (2 * HD, normal(c.initializer_factor * c.d_model**-0.5)))
    return layer


def cross_attention(c: T5Config) -> CrossAttention:
    layer = CrossAttention(
        c.d_model, c.num_heads, c.d_kv, bias=False, scale=1.0, dropout=c.dropout_rate, residual_dropout=c.dropout_rate,
        std=c.initializer_factor * c.d_model**-0.5, residual_std=c.initializer_factor * (c.num_heads * c.d_kv) ** -0.5,
    )  # fmt: skip
    layer.q.w.initial = query_initial(c)
    return layer


def query_initial(c: T5Config):
    return normal(c.initializer_factor / math.sqrt(c.d_model * c.d_kv))


def feed_forward(c: T5Config) -> MLP | GatedMLP:
    kind, _, activation = c.feed_forward_proj.rpartition("-")
    if kind not in ("", "gated"):
        raise ValueError(
            f"feed_forward_proj is {c.feed_forward_proj!r}: it must be an activation such as 'relu', or 'gated-' and an "
            "activation"
        )
    if c.feed_forward_proj == "gated-gelu":
        activation = "gelu_new"  # what the published weights were trained with
    std, residual_std = (c.initializer_factor * n**-0.5 for n in (c.d_model, c.d_ff))
    make = GatedMLP if kind else MLP
    return make(c.d_model, c.d_ff, activation, False, std, residual_std, c.dropout_rate, c.dropout_rate)
