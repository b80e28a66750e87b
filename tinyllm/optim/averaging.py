"""The mean of the weights along training. It is often better than the latest weights, which the last batches have pulled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..models.model import Model


class Average:
    """The weights as they are: this class averages nothing. A subclass keeps a mean of a model's trained weights, (N,).

    name: the value of --average. count: steps or evaluations that the mean has seen. evaluated: the step of the latest such
    evaluation. raw: the weights themselves while the mean is in their place, else None.
    """

    def __init__(self, model: Model, name: str = "none"):
        self.model, self.flat, self.name = model, model.flat, name
        self.count = self.evaluated = 0
        self.raw: np.ndarray | None = None

    def after_step(self) -> None:
        """To be called after each step of the optimizer."""

    def at_evaluation(self, step: int) -> None:
        """To be called before the evaluation at this step. A second call with the same step changes nothing."""

    def mean(self) -> np.ndarray:
        """Return the mean of the weights, (N,); the weights themselves if it has seen none."""
        return self.flat.data

    def kept(self) -> dict[str, np.ndarray]:
        """Return the arrays that it keeps, each laid out as the weights, (N,)."""
        return {}

    def apply(self) -> None:
        """Put the mean in the place of the weights until `restore`."""
        if self.raw is None and self.count:
            self.raw = self.flat.data.copy()
            self.flat.data[...] = self.mean()
            self.flat.changed()

    def restore(self) -> None:
        """Put the weights back, bit for bit."""
        if self.raw is not None:
            self.flat.data[...] = self.raw
            self.flat.changed()
            self.raw = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the mean of its weights. A block within this block changes nothing."""
        outermost = self.raw is None
        self.apply()
        try:
            yield
        finally:
            if outermost:
                self.restore()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the weights and all that is kept, as views by name, for a checkpoint; {} if nothing is averaged."""
        kept = self.kept()
        arrays = {"raw": self.flat.data if self.raw is None else self.raw, **kept} if kept else {}
        trained = [p for p in self.model.parameters() if p.trained]
        return {f"{name}.{p.name}": p.view(array) for name, array in arrays.items() for p in trained}


class ExponentialAverage(Average):
    """After each step, average = (1 - share) average + share w with share = (1 - decay) / (1 - decay^step): gpt.md (26).

    The share is 1 at the first step, so that the beginning does not count. From then on it is Adam's mean with its
    correction (Kingma & Ba 2015, section 3) of weights in place of gradients, as in Polyak & Juditsky 1992.
    """

    def __init__(self, model: Model, decay: float):
        super().__init__(model, f"ema:{decay!r}")
        self.decay = decay
        self.average = np.zeros_like(self.flat.data)

    def after_step(self) -> None:
        self.count += 1
        share = (1 - self.decay) / (1 - self.decay**self.count)
        self.average *= 1 - share
        self.average += share * self.flat.data

    def mean(self) -> np.ndarray:
        return self.average if self.count else self.flat.data

    def kept(self) -> dict[str, np.ndarray]:
        return {"average": self.average}


class LastAverage(Average):
    """The mean of the weights at the last `size` evaluations (Vaswani et al. 2017, section 6.1). It keeps all of them."""

    def __init__(self, model: Model, size: int):
        super().__init__(model, f"last:{size}")
        self.size = size
        self.weights = np.zeros_like(self.flat.data, shape=(size, self.flat.size))

    def at_evaluation(self, step: int) -> None:
        if step > self.evaluated:  # not at step 0, where nothing is learned yet
            self.weights[self.count % self.size] = self.flat.data
            self.count, self.evaluated = self.count + 1, step

    def mean(self) -> np.ndarray:
        return self.weights[: self.count].mean(0) if self.count else self.flat.data

    def kept(self) -> dict[str, np.ndarray]:
        return {f"last_{i}": weights for i, weights in enumerate(self.weights)}


def average_named(name: str, model: Model) -> Average:
    """Return the average that --average names, of this model: "none", "ema:DECAY" or "last:COUNT"."""
    kind, number = parsed(name)
    if kind == "none":
        return Average(model)
    return ExponentialAverage(model, number) if kind == "ema" else LastAverage(model, int(number))


def parsed(name: str) -> tuple[str, float]:
    """Return the kind of an average and its number, such as ("ema", 0.999) or ("last", 5.0). ValueError if it is none."""
    kind, _, text = name.partition(":")
    try:
        number = float(text or 0)
    except ValueError:
        number = -1.0
    right = {"none": not text, "ema": bool(text) and 0 <= number < 1, "last": text.isdecimal() and number >= 1}
    if not right.get(kind):
        raise ValueError(
            f"average is {name!r}: give ema:DECAY with a decay from 0 up to, but not, 1, such as ema:0.999; last:COUNT with "
            "a whole number of evaluations, such as last:5; or none"
        )
    return kind, number
