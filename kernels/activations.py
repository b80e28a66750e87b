"""The activations that there are. All three sets and the layers read this table, and each set implements all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")

# our name -> the names for it in Hugging Face's configurations
ACTIVATIONS = {
    "gelu": ("gelu",),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh"),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
    "tanh": ("tanh",),
}


def activation_named(name: str) -> str:
    """Return our name for an activation that a configuration names. ValueError for an unknown one."""
    for ours, theirs in ACTIVATIONS.items():
        if name == ours or name in theirs:
            return ours
    known = dict.fromkeys(each for ours, theirs in ACTIVATIONS.items() for each in (ours, *theirs))
    raise ValueError(f"the activation {name!r} is not supported; pass one of {', '.join(map(repr, known))}")


def implementation_of(activation: str, table: Mapping[str, Entry]) -> Entry:
    """Return a set's entry for the activation. ValueError for a name that is not ours, or that the set's table lacks."""
    if activation not in ACTIVATIONS or activation not in table:
        known = ", ".join(repr(name) for name in ACTIVATIONS if name in table)
        raise ValueError(f"activation is {activation!r}, which is not an activation of this kernel set; pass one of {known}")
    return table[activation]
