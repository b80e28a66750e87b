"""What every layer shares, and the contract that it keeps.

**Forward and backward.** `forward` computes, and keeps by `keep` what its backward needs. `backward` takes the gradient of
the loss with respect to the output, takes back by `kept` what the matching forward kept, adds the gradients of the
parameters, and returns the gradient of the input. A layer whose input has no gradient, such as token ids, declares that its
backward returns nothing: `def backward(self, dy) -> None`.

**keep and kept.** Kept values are a stack for each layer: keep pushes, kept pops. A layer that runs twice in one forward
pass runs its backward twice, in the opposite order. An activation is freed as soon as the backward has used it. Nothing is
kept inside `without_keeping`. A new loss drops what an earlier one kept.

**Arrays.** A backward never writes into `dy`, nor into what it kept: others may hold them. It may write into arrays that it
made itself. Gradients of parameters are added to (`+=`), gradients of inputs are new arrays.

**Children and parameters.** A layer's children are the layers and parameters in its attributes, and in lists there. Their
order is that in which the attributes were first assigned, and so is the order of the parameters: depth first, a tied
parameter once, under its first name. A dict, tuple or set of layers is an error, because its layers would be missed.
"""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .parameter import Flat, Parameter


@dataclass
class Mode:
    """How a model runs now, and what its layers keep for the backward; one object, shared by all its layers."""

    running: Any = field(default_factory=threading.RLock)  # held by the thread that is inside a loss or a backward
    training: bool = False  # dropout is on, but within `without_dropout`
    dtype: Any = None  # dtype of the vectors that quantized embeddings return; None: that of the model's parameters
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))  # source of dropout's seeds
    kept: defaultdict[Layer, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))
    last_loss: Any = None  # what the backward of the last loss relies on (models/model.py: forward_pass)

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a model begins without what a loss kept."""
        return {**vars(self), "running": None, "kept": defaultdict(list), "last_loss": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, running=threading.RLock())


_keeping: ContextVar[bool] = ContextVar("tinyllm_keeping", default=True)
_dropout: ContextVar[bool] = ContextVar("tinyllm_dropout", default=True)
dropout_is_allowed = _dropout.get  # () -> False within `without_dropout`, in this thread


@contextmanager
def without_dropout() -> Iterator[None]:
    """Within the block no model applies dropout in this thread, whatever its mode is: for inference.

    No mode changes, so none has to be restored, and a model may be in training in another thread.
    """
    token = _dropout.set(False)
    try:
        yield
    finally:
        _dropout.reset(token)


class Layer:
    """A map with a hand-written backward. It keeps the contract at the top of this file."""

    def __init__(self) -> None:
        self.mode = Mode()

    def __init_subclass__(cls, **options: Any) -> None:
        """A backward that should return a gradient is checked for it."""
        super().__init_subclass__(**options)
        if "backward" in vars(cls) and not declares_none(cls.backward):
            cls.backward = returning(cls.backward)  # type: ignore[method-assign]

    if not TYPE_CHECKING:  # a type checker would take any attribute for known

        def __getattr__(self, name: str) -> Any:
            if name == "mode":
                raise RuntimeError(f"{type(self).__name__}.__init__ must call super().__init__() first")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, *args: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    # Calling a layer calls its forward. As a property this takes no step of its own in a debugger.
    __call__: Any = property(attrgetter("forward"))

    def keep(self, *values: Any) -> None:
        """Keeps values for the backward."""
        if _keeping.get():
            self.mode.kept[self].append(values)

    def kept(self) -> tuple[Any, ...]:
        """What the matching forward kept. RuntimeError if there was none."""
        if not self.mode.kept[self]:
            raise RuntimeError(
                f"{type(self).__name__}.backward() needs a forward pass before it (of a model: loss()), one each"
            )
        return self.mode.kept[self].pop()

    def forget(self) -> None:
        """Drops all that the model has kept for a backward that never came."""
        self.mode.kept.clear()
        self.mode.last_loss = None

    @contextmanager
    def without_keeping(self) -> Iterator[None]:
        """Within the block the forward passes of this thread keep nothing: for inference."""
        token = _keeping.set(False)
        try:
            yield
        finally:
            _keeping.reset(token)

    def __repr__(self) -> str:
        """The class, with the numbers, parameters and layers in its attributes, such as Linear(w=(8, 4), b=(8,))."""
        parts = []
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                parts.append(f"{name}={type(value).__name__}")
            elif isinstance(value, list) and value and isinstance(value[0], Layer):
                parts.append(f"{name}={len(value)} x {type(value[0]).__name__}")
            elif hasattr(value, "shape"):
                parts.append(f"{name}={tuple(value.shape)}")
            elif isinstance(value, (bool, int, float, str)):
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    # The tree of layers ------------------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer | Parameter]]:
        """The layers and parameters in this layer's attributes, lists included, by name and in the order of definition."""
        for name, value in vars(self).items():
            if isinstance(value, (Layer, Parameter)):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, (Layer, Parameter)))
            elif isinstance(value, (dict, tuple, set)) and any(isinstance(v, (Layer, Parameter)) for v in members(value)):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {type(value).__name__} with layers or parameters in it, which would "
                    "be missed: use a list, or one attribute for each"
                )

    def layers(self) -> Iterator[Layer]:
        """This layer and all below it."""
        yield self
        for _, child in self.children():
            if isinstance(child, Layer):
                yield from child.layers()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) with names such as blocks.0.attention.qkv.w; a tied weight comes once for each of its names."""
        for name, child in self.children():
            if isinstance(child, Parameter):
                yield prefix + name, child
            else:
                yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """The parameters in a fixed order, a tied one once, under its first name."""
        return list({id(p): p for _, p in self.named_parameters()}.values())

    def initialize(self, seed: int | None = 0, dtype: str = "float32") -> Self:
        """Allocates all parameters in one flat array and gives them their first values (seed None: zeros, to be loaded)."""
        for name, parameter in reversed(list(self.named_parameters())):
            parameter.name = name
        self.flat = Flat(self.parameters(), dtype)
        self.share_mode(Mode(random=np.random.default_rng([seed or 0, 1])))
        if seed is not None:
            random = np.random.default_rng(seed)
            for parameter in self.parameters():
                parameter.data[...] = parameter.initial(random, parameter.shape)
        return self

    def share_mode(self, mode: Mode) -> None:
        """Makes this layer and all below it run in one mode."""
        for layer in self.layers():
            layer.mode = mode


def members(container: Any) -> Iterator[Any]:
    """What a dict, tuple or set holds, and what the lists and tuples in it hold."""
    for value in container.values() if isinstance(container, dict) else container:
        if isinstance(value, (dict, tuple, set, list)):
            yield from members(value)
        else:
            yield value


def declares_none(function: Any) -> bool:
    """Whether a function is annotated with `-> None`."""
    return "return" in function.__annotations__ and function.__annotations__["return"] in (None, "None")


def returning(backward: Any) -> Any:
    """The backward, with an error if it returns None: most likely a forgotten `return`."""

    @functools.wraps(backward)
    def checked(self: Layer, *args: Any, **options: Any) -> Any:
        dx = backward(self, *args, **options)
        if dx is None:
            raise TypeError(
                f"{type(self).__name__}.backward() returned None instead of the gradient of its input: return it, or "
                "declare `-> None` if the input has no gradient"
            )
        return dx

    return checked
