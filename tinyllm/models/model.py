"""What all models share: how they are called, checked, and run backwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from .. import kernels
from ..device import check_device, device_of, moved
from ..layers import Context, Embedding, KVCache, Layer, Output, packed_arrays
from ..layers.quantized import Packed
from ..parameter import Flat
from .step import is_recordable, step


class Model(Layer):
    """A network with a loss. Training knows of it only `loss`, `backward`, its flat buffers and its mode."""

    config: Any
    bits: int | None = None  # of its matrices, where they are quantized (quantization.py)
    lora: Any = None  # the LoRAConfig of its adapters, where it has some (lora.py)
    head_names: tuple[str, ...] = ()  # how the names of a head's parameters begin that is fresh on a pretrained body

    def loss(self, *args: Any, **options: Any) -> float:
        raise NotImplementedError

    def example(self, random: np.random.Generator) -> tuple[Any, ...]:
        """A small random batch, as the arguments of `loss`: for gradcheck and tests."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Sets all gradients to zero."""
        kernels.clear(self.flat.grad)

    def train(self, on: bool = True) -> None:
        """Turns dropout on (or off). A fresh or loaded model has it off."""
        self.mode.training = on

    def eval(self) -> None:
        """Turns dropout off."""
        self.train(False)

    def to(self, device: str) -> Self:
        """Moves what it has learned to "cpu" or "cuda", where it computes from then on; gradients begin anew -> itself.

        Raises ValueError where this machine has no such device.
        """
        check_device(device)
        for flat in self._flats():
            flat.to(device)
        for layer in self.layers():
            if isinstance(packed := getattr(layer, "w", None), Packed):
                packed.q, packed.scales = moved(packed.q, device), moved(packed.scales, device)
        return self

    @contextmanager
    def in_bfloat16(self) -> Iterator[None]:
        """Within the block it computes in bfloat16 on "cuda": its activations are of that dtype, and its parameters copies,
        rounded when the block begins.

        What it has learned stays in float32, and gradients are summed in it: updates too small for bfloat16's eight bits
        are not lost (Micikevicius et al. 2018, section 3.1). `loss` and `backward` belong into one block, an optimizer's
        step behind it. ValueError where the model is not on "cuda", or not of float32.
        """
        if self.device != "cuda" or self.dtype != np.float32:
            raise ValueError(
                f"a model of float32 on 'cuda' computes in bfloat16, and this is one of {self.dtype} on {self.device!r}: "
                "there, kernels.autocast('bfloat16') rounds the factors of its products"
            )
        flats = self._flats()
        for flat in flats:
            flat.round()
        self.mode.dtype = flats[0].rounded.dtype
        try:
            yield
        finally:
            for flat in flats:
                flat.round(False)
            self.mode.dtype = None

    def _flats(self) -> list[Flat]:
        """The memory of all parameters: one array, or with adapters two."""
        return list({id(p.flat): p.flat for p in self.parameters() if p.flat}.values())

    @property
    def device(self) -> str:
        return device_of(self.flat.data)

    @property
    def dtype(self) -> np.dtype:
        return self.flat.data.dtype

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it has learned, by name: what a file holds of it. The arrays are the model's own."""
        arrays = {p.name: p.data for p in self.parameters()}
        for layer in self.layers():
            arrays |= packed_arrays(layer)
        return arrays

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained; a tied weight counts once."""
        return self.flat.size


def checked_tokens(tokens: Any, vocab_size: int, name: str = "tokens") -> np.ndarray:
    """tokens as an int array (B, T), each in [0, vocab_size); one clear error otherwise."""
    array = np.asarray(tokens)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers of shape (B, T), and are {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= vocab_size):
        wrong = array[(array < 0) | (array >= vocab_size)][0]
        raise ValueError(
            f"{name} holds {wrong}, outside of the vocabulary [0, {vocab_size}): was it made by another tokenizer?"
        )
    return array


def checked_targets(targets: Any, shape: tuple[int, ...], vocab_size: int) -> np.ndarray:
    """targets as an int array of the given shape, each in [0, vocab_size) or -100; one clear error otherwise."""
    array = np.asarray(targets)
    if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"targets must be integers of shape {shape}, and are {array.dtype} of shape {array.shape}")
    wrong = array[((array < 0) & (array != -100)) | (array >= vocab_size)]
    if wrong.size:
        raise ValueError(f"targets holds {wrong[0]}; each must lie in [0, {vocab_size}), or be -100 to be ignored")
    return array


def checked_mask(mask: Any, B: int, T: int, S: int) -> np.ndarray | None:
    """attention_mask as bool (B, S) or (B, T, S); one clear error otherwise."""
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.shape not in ((B, S), (B, T, S), (1, T, S)):
        raise ValueError(f"attention_mask must have shape ({B}, {S}) or ({B}, {T}, {S}), and has {array.shape}")
    return array.astype(bool)


class LanguageModel(Model):
    """A decoder: predicts each next token. A model of this kind defines `hidden` and `hidden_backward`, its two halves
    between the tokens (B, T) and the last hidden state (B, T, C), on which it puts its head."""

    tokens: Embedding
    output: Output
    writes = True  # whether it can generate

    def add_head(self, C: int, std: float) -> None:
        """What stands on the last hidden state of C channels: here the projection onto the vocabulary."""
        tied = self.tokens.w if self.config.tie_word_embeddings else None
        self.output = Output(C, self.config.vocab_size, tied, std=std)

    def hidden(self, tokens: np.ndarray, context: Context) -> np.ndarray:
        raise NotImplementedError

    def hidden_backward(self, dh: np.ndarray) -> None:
        raise NotImplementedError

    def example(self, random):
        B, T = 2, min(7, self.max_length)
        tokens, targets = random.integers(0, self.vocab_size, (2, B, T))
        targets[0, T // 2] = -100
        attention_mask = np.ones((B, T), bool)
        attention_mask[0, : T // 3] = False  # padding on the left of the first row
        return tokens, targets, attention_mask

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def max_length(self) -> int:
        """The longest sequence that the model can take."""
        raise NotImplementedError

    @property
    def steady(self) -> bool:
        """Whether all tokens are computed alike, however many come before them."""
        return True

    def __call__(self, tokens, attention_mask=None, positions=None, cache=None, last_only=False):
        """logits (B, T, V) of tokens (B, T).

        attention_mask (B, S) or (B, T, S), true for real tokens, S the length with the cache's; positions (B, T) where they
        do not simply count up; cache: a KVCache that holds the tokens before and receives these; last_only: (B, 1, V).
        One token a row behind others is a step that is recorded and repeated, where models/step.py says so.
        """
        tokens, context = self._checked(tokens, attention_mask, positions, cache)
        with self.without_keeping():
            if self.steady and is_recordable(self, tokens, cache):
                return step(self, self._step, tokens, cache, context.positions, context.mask)
            h = self.hidden(tokens, context)
            if cache is not None:
                cache.advance(tokens.shape[1])
            return self.output(h[:, -1:] if last_only else h)

    def _step(self, tokens, positions, mask, cache):
        return self.output(self.hidden(tokens, Context(mask, positions, cache)))

    def loss(self, tokens, targets, attention_mask=None, positions=None, label_smoothing=0.0):
        """Mean cross-entropy, a Python float, of predicting targets (B, T); -100 is ignored."""
        self.forget()
        tokens, context = self._checked(tokens, attention_mask, positions)
        targets = checked_targets(targets, tokens.shape, self.vocab_size)
        return self.output.loss(self.hidden(tokens, context), targets, label_smoothing)

    def backward(self, dloss=1.0):
        """Adds the gradient of dloss * loss, of the loss computed last, into every Parameter.grad."""
        self.hidden_backward(self.output.backward(dloss))

    def default_positions(self, mask: np.ndarray | None, past: int, T: int) -> np.ndarray:
        """Where T tokens stand that follow on `past` others, (T,) or (B, T), if the caller does not say."""
        return np.arange(past, past + T)

    def _checked(self, tokens, attention_mask, positions, cache=None):
        tokens = checked_tokens(tokens, self.vocab_size)
        B, T = tokens.shape
        past = cache.length if cache is not None else 0
        if past + T > self.max_length:
            raise ValueError(
                f"the sequence has {past + T} tokens, and this model takes at most {self.max_length}: "
                "shorten it, or use a model with a longer context"
            )
        mask = checked_mask(attention_mask, B, T, past + T)
        if positions is None:
            positions = self.default_positions(mask, past, T)
        return tokens, Context(mask, np.asarray(positions), cache)


__all__ = ["KVCache", "LanguageModel", "Model", "checked_mask", "checked_targets", "checked_tokens"]
