"""How a family of Hugging Face checkpoints is described: the names of its layers, and what its config.json says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...models.classification import names_of_labels

LABELS = ("num_labels", "id2label")  # fields of our configurations that only a classifier has in theirs


@dataclass(frozen=True)
class Named:
    """One of our layers in their names. {} stands for a block's number; our `w` and `b` are their weight and bias.

    theirs: several where our layer is theirs packed, row below row; their shares of the rows follow from `shares`, numbers
    from our configuration, and are equal where it is None. transposed: their matrix is (C, F), ours (F, C). bias: theirs
    always has one; where ours has none, zeros stand for it. rows: part `number` of theirs, with its rows in their order.
    """

    ours: str
    theirs: str | Sequence[str]
    transposed: bool = False
    bias: bool = False
    shares: Callable[[Any], Sequence[int]] | None = None
    rows: Callable[[np.ndarray, int, Any], np.ndarray] = lambda part, number, config: part

    def names(self, parameter: str) -> list[str]:
        """What they call our parameter; [] where it is not of this layer."""
        layer, _, kind = parameter.rpartition(".")
        match = re.fullmatch(re.escape(self.ours).replace(r"\{\}", r"(\d+)"), layer)
        theirs = [self.theirs] if isinstance(self.theirs, str) else self.theirs
        return [f"{name.format(*match.groups())}.{ {'w': 'weight', 'b': 'bias'}[kind] }" for name in theirs] if match else []


@dataclass(frozen=True)
class Family:
    """All that is particular to one of their families. Fields of configurations are named alike."""

    model_type: str
    architectures: Mapping[str, str]  # their class -> ours; of those that are one class of ours, the first is written
    prefix: str  # what their class with a head puts before the names of the class without
    layers: Sequence[Named]
    renamed: Mapping[str, str] = field(default_factory=dict)  # their names of fields -> ours, where they differ
    aliases: Mapping[str, str] = field(default_factory=dict)  # further names of theirs -> ours
    fixed: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # their field -> the values that we compute
    defaults: Mapping[str, Any] = field(default_factory=dict)  # our field -> their default, where it is not ours
    unused: Sequence[str] = ()  # fields that change nothing here
    ours_alone: Sequence[str] = ()  # our fields that they do not have
    ignored: Sequence[str] = ()  # patterns of tensors that hold nothing learned, or what our class does not have
    older: Sequence[tuple[str, str]] = ()  # how names of tensors end in older files -> how they do now
    same: Callable[[Any], Mapping[str, str]] = lambda config: {}  # further names of one tensor -> its first
    base: str = ""  # our class without a head: its names have no prefix
    holds: Callable[[Any], bool] = lambda config: True  # which of our configurations this family has
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda theirs: {}  # our fields that have no name in config.json
    stored: Callable[[Mapping[str, Any], Set[str]], Mapping[str, Any]] = lambda theirs, tensors: {}  # or tensors alone tell
    write: Callable[[Any], Mapping[str, Any]] = lambda model: {}  # their fields that have no name in our configuration


def read_labels(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """How many labels a classifier has, and their names."""
    if not any("Classification" in name for name in theirs.get("architectures") or ()):
        return {}
    names, numbers = theirs.get("id2label"), theirs.get("label2id")
    if isinstance(names, dict) and isinstance(numbers, dict):
        default = {f"LABEL_{number}": number for number in numbers.values()}  # transformers writes it beside other names
        stray = [name for name, number in numbers.items() if names.get(str(number)) != name] if numbers != default else []
        if stray:
            number = numbers[stray[0]]
            warnings.warn(
                f"label2id calls label {number} {stray[0]!r}, and id2label {names.get(str(number))!r}: id2label is used, "
                "as in transformers",
                stacklevel=5,
            )
    return {"num_labels": theirs.get("num_labels"), "id2label": names}


def write_labels(model: Any) -> dict[str, Any]:
    """The labels' names both ways, where the model has labels; without names, transformers' own."""
    if "Classification" not in type(model).__name__:
        return {}
    names = names_of_labels(model.config)
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
