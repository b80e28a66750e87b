"""What stands on BERT's last hidden state: for pretraining, for classification, for question answering.

Devlin et al. 2019, sections 3.1 and 4. A head has forward(h) -> what the model's call gives; loss(h, targets, **options) ->
a Python float; backward(dloss) -> dh.
"""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..kernels.activations import activation_named
from ..kernels.common import IGNORE
from ..layers import Embedding, Layer, LayerNorm, Linear, LinearActivation, Output
from .bert_config import BERTConfig
from .classification import Classifier


class Pooler(Layer):
    """y = f(w h_0 + b): the first position, [CLS], speaks for all.  h (B, T, C) -> y (B, C).

    dh is zero but at the first position: dh_0 = w^T (dy f').
    """

    def __init__(self, c: BERTConfig):
        super().__init__()
        activation = "relu" if c.model_type == "distilbert" else "tanh"
        self.dense = LinearActivation(c.hidden_size, c.hidden_size, activation, std=c.initializer_range)

    def forward(self, h):
        self.keep(h.shape)
        return self.dense(h[:, 0])

    def backward(self, dy):
        (shape,) = self.kept()
        dh = kernels.zeros(dy, shape)
        dh[:, 0] = self.dense.backward(dy)
        return dh


class PooledClassifier(Layer):
    """One label for the whole sequence: a classifier on the pooler."""

    def __init__(self, c: BERTConfig, n: int, dropout: float):
        super().__init__()
        self.pooler = Pooler(c)
        self.classifier = Classifier(c.hidden_size, n, dropout, std=c.initializer_range)

    def forward(self, h):
        return self.classifier(self.pooler(h))

    def loss(self, h, targets, class_weight=None):
        return self.classifier.loss(self.pooler(h), targets, class_weight)

    def backward(self, dloss=1.0):
        return self.pooler.backward(self.classifier.backward(dloss))


class SpanHead(Layer):
    """Where an answer starts and where it ends (section 4.2): logits = spans(h).  h (B, T, C) -> (B, T, 2).

    Start and end are each a choice among the T positions, so the softmax runs over T:
    loss = -1/2 mean_B(log p_start[s] + log p_end[e]),  dlogits = (p - onehot) / 2B  in each of the two columns.
    """

    def __init__(self, c: BERTConfig):
        super().__init__()
        self.spans = Linear(c.hidden_size, 2, std=c.initializer_range)

    def forward(self, h):
        return self.spans(h)

    def loss(self, h, targets):
        """targets (B, 2): start and end, positions in [0, T); -100 where there is none."""
        logits = self.spans(h).transpose(0, 2, 1)  # (B, 2, T)
        loss, lse = kernels.cross_entropy_forward(logits, targets)
        self.keep(logits, targets, lse)
        return loss

    def backward(self, dloss=1.0):
        dlogits = kernels.cross_entropy_backward(dloss, *self.kept())
        return self.spans.backward(dlogits.transpose(0, 2, 1))


class MaskedLMHead(Layer):
    """Which word stood at each position (section 3.1): logits = output(norm(f(dense(h)))).  h (B, T, C) -> (B, T, V).

    Only one position in seven has a target, so the loss gathers their rows of h first, and sends the gradient back to them:
    dh is zero elsewhere.
    """

    def __init__(self, c: BERTConfig, tokens: Embedding):
        super().__init__()
        activation = "gelu" if c.model_type == "roberta" else activation_named(c.hidden_act)
        self.dense = LinearActivation(c.hidden_size, c.hidden_size, activation, std=c.initializer_range)
        self.norm = LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        tied = tokens.w if c.tie_word_embeddings else None
        self.output = Output(c.hidden_size, c.vocab_size, tied, bias=True, std=c.initializer_range)

    def forward(self, h):
        return self.output(self.norm(self.dense(h)))

    def loss(self, h, targets):
        which = (targets != IGNORE).reshape(-1).nonzero()[0]  # (M,)
        rows = kernels.embedding_forward(which, h.reshape(-1, h.shape[-1]))  # (M, C): a table's rows, looked up
        self.keep(h.shape, which)
        return self.output.loss(self.norm(self.dense(rows)), targets.reshape(-1)[which])

    def backward(self, dloss=1.0):
        shape, which = self.kept()
        drows = self.dense.backward(self.norm.backward(self.output.backward(dloss)))
        dh = kernels.zeros(drows, shape)
        kernels.embedding_backward(drows, which, dh.reshape(-1, shape[-1]))
        return dh


class PretrainingHead(Layer):
    """Masked words, and whether the second segment followed the first: classes 0, it did, and 1, it is from elsewhere.

    Both losses are added, so both gradients of h are.
    """

    def __init__(self, c: BERTConfig, tokens: Embedding):
        super().__init__()
        self.masked = MaskedLMHead(c, tokens)
        self.pooler: Any = Pooler(c) if c.next_sentence else None
        self.next_sentence: Any = Classifier(c.hidden_size, 2, std=c.initializer_range) if c.next_sentence else None

    def forward(self, h):
        return self.masked(h)

    def loss(self, h, targets, next_sentence=None):
        loss = self.masked.loss(h, targets)
        if next_sentence is not None:
            loss += self.next_sentence.loss(self.pooler(h), next_sentence)
        self.keep(next_sentence is not None)
        return loss

    def backward(self, dloss=1.0):
        (both,) = self.kept()
        dh = self.masked.backward(dloss)
        return kernels.add(dh, self.pooler.backward(self.next_sentence.backward(dloss))) if both else dh


class HiddenStates(Layer):
    """No head: h itself, and its mean squared distance from targets (B, T, C), which it may be taught to give."""

    def __init__(self, c: BERTConfig):
        super().__init__()
        self.pooler = Pooler(c) if c.pooler else None  # kept for who goes on from here; not used

    def forward(self, h):
        return h

    def loss(self, h, targets):
        self.keep(h, targets)
        return kernels.squared_error_forward(h, targets)

    def backward(self, dloss=1.0):
        return kernels.squared_error_backward(dloss, *self.kept())
