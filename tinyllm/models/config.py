"""What all configurations share: they never change once they are made, and their numbers are checked."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from typing import Any, NoReturn

import numpy as np

COUNTS = {  # fields that count something of which a model needs one at least
    "vocab_size", "n_positions", "n_layer", "n_head", "n_embd", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "intermediate_size", "max_position_embeddings", "head_dim", "ffn_dim", "d_model", "d_kv", "d_ff", "num_layers",
    "num_decoder_layers", "num_heads",
}  # fmt: skip


class Config:
    """The base of a configuration, which is a dataclass.

    A model is built from its configuration once. A field that changed later would have no effect on that model, but it would
    be saved with it. So a configuration is frozen at the end of its __post_init__, and so are the lists and dicts in it,
    which are copies of those that were given. dataclasses.replace(config, field=value) makes another one.

    A class that defines __post_init__ calls check_counts first and this one's last. ValueError for a number that cannot be:
    NaN, infinite, a dropout outside [0, 1), a negative epsilon or standard deviation, a size below 1.
    """

    __slots__ = ("_frozen",)  # in no instance's __dict__, which holds the fields alone

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # of the subclass, a dataclass
            value = frozen(field.name, getattr(self, field.name))
            check_range(field.name, value)
            setattr(self, field.name, value)
        self._frozen = True

    def check_counts(self) -> None:
        """ValueError if a size is below 1. None stays: a class may compute such a size from others."""
        for name, value in vars(self).items():
            if name in COUNTS and value is not None and not (isinstance(value, (int, np.integer)) and value >= 1):
                raise ValueError(f"{name} is {value!r}, and must be a whole number of at least 1")

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_frozen", False):
            raise FrozenInstanceError(changing(f"{type(self).__name__}.{name}", name))
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(changing(f"{type(self).__name__}.{name}", name))


def changing(what: str, field: str = "field") -> str:
    """The error of an attempt to change a configuration."""
    return (
        f"{what} cannot be changed: configurations are frozen, because a model follows its own only when it is made. Make "
        f"another one with dataclasses.replace(config, {field}=...) and a fresh model with it, or get a copy of a model "
        f"with the same weights from model.with_config({field}=...)"
    )


def check_range(name: str, value: Any) -> None:
    """ValueError if a field of this name cannot have this value. Only dropouts are looked at if they are not numbers."""
    if not isinstance(value, (int, float, np.floating)):
        if "drop" in name and value is not None:
            raise ValueError(f"{name} is {value!r}, and must be a number in [0, 1)")
        return
    if "drop" in name and not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, and must lie in [0, 1): it is the share of numbers that dropout sets to 0")
    if name.endswith(("_eps", "_epsilon", "_std", "_range", "_factor")) and value < 0:
        raise ValueError(f"{name} is {value}, and must be at least 0")


# Lists and dicts of a configuration ------------------------------------------------------------------------------------


def frozen(name: str, value: Any) -> Any:
    """The value of a field. A list or dict is copied, with those in it, into one that cannot change.

    It is still a list or dict, for JSON too. ValueError for a number that is not finite.
    """
    if isinstance(value, dict):
        return FrozenDict({key: frozen(f"{name}[{key!r}]", item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList(frozen(f"{name}[{i}]", item) for i, item in enumerate(value))
    if isinstance(value, (int, float, np.floating)) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, and must be a finite number")
    return value


def refuse(self: Any, *args: Any, **options: Any) -> NoReturn:
    raise TypeError(changing(f"{self!r}, a part of a configuration,"))


class FrozenDict(dict[Any, Any]):
    """A dict in a configuration."""

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = refuse

    def __reduce__(self) -> Any:
        return FrozenDict, (dict(self),)


class FrozenList(list[Any]):
    """A list in a configuration."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = clear = extend = insert = refuse
    pop = remove = reverse = sort = refuse

    def __reduce__(self) -> Any:
        return FrozenList, (list(self),)
