"""Values from JSON or from a caller against the types of a dataclass, with errors that name the field (msgspec compares)."""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

WORDS = {"null": "null", "object": "a JSON object", "array": "a list", "str": "a text", "bool": "true or false"}


class InvalidValue(ValueError):
    """A value is not of its field's type; the message says which, what it is and what was expected."""


def checked(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of some fields of a dataclass, each as its type says: a list becomes a tuple where a tuple is expected.

    A NumPy number is taken as Python's, a path as a text, and one text as a list of one. InvalidValue for a name that is not
    a field, for a value of another type, and for a float that is not finite.
    """
    hints = _hints(cls)
    if unknown := sorted(set(values) - set(hints)):
        raise InvalidValue(f'there is no field "{unknown[0]}"; there are {", ".join(hints)}')
    return {name: _checked(name, value, hints[name]) for name, value in values.items()}


def whole(cls: Any, values: Mapping[str, Any]) -> Any:
    """An instance of the dataclass from its fields' values; InvalidValue as `checked`, or where a field is missing."""
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise InvalidValue(f'the field "{missing[0]}" is missing')
    return cls(**checked(cls, values))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _checked(name: str, value: Any, hint: Any) -> Any:
    value = _plain(value)
    if typing.get_origin(hint) is list and isinstance(value, str):
        value = [value]
    try:
        made = msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        for key in re.findall(r"\[(\d+)\]", place):
            name, value = f"{name}[{key}]", value[int(key)]
        raise InvalidValue(f'"{name}" is {reprlib.repr(value)}, and must be {_expected(message, hint)}') from None
    if any(isinstance(x, float) and not math.isfinite(x) for x in (made if isinstance(made, (tuple, list)) else [made])):
        raise InvalidValue(f'"{name}" is {value!r}, and must be a finite number')
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _expected(message: str, hint: Any) -> str:
    """What was expected, from msgspec's message ("Expected `int | null`, got `object`") or the choices of a Literal."""
    choices = [c for h in (hint, *typing.get_args(hint)) if typing.get_origin(h) is Literal for c in typing.get_args(h)]
    if message.startswith("Invalid enum value") and choices:
        return "one of " + ", ".join(map(str, choices))
    found = re.match(r"Expected `(.*?)`(.*?)(, got .*)?$", message)
    if found is None:
        return f"another value ({message})"
    return " or ".join(WORDS.get(name, f"of type {name}") for name in found[1].split(" | ")) + found[2]
