"""Rotary positions in config.json: rope_scaling and rope_theta, or rope_parameters since transformers 5."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from ...layers.rotary import KINDS

NAMES = ("rope_type", "type")  # of the kind: today's, and that from before transformers 4.43
SIZES = ("D", "theta", "made_for", "length")  # what each kind is given beside its own options
LENGTH = "original_max_position_embeddings"
USE_IT = ("llama3", "yarn", "longrope")  # the kinds that go by the original length
PASSED_OVER = {
    "attn_factor",
    "finetuned",
    "mrope_section",
    LENGTH,
}  # keys that transformers does not read, or not for a kind


def rope_kind(rope: Mapping[str, Any] | None) -> str:
    """The kind of a rope_scaling. Where both names are given, rope_type counts."""
    return next((rope[name] for name in NAMES if rope and rope.get(name)), "default")


def rope_of(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the dictionary about rotary positions. The older name counts if a file has both."""
    for name in ("rope_scaling", "rope_parameters"):
        if rope := theirs.get(name):
            if not isinstance(rope, dict):
                raise ValueError(f"{name} is {rope!r}; it must be a dictionary or null")
            return dict(rope)
    return {}


def read_rope(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields rope_theta and rope_scaling. ValueError for what is not computed."""
    rope = rope_of(theirs)
    theta = rope.pop("rope_theta", theirs.get("rope_theta", 10000.0))
    share = rope.pop("partial_rotary_factor", None)
    if share not in (None, 1):
        raise ValueError(f"rope_parameters has partial_rotary_factor {share!r}; this model turns whole heads")
    if rope_kind(rope) in USE_IT and theirs.get(LENGTH) is not None:
        rope[LENGTH] = theirs[LENGTH]
    return {"rope_theta": theta, "rope_scaling": scaling(rope)}


def scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """A rope_scaling of ours: the kind and the options that it takes. None for plain positions."""
    kind = rope_kind(rope)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"rope_scaling has the kind {kind!r}, which tinyllm does not compute; there are {', '.join(KINDS)}")
    options = {name: options_of(name) for name in KINDS}
    if nested := [name for name, value in rope.items() if isinstance(value, dict)]:
        raise ValueError(f"rope_parameters has values for {', '.join(nested)} alone; tinyllm turns all layers alike")
    known = PASSED_OVER.union(NAMES, *options.values())
    if unknown := sorted(set(rope) - known):
        warnings.warn(f"rope_scaling has {', '.join(unknown)}, which is not known here, and ignored", stacklevel=6)
    if kind == "default":
        return None
    return {"rope_type": kind, **{name: value for name, value in rope.items() if name in options[kind]}}


def options_of(kind: str) -> set[str]:
    """The names of a kind's own options."""
    return set(inspect.signature(KINDS[kind]).parameters) - set(SIZES)
