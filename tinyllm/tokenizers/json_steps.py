"""A part of a tokenizer.json as the list of its steps, and the error for a step that tinyllm does not have."""

from collections.abc import Sequence
from typing import Any

from .files import TokenizerError

Json = dict[str, Any]


def flat(part: Json | None, inner: str) -> list[Json]:
    """A part of the file as the list of its steps: none, itself, or those of a Sequence."""
    if part is None:
        return []
    return [step for each in part[inner] for step in flat(each, inner)] if part["type"] == "Sequence" else [part]


def sequence(steps: Sequence[Json], inner: str) -> Json | None:
    """A part of the file from its steps, the opposite of `flat`."""
    if len(steps) < 2:
        return steps[0] if steps else None
    return {"type": "Sequence", inner: list(steps)}


def refuse(step: Json, why: str = "") -> TokenizerError:
    return TokenizerError(f"{step['type']} {why or 'here'} is not supported: {step}")
