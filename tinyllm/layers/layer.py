"""What every layer shares: its parameters, what it keeps for the backward, and the mode that it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from .parameter import Flat, Parameter


@dataclass
class Mode:
    """How a model runs now; one object, shared by all its layers."""

    keeping: bool = True  # layers keep what their backward needs
    training: bool = False  # dropout is on
    dtype: Any = None  # of what comes out of quantized embeddings; None: of the model's parameters
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))  # where dropout's seeds come from


class Layer:
    """A map with a hand-written backward.

    `forward` keeps what `backward` needs by `keep`, `backward` takes it by `kept`. Kept values are a stack: a layer that
    runs twice in a forward pass runs its backward twice in the opposite order, and an activation is free the moment that
    the backward has used it.
    """

    def __init__(self) -> None:
        self.mode = Mode()
        self._kept: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.forward(*args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def backward(self, *args: Any) -> Any:
        raise NotImplementedError

    def keep(self, *values: Any) -> None:
        if self.mode.keeping:
            self._kept.append(values)

    def kept(self) -> tuple[Any, ...]:
        if not self._kept:
            raise RuntimeError(f"{type(self).__name__}.backward() needs a forward pass (of a model: loss()) before it")
        return self._kept.pop()

    def forget(self) -> None:
        """Drops what was kept for a backward that never came."""
        for layer in self.layers():
            layer._kept.clear()

    def children(self) -> Iterator[tuple[str, Layer | Parameter]]:
        """The layers and parameters that stand in this layer's attributes, lists included, in the order of definition."""
        for name, value in vars(self).items():
            if isinstance(value, (Layer, Parameter)):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Layer))

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
        """Gives all parameters their memory, in one flat array, and their first values (None: zeros, to be loaded)."""
        for name, parameter in reversed(list(self.named_parameters())):
            parameter.name = name
        self.flat = Flat(self.parameters(), dtype)
        self.mode = Mode(random=np.random.default_rng([seed or 0, 1]))
        for layer in self.layers():
            layer.mode = self.mode
        if seed is not None:
            random = np.random.default_rng(seed)
            for parameter in self.parameters():
                parameter.data[...] = parameter.initial(random, parameter.shape)
        return self

    @contextmanager
    def without_keeping(self) -> Iterator[None]:
        """Within the block a forward pass keeps nothing: for inference."""
        before, self.mode.keeping = self.mode.keeping, False
        try:
            yield
        finally:
            self.mode.keeping = before
