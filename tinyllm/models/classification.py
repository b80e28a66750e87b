"""Labels in place of words: the classifier that heads share, and decoders that read a text and label it.

Radford et al. 2018 (GPT), section 3.2: a linear map on the hidden state of the last token, the only one that has seen all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..layers import Dropout, Layer, Linear
from .model import LanguageModel, checked_ids


class Classifier(Layer):
    """logits = linear(dropout(x)), and their cross-entropy.  x (..., C) -> (..., n)."""

    def __init__(self, C: int, n: int, dropout: float = 0.0, bias: bool = True, std: float = 0.02):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = Linear(C, n, bias, std)

    def forward(self, x):
        return self.linear(self.dropout(x))

    def loss(self, x, targets, class_weight=None):
        """Mean over targets (...), -100 ignored; class_weight (n,): how much a row of each class counts in it."""
        logits = self(x)
        if class_weight is not None:
            class_weight = checked_class_weight(class_weight, logits)
        loss, lse = kernels.cross_entropy_forward(logits, targets, class_weight=class_weight)
        self.keep(logits, targets, lse, class_weight)
        return loss

    def backward(self, dloss=1.0):
        logits, targets, lse, class_weight = self.kept()
        dlogits = kernels.cross_entropy_backward(dloss, logits, targets, lse, class_weight=class_weight)
        return self.dropout.backward(self.linear.backward(dlogits))


def checked_class_weight(class_weight: Any, logits: np.ndarray) -> np.ndarray:
    array = np.array(class_weight, logits.dtype)
    if array.shape != logits.shape[-1:] or not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(f"class_weight must be {logits.shape[-1]} finite numbers, none negative, and is {class_weight}")
    return array


class SequenceClassifier(LanguageModel):
    """A decoder that gives each row a label: logits (B, labels) of its last real token. Stands before a model's own class.

    The last token is the last that attention_mask (B, T) has as real; without a mask, the last that is not
    config.pad_token_id. With h (B, T, C):  logits_b = w h_b,last  and  dh_b,last = w^T dlogits_b,  zero elsewhere.
    """

    writes = False
    head_names = ("score.",)

    def add_head(self, C: int, std: float) -> None:
        self.score = Classifier(C, self.config.num_labels, bias=False, std=std)

    def __call__(self, tokens, *, attention_mask=None, positions=None):  # type: ignore[override]
        """logits (B, labels) of tokens (B, T)."""
        tokens, context = self._checked(tokens, attention_mask, positions)
        with self.inference():
            h = self.hidden(tokens, context)  # (B, T, C)
            return self.score(kernels.embedding_forward(self.last(tokens, context.mask), h.reshape(-1, h.shape[-1])))

    def loss(  # type: ignore[override]  # of labels
        self, tokens, targets, *, attention_mask=None, positions=None, class_weight=None
    ):
        """Mean cross-entropy, a Python float, against targets (B,); -100 is ignored.

        class_weight (labels,): how much a row of each label counts in the mean, for labels of unequal number.
        """
        tokens, context = self._checked(tokens, attention_mask, positions)
        targets = checked_ids(targets, self.config.num_labels, "targets", tokens.shape[:1], may_ignore=True)
        with self.forward_pass():
            h, last = self.hidden(tokens, context), self.last(tokens, context.mask)
            self.keep(h.shape, last)
            return self.score.loss(kernels.embedding_forward(last, h.reshape(-1, h.shape[-1])), targets, class_weight)

    def backward(self, dloss=1.0) -> None:
        with self.backward_pass():
            shape, last = self.kept()
            drows = self.score.backward(dloss)  # (B, C)
            dh = kernels.zeros(drows, shape)
            kernels.embedding_backward(drows, last, dh.reshape(-1, shape[-1]))
            self.hidden_backward(dh)

    def last(self, tokens: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """The number of each row's last real token among all B * T, (B,)."""
        B, T = tokens.shape
        if mask is not None and mask.shape != (B, T):
            raise ValueError(f"attention_mask must have the shape of tokens, {(B, T)}, to classify, and has {mask.shape}")
        pad = self.config.pad_token_id
        real = mask if mask is not None else tokens != pad if pad is not None else np.ones((B, T), bool)
        return np.arange(B) * T + (real * np.arange(T)).max(1)

    def example(self, random):
        T = min(7, self.max_length)
        return random.integers(0, self.vocab_size, (3, T)), random.integers(0, self.config.num_labels, 3)

    def example_options(self, random):
        T = min(7, self.max_length)
        attention_mask = np.ones((3, T), bool)
        attention_mask[0, : T // 3] = attention_mask[1, -(T // 3) :] = False  # padding on the left, and on the right
        return {"attention_mask": attention_mask}


def name_labels(config: Any) -> None:
    """Completes num_labels and id2label of a configuration. ValueError if they contradict each other."""
    names = config.id2label
    if config.num_labels is None:
        config.num_labels = 2 if names is None else len(names)
    if config.num_labels < 1:
        raise ValueError(f"num_labels is {config.num_labels}; a classifier has at least 1 label")
    if names is None:
        return
    if len(names) != config.num_labels:
        raise ValueError(
            f"num_labels is {config.num_labels}, and id2label has {len(names)} names: give as many names as labels, "
            "or pass id2label=None"
        )
    names = {str(i): name for i, name in names.items()}  # JSON has no other keys
    numbers = [str(i) for i in range(len(names))]
    if sorted(names) != sorted(numbers):
        raise ValueError(
            f"id2label has the keys {', '.join(sorted(names))[:60]}; name the labels 0 to {len(names) - 1}, each once"
        )
    config.id2label = {i: names[i] for i in numbers}


def with_labels(config: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that replace some of a configuration: the labels' names and their number replace each other too."""
    if "id2label" in fields:
        return {"num_labels": None, **fields}
    if "num_labels" in fields and fields["num_labels"] != config.num_labels:
        return {"id2label": None, **fields}
    return fields


def names_of_labels(config: Any) -> dict[str, str]:
    """ "0", "1", ... -> the label's name; where there are no names, transformers' own: LABEL_0, LABEL_1, ..."""
    return config.id2label or {str(i): f"LABEL_{i}" for i in range(config.num_labels)}
