"""The activations that there are. All three sets and the layers read this table, and each set implements all of it."""

from __future__ import annotations

from typing import TypeVar

Entry = TypeVar("Entry")

# our name -> the names for it in Hugging Face's configurations
ACTIVATIONS = {
    "gelu": ("gelu", "gelu_python"),
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


class PerActivation(dict[str, Entry]):
    """What a kernel set has for each activation of the table. Looking up another name raises ValueError.

    A set that lacks an activation, or has one that the table lacks, cannot be imported.
    """

    def __init__(self, **entries: Entry):
        super().__init__(entries)
        if set(entries) != set(ACTIVATIONS):
            apart = ", ".join(sorted(set(entries) ^ set(ACTIVATIONS)))
            raise RuntimeError(f"a kernel set and kernels/activations.py differ in: {apart}. Add it to both or to neither")

    def __missing__(self, activation: str) -> Entry:
        known = ", ".join(map(repr, self))
        raise ValueError(f"activation is {activation!r}, which is not an activation of this kernel set; pass one of {known}")
