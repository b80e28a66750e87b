"""BERT, a bidirectional encoder pretrained on masked words and next sentences, and the heads that are fine-tuned on it.

Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.
Fields are named as in Hugging Face's BertConfig. RoBERTa (Liu et al. 2019) and DistilBERT (Sanh et al. 2019) are the same
network but for what `model_type` decides.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np

from ..kernels.common import IGNORE
from ..layers import (
    MLP,
    Attention,
    Context,
    Dropout,
    Embedding,
    LayerNorm,
    PositionEmbedding,
    PostNormBlock,
    assembled,
    without_dropout,
)
from .bert_config import BERTConfig
from .bert_heads import HiddenStates, PooledClassifier, PretrainingHead, SpanHead
from .classification import Classifier, with_labels
from .model import Model, checked_ids, checked_mask


class BERTBase(Model):
    """The embeddings and blocks that all BERTs share: tokens (B, T) -> the last hidden state (B, T, C).

    A class adds its `head` (bert_heads.py), and says which targets this takes.
    """

    arguments = ("tokens", "targets", "token_types", "attention_mask", "next_sentence")
    head: Any

    def __init__(self, config: BERTConfig):
        super().__init__()
        self.config = c = config
        self.tokens = Embedding(c.vocab_size, c.hidden_size, c.initializer_range, c.pad_token_id)
        padding = c.pad_token_id if c.model_type == "roberta" else None  # where positions_of puts the padding
        self.positions = PositionEmbedding(c.max_position_embeddings, c.hidden_size, c.initializer_range, padding)
        self.token_types = None
        if c.type_vocab_size:  # added by number, as positions are
            self.token_types = PositionEmbedding(c.type_vocab_size, c.hidden_size, c.initializer_range)
        self.norm = LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.dropout = Dropout(c.hidden_dropout_prob)
        self.blocks = [self._block() for _ in range(c.num_hidden_layers)]

    def _block(self):
        c = self.config
        std, dropout = c.initializer_range, c.attention_probs_dropout_prob
        block = PostNormBlock(
            Attention(
                c.hidden_size, c.num_attention_heads, causal=False, dropout=dropout, residual_dropout=c.hidden_dropout_prob,
                std=std, residual_std=std,
            ),
            LayerNorm(c.hidden_size, eps=c.layer_norm_eps),
            MLP(
                c.hidden_size, c.intermediate_size, c.hidden_act, std=std, residual_std=std,
                residual_dropout=c.hidden_dropout_prob,
            ),
            LayerNorm(c.hidden_size, eps=c.layer_norm_eps),
        )  # fmt: skip
        return assembled(block, c.recompute)

    @classmethod
    def tiny(cls, **options):
        """The smallest of its class that has everything: for gradcheck and tests."""
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
        labels = {} if "id2label" in options else {"num_labels": 3}
        return cls(BERTConfig(**{"vocab_size": 13, "max_position_embeddings": 8, **labels, **sizes, **options}))

    @classmethod
    def on(cls, other: BERTBase, seed: int | None = 0, **fields: Any) -> Self:
        """A model of this class with the weights of another BERT, but a fresh head; of that only the pooler is taken over,
        where both have one. fields: of the configuration, to be changed. A new num_labels drops the names of the other's
        labels, and a new id2label says how many there are."""
        config = dataclasses.replace(other.config, **with_labels(other.config, fields))
        model = cls(config, seed, str(other.dtype))  # type: ignore[call-arg]
        theirs = dict(other.named_parameters())
        for name, parameter in model.named_parameters():
            if name in theirs and (name.startswith("head.pooler.") or not name.startswith("head.")):
                parameter.data = theirs[name].data
        return model

    @property
    def max_length(self) -> int:
        return self.config.max_position_embeddings - self.config.first_position

    def hidden(self, tokens, token_types, context):
        x = self.positions(self.tokens(tokens), context.positions)  # (B, T, C)
        if self.token_types is not None:
            x = self.token_types(x, token_types)
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, context)
        return x

    def hidden_backward(self, dh):
        for block in reversed(self.blocks):
            dh = block.backward(dh)
        dx = self.norm.backward(self.dropout.backward(dh))
        if self.token_types is not None:
            dx = self.token_types.backward(dx)
        self.tokens.backward(self.positions.backward(dx))

    def __call__(self, tokens, *, token_types=None, attention_mask=None):
        """What the head gives for tokens (B, T).

        token_types (B, T): the segment of each, 0 by default, ignored where the model has no segments; attention_mask (B, T)
        or (B, T, T), true for real tokens.
        """
        inputs = self._checked(tokens, token_types, attention_mask)
        with self.inference():
            return self.head(self.hidden(*inputs))

    def last_hidden_state(self, tokens, *, token_types=None, attention_mask=None):
        """What the head is given, (B, T, C), for tokens (B, T); dropout is off meanwhile."""
        inputs = self._checked(tokens, token_types, attention_mask)
        with without_dropout(), self.inference():
            return self.hidden(*inputs)

    def loss(self, tokens, targets, *, token_types=None, attention_mask=None, **options):
        """The head's loss, a Python float, against targets of the shape that the class says."""
        inputs = self._checked(tokens, token_types, attention_mask)
        targets = self.checked_targets(targets, inputs[0].shape)
        with self.forward_pass():
            return self.head.loss(self.hidden(*inputs), targets, **options)

    def backward(self, dloss=1.0) -> None:
        """Adds the gradient of dloss * loss, for the loss computed last, into every Parameter.grad."""
        with self.backward_pass():
            self.hidden_backward(self.head.backward(dloss))

    def checked_targets(self, targets, shape):
        """The targets of tokens of that shape, (B, T), as an array; ValueError where they cannot be."""
        raise NotImplementedError

    def example(self, random):
        B, T = 3, min(7, self.max_length)
        tokens = random.integers(1, self.config.vocab_size, (B, T))
        tokens[tokens == self.config.pad_token_id] = 0  # whose gradient is left out
        return tokens, self.example_targets(random, B, T)

    def example_options(self, random):
        B, T = 3, min(7, self.max_length)
        token_types = random.integers(0, max(1, self.config.type_vocab_size), (B, T))
        attention_mask = np.ones((B, T), bool)
        attention_mask[0, -(T // 3) :] = False  # padding on the right of the first row
        return {"token_types": token_types, "attention_mask": attention_mask}

    def example_targets(self, random, B, T):
        raise NotImplementedError

    def _checked(self, tokens, token_types, attention_mask):
        tokens = checked_ids(tokens, self.config.vocab_size)
        B, T = tokens.shape
        if self.max_length < T:
            raise ValueError(f"the sequence has {T} tokens, and this model takes at most {self.max_length}: shorten it")
        if token_types is None or not self.config.type_vocab_size:  # which tokenizers may tell all the same
            token_types = np.zeros(T, np.int64)
        else:
            token_types = checked_ids(token_types, self.config.type_vocab_size, "token_types")
            if token_types.shape != (B, T):
                raise ValueError(f"token_types must have the shape of tokens, {(B, T)}, and has {token_types.shape}")
        mask = checked_mask(attention_mask, (B, T), (B, T, T), (1, T, T))
        return tokens, token_types, Context(mask, self.positions_of(tokens))

    def positions_of(self, tokens):
        """Where each token stands, (T,) or (B, T); RoBERTa counts from behind its padding token's number, and leaves padding
        out of the count."""
        if self.config.model_type != "roberta":
            return np.arange(tokens.shape[1])
        real = tokens != self.config.pad_token_id
        return real.cumsum(1) * real + self.config.first_position - 1


# Models ----------------------------------------------------------------------------------------------------------------


class BERT(BERTBase):
    """Masked words: logits (B, T, V); targets (B, T), -100 where no word was masked.

    loss(..., next_sentence=labels (B,)) adds the loss of the next-sentence head, where config.next_sentence gives it one.
    """

    def __init__(self, config: BERTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__(config)
        self.head = PretrainingHead(config, self.tokens)
        self.initialize(seed, dtype)

    def checked_targets(self, targets, shape):
        return checked_ids(targets, self.config.vocab_size, "targets", shape, may_ignore=True)

    def loss(self, tokens, targets, *, next_sentence=None, **options):
        if next_sentence is not None:
            self._needs_next_sentence()
            next_sentence = checked_ids(next_sentence, 2, "next_sentence", np.shape(tokens)[:1], may_ignore=True)
        return super().loss(tokens, targets, next_sentence=next_sentence, **options)

    def at(self, which, tokens, *, token_types=None, attention_mask=None):
        """The logits (M, V) of the M positions that `which`, (B, T) bool, says, and nothing computed for the others; with
        them those of the next-sentence head, (B, 2), or None where there is none."""
        inputs = self._checked(tokens, token_types, attention_mask)
        which = checked_mask(which, inputs[0].shape, name="which")
        with self.inference():
            h = self.hidden(*inputs)
            follows = None if self.head.next_sentence is None else self.head.next_sentence(self.head.pooler(h))
            return self.head.masked(h[which]), follows

    def next_sentence(self, tokens, *, token_types=None, attention_mask=None):
        """logits (B, 2) of the next-sentence head: the second segment follows the first, or it does not."""
        self._needs_next_sentence()
        with self.inference():
            h = self.hidden(*self._checked(tokens, token_types, attention_mask))
            return self.head.next_sentence(self.head.pooler(h))

    def _needs_next_sentence(self):
        if self.head.next_sentence is None:
            raise ValueError("this BERT has no next-sentence head: make it with BERTConfig(next_sentence=True)")

    def example_options(self, random):
        options = super().example_options(random)
        return {**options, "next_sentence": random.integers(0, 2, 3)} if self.config.next_sentence else options

    def example_targets(self, random, B, T):
        targets = random.integers(0, self.config.vocab_size, (B, T))
        targets[random.random((B, T)) < 0.6] = IGNORE
        return targets


class BERTForSequenceClassification(BERTBase):
    """One label for each row: logits (B, labels); targets (B,); loss(..., class_weight=(labels,)) for unbalanced data."""

    head_names = ("head.",)

    def __init__(self, config: BERTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__(config)
        assert config.num_labels is not None  # name_labels has completed it
        self.head = PooledClassifier(config, config.num_labels, config.head_dropout)
        self.initialize(seed, dtype)

    def checked_targets(self, targets, shape):
        return checked_ids(targets, self.config.num_labels, "targets", shape[:1], may_ignore=True)

    def example_targets(self, random, B, T):
        return random.integers(0, self.config.num_labels, B)


class BERTForTokenClassification(BERTBase):
    """One label for each token: logits (B, T, labels); targets (B, T), -100 ignored; loss(..., class_weight=(labels,))."""

    head_names = ("head.",)

    def __init__(self, config: BERTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__(config)
        assert config.num_labels is not None  # name_labels has completed it
        self.head = Classifier(config.hidden_size, config.num_labels, config.head_dropout, std=config.initializer_range)
        self.initialize(seed, dtype)

    def checked_targets(self, targets, shape):
        return checked_ids(targets, self.config.num_labels, "targets", shape, may_ignore=True)

    def example_targets(self, random, B, T):
        targets = random.integers(0, self.config.num_labels, (B, T))
        targets[:, 0] = IGNORE
        return targets


class BERTForQuestionAnswering(BERTBase):
    """Where the answer starts and ends: logits (B, T, 2); targets (B, 2), positions in [0, T), -100 ignored."""

    head_names = ("head.",)

    def __init__(self, config: BERTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__(config)
        self.head = SpanHead(config)
        self.initialize(seed, dtype)

    def checked_targets(self, targets, shape):
        B, T = shape
        return checked_ids(targets, T, "targets", (B, 2), may_ignore=True)

    def example_targets(self, random, B, T):
        return np.sort(random.integers(0, T, (B, 2)))


class BERTEncoder(BERTBase):
    """No head: the last hidden state (B, T, C), for sentence embeddings, say. Its loss is the mean squared distance from
    targets (B, T, C), a teacher's hidden states (Jiao et al. 2020, TinyBERT, eq. 8)."""

    def __init__(self, config: BERTConfig, seed: int | None = 0, dtype: str = "float32"):
        super().__init__(config)
        self.head = HiddenStates(config)
        self.initialize(seed, dtype)

    def checked_targets(self, targets, shape):
        array = np.array(targets)
        if array.shape != (*shape, self.config.hidden_size):
            raise ValueError(f"targets must have shape {(*shape, self.config.hidden_size)}, and has {array.shape}")
        return array

    def example_targets(self, random, B, T):
        return random.standard_normal((B, T, self.config.hidden_size))
