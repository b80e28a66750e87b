"""What all models share: how they are called, checked, and run backwards."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np

from .. import kernels
from ..kernels.common import IGNORE
from ..kernels.device import check_device, device_of, moved
from ..layers import Context, Embedding, Layer, Output, packed_arrays
from ..layers.parameter import Flat
from ..layers.quantized import Packed
from .checks import described, warn_if_unshifted
from .config import changing
from .last_loss import ELSEWHERE, LastLoss, check
from .masks import zeros_and_ones


class Model(Layer):
    """A network with a loss. Training knows of it only `loss`, `backward`, its flat buffers and its mode."""

    config: Any  # never changed, nor replaced by another: its class is a Config (config.py)
    flat: Flat  # the weights that are trained
    base: Flat | None = None  # the frozen weights beside adapters
    arguments: tuple[str, ...] = ("tokens", "targets", "attention_mask", "positions")  # of `loss`, as batches hold them
    bits: int | None = None  # of its matrices, if they are quantized (checkpoints/quantization.py)
    warned: bool = False  # that targets are not shifted
    lora: Any = None  # the LoRAConfig of its adapters, if it has some (checkpoints/lora.py)
    head_names: tuple[str, ...] = ()  # how the names of a head's parameters begin that is fresh on a pretrained body

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "config" and "config" in vars(self):
            raise AttributeError(changing(f"{type(self).__name__}.config"))
        super().__setattr__(name, value)

    def loss(self, *args: Any, **options: Any) -> float:
        raise NotImplementedError

    def backward(self, dloss: float = 1.0) -> None:
        raise NotImplementedError

    def named(self, batch: Sequence[Any]) -> dict[str, Any]:
        """The arrays of a batch by the names of loss's arguments: model.loss(**model.named(batch))."""
        return dict(zip(self.arguments, batch))

    def example(self, random: np.random.Generator) -> tuple[Any, ...]:
        """A small random batch, as the positional arguments of `loss`: for gradcheck and tests."""
        raise NotImplementedError

    def example_options(self, random: np.random.Generator) -> dict[str, Any]:
        """What `loss` takes by name beside that example, such as a mask with padding."""
        return {}

    def with_config(self, **fields: Any) -> Self:
        """A fresh model with other values of these fields of its configuration, and copies of the weights.

        ValueError if a field changes the shape of a weight, or if the model is quantized or has adapters.
        """
        if self.bits is not None or self.lora is not None:
            raise ValueError(
                "with_config() copies the weights of an ordinary model, and this one is quantized or has adapters: change "
                "the configuration before tinyllm.lora.add or quantize"
            )
        model = type(self)(dataclasses.replace(self.config, **fields), seed=None, dtype=str(self.dtype))  # type: ignore[call-arg]
        theirs = {p.name: p for p in self.parameters()}
        if theirs.keys() != {p.name for p in model.parameters()}:
            raise ValueError(f"with {fields} the model has other weights: make a fresh one, {type(self).__name__}(config)")
        model.to(self.device)
        for parameter in model.parameters():
            parameter.data = theirs[parameter.name].data
        model.mode.training, model.mode.random = self.mode.training, copy.deepcopy(self.mode.random)
        return model

    # How it computes ---------------------------------------------------------------------------------------------------

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Around the forward pass of a loss. It drops what an earlier loss kept and remembers what the backward relies on:
        the precision, the thread, the weights, and what the layers kept."""
        mode = self.mode
        if not mode.running.acquire(blocking=False):
            raise RuntimeError(ELSEWHERE)
        try:
            mode.kept.clear()
            mode.last_loss, block = None, kernels.current_autocast()
            with nullcontext() if block.dtype == "float32" else self._in_precision(rounds_again=True):
                yield
            flats = [flat for flat in (self.flat, self.base) if flat]
            weights = [(flat, flat.version, [part.tobytes() for part in flat.watched]) for flat in flats]
            kept = [values for layer in mode.kept.values() for values in layer]
            mode.last_loss = LastLoss(block, threading.get_ident(), weights, kept)
        finally:
            mode.running.release()

    @contextmanager
    def backward_pass(self) -> Iterator[None]:
        """Around the backward pass of the last loss, in the precision of that loss.

        RuntimeError without a loss before it, or if the weights have changed or layers were called since then. ValueError if
        the matrices are packed in a few bits and nothing is trained beside them.
        """
        if self.mode.last_loss is None:
            raise RuntimeError(f"{type(self).__name__}.backward() needs a forward pass before it: call loss() first")
        if self.bits is not None and self.lora is None:
            raise ValueError(
                f"backward() needs trainable weights, and this model's matrices are packed in {self.bits} bits, for "
                'inference only: load it with dtype="float32" and compute in `with tinyllm.autocast("bfloat16"):`, or add '
                "LoRA adapters (tinyllm.lora.add) and train these"
            )
        last = self.mode.last_loss
        check(self, last)
        if not self.mode.running.acquire(blocking=False):
            raise RuntimeError(ELSEWHERE)
        self.mode.last_loss = None  # each loss has one backward, which frees what was kept
        try:
            with kernels.resume_autocast(last.block), self._in_precision():
                yield
        finally:
            self.mode.running.release()

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Around a forward pass without a backward: layers keep nothing, and a loss before it can still run backward."""
        with self.without_keeping(), self._in_precision():
            yield

    @contextmanager
    def _in_precision(self, rounds_again: bool = False) -> Iterator[None]:
        """On a GPU within autocast("bfloat16"), computes with rounded copies of the weights: activations are bfloat16.

        The weights stay in float32, and so do their gradients: updates too small for bfloat16's eight bits are not lost
        (Micikevicius et al. 2018, section 3.1). On a CPU autocast rounds the factors of products alone.
        """
        block = kernels.current_autocast()
        if block.dtype == "float32" or self.dtype != np.float32 or self.device == "cpu" or self.mode.dtype is not None:
            yield
            return
        flats = self._flats()
        for flat in flats:
            flat.round(block, again=rounds_again)
        self.mode.dtype = flats[0].rounded.dtype
        try:
            yield
        finally:
            self.mode.dtype = None
            for flat in flats:
                flat.unround()

    def train(self, on: bool = True) -> None:
        """Turns dropout on (or off). A fresh or loaded model has it off."""
        self.mode.training = on

    def eval(self) -> None:
        """Turns dropout off."""
        self.train(False)

    # Its parameters ----------------------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Sets all gradients to zero."""
        kernels.clear(self.flat.grad)

    def to(self, device: str) -> Self:
        """Moves the parameters to "cpu" or "cuda", where the model computes from then on, and drops the gradients.

        Returns the model. ValueError if this machine has no such device.
        """
        check_device(device)
        for flat in self._flats():
            flat.to(device)
        for layer in self.layers():
            if isinstance(packed := getattr(layer, "w", None), Packed):
                packed.q, packed.scales = moved(packed.q, device), moved(packed.scales, device)
        return self

    def _flats(self) -> list[Flat]:
        """The memory of all parameters: one Flat, or with adapters two."""
        return [flat for flat in (self.flat, self.base) if flat]

    def changed(self) -> None:
        """To be called after weights were written without a Parameter, such as into what `arrays` returns."""
        for flat in self._flats():
            flat.changed()

    @property
    def device(self) -> str:
        return device_of(self.flat.data)

    @property
    def dtype(self) -> np.dtype:
        return self.flat.data.dtype

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name, as a file holds them. The arrays are the model's own."""
        arrays = {p.name: p.data for p in self.parameters()}
        for layer in self.layers():
            arrays |= packed_arrays(layer)
        return arrays

    @property
    def n_parameters(self) -> int:
        """The number of trained parameters. A tied weight counts once."""
        return self.flat.size

    def __repr__(self) -> str:
        return described(self)


def checked_ids(
    ids: Any, size: int, name: str = "tokens", shape: tuple[int, ...] | None = None, may_ignore: bool = False
) -> np.ndarray:
    """ids as an int array with numbers in [0, size), such as tokens (B, T) or targets; one clear error otherwise.

    shape: what is expected, any (B, T) by default. may_ignore: -100 is allowed too, for a target that does not count.
    """
    array = np.array(ids)  # a copy: a caller may fill its own array with the next batch before the backward
    fits = array.ndim == 2 if shape is None else array.shape == shape
    if not fits or not np.issubdtype(array.dtype, np.integer):
        expected = "(B, T)" if shape is None else shape
        raise ValueError(f"{name} must be integers of shape {expected}, and are {array.dtype} of shape {array.shape}")
    wrong = (array < 0) | (array >= size)
    if may_ignore:
        wrong &= array != IGNORE
    if wrong.any():
        also = f", or be {IGNORE} to be ignored" if may_ignore else ""
        raise ValueError(
            f"{name} holds {array[wrong][0]}; each must lie in [0, {size}){also}: was it made by another tokenizer, or for "
            "another number of labels?"
        )
    return array


def checked_mask(mask: Any, *shapes: tuple[int, ...], name: str = "attention_mask") -> np.ndarray | None:
    """A mask as bool, of one of these shapes: true where a token is real. None stays None; one clear error otherwise."""
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.shape not in shapes:
        raise ValueError(f"{name} must have shape {' or '.join(map(str, shapes))}, and has {array.shape}")
    return array.copy() if array.dtype == bool else zeros_and_ones(array, name)  # a copy, as of ids


class LanguageModel(Model):
    """A decoder: it predicts each next token.

    A model of this kind defines `hidden` and `hidden_backward`, its two halves between the tokens (B, T) and the last hidden
    state (B, T, C). The head follows on that: here the projection onto the vocabulary.
    """

    tokens: Embedding
    output: Output
    max_length: int  # the longest sequence that the model can take
    writes = True  # whether it can generate

    def add_head(self, C: int, std: float) -> None:
        """Makes the head on the last hidden state of C channels."""
        tied = self.tokens.w if self.config.tie_word_embeddings else None
        self.output = Output(C, self.config.vocab_size, tied, std=std)

    def hidden(self, tokens: np.ndarray, context: Context) -> np.ndarray:
        """tokens (B, T) -> the last hidden state (B, T, C)."""
        raise NotImplementedError

    def hidden_backward(self, dh: np.ndarray) -> None:
        raise NotImplementedError

    def loss(self, tokens, targets, *, attention_mask=None, positions=None, label_smoothing=0.0):
        """Mean cross-entropy, a Python float, of predicting targets (B, T). Targets of -100 are ignored."""
        tokens, context = self._checked(tokens, attention_mask, positions)
        targets = checked_ids(targets, self.config.vocab_size, "targets", tokens.shape, may_ignore=True)
        if ((targets == tokens) | (targets == IGNORE)).all():
            warn_if_unshifted(self, tokens, targets)
        with self.forward_pass():
            return self.output.loss(self.hidden(tokens, context), targets, label_smoothing)

    def backward(self, dloss=1.0) -> None:
        """Adds the gradient of dloss * loss, for the loss computed last, into every Parameter.grad."""
        with self.backward_pass():
            self.hidden_backward(self.output.backward(dloss))

    def __call__(self, tokens, *, attention_mask=None, positions=None, cache=None, last_only=False):
        """logits (B, T, V) of tokens (B, T).

        attention_mask (B, S) or (B, T, S): true for real tokens; S is the length with the cache's. positions (B, T): needed
        if they do not simply count up. cache: a KVCache (generation/cache.py) that holds the tokens before and receives
        these. last_only: return the logits of the last token alone, (B, 1, V).
        """
        tokens, context = self._checked(tokens, attention_mask, positions, cache)
        with self.inference():
            if cache is not None:
                return cache.logits(self, tokens, context, last_only)
            h = self.hidden(tokens, context)  # (B, T, C)
            return self.output(h[:, -1:] if last_only else h)

    def decoder_hidden(self, tokens: np.ndarray, context: Context) -> np.ndarray:
        """What a cache runs on the next tokens."""
        return self.hidden(tokens, context)

    def example(self, random):
        T = min(7, self.max_length)
        tokens, targets = random.integers(0, self.vocab_size, (2, 2, T))
        targets[0, T // 2] = IGNORE
        return tokens, targets

    def example_options(self, random):
        T = min(7, self.max_length)
        attention_mask = np.ones((2, T), bool)
        attention_mask[0, : T // 3] = False  # padding on the left of the first row
        return {"attention_mask": attention_mask}

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def steady(self) -> bool:
        """Whether a token is computed in the same way whatever the number of tokens before it."""
        return True

    @property
    def switches_at(self) -> int | None:
        """In sequences longer than this every token is computed differently, so a cache is of no use. None: never."""
        return None

    def _checked(self, tokens, attention_mask, positions, cache=None):
        tokens = checked_ids(tokens, self.config.vocab_size)
        B, T = tokens.shape
        past = cache.length if cache is not None else 0
        if past + T > self.max_length:
            raise ValueError(
                f"the sequence has {past + T} tokens, and this model takes at most {self.max_length}: "
                "shorten it, or use a model with a longer context"
            )
        S = past + T
        mask = checked_mask(attention_mask, (B, S), (B, T, S), (1, T, S))
        positions = np.arange(past, past + T) if positions is None else np.array(positions)
        return tokens, Context(mask, positions, cache)
