"""Entries of JSON files: a list of objects, or an object a line. Each entry knows the line of the file where it begins."""

from __future__ import annotations

import json
import re
from typing import Any

from ..files import check_unicode, once, problem_of
from .files import DataError

SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(text: str, name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects of a file, and where each is: "line 7", or "entry 3 (line 7)" of a list.

    Raises DataError, which names the file and the line, for what is not JSON, is not an object, holds NaN or an infinite
    number, or names a value twice.
    """
    found = entries(text, name)
    for entry, place in found:
        if not isinstance(entry, dict):
            raise DataError(f"{name}, {place}: it should be an object with named values, and is {str(entry)[:60]}")
    return [entry for entry, _ in found], [place for _, place in found]


def entries(text: str, name: str) -> list[tuple[Any, str]]:
    """The entries of a list, or of JSON lines, and where each is. A single object over several lines is one entry."""
    if text.lstrip().startswith("["):
        return listed_entries(text, name)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and is_one_value(text):
        return [(loaded(text, name, f"line {lines[0][0]}"), f"line {lines[0][0]}")]
    return [(loaded(line, name, f"line {number}"), f"line {number}") for number, line in lines]


def listed_entries(text: str, name: str) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = []
    place, line, counted = text.index("[") + 1, 1, 0
    while True:
        place = SPACE.match(text, place).end()  # type: ignore[union-attr]  # it matches everywhere
        if text[place : place + 1] == "]" and not found:
            break
        line, counted = line + text.count("\n", counted, place), place
        where = f"entry {len(found) + 1} (line {line})"
        value, place = parsed(text, place, name, where)
        found.append((value, where))
        place = SPACE.match(text, place).end()  # type: ignore[union-attr]
        if text[place : place + 1] != ",":
            break
        place += 1
    if text[place : place + 1] != "]" or text[place + 1 :].strip():
        line += text.count("\n", counted, place)
        raise DataError(f"{name}, line {line}, is neither JSON nor JSON lines: the list does not end as it should")
    return found


def is_one_value(text: str) -> bool:
    """Whether a text is one JSON value, over however many lines."""
    try:
        return not text[DECODER.raw_decode(text, len(text) - len(text.lstrip()))[1] :].strip()
    except (ValueError, RecursionError):
        return False


def loaded(text: str, name: str, where: str) -> Any:
    """One whole text as JSON."""
    value, end = parsed(text, SPACE.match(text).end(), name, where)  # type: ignore[union-attr]
    if text[end:].strip():
        raise DataError(f"{name}, {where}, is neither JSON nor JSON lines: more follows at column {end + 1}")
    return value


def parsed(text: str, place: int, name: str, where: str) -> tuple[Any, int]:
    """The JSON value that begins at a place, and where it ends."""
    try:
        value, end = DECODER.raw_decode(text, place)
        check_unicode(text[place:end], value)
        return value, end
    except json.JSONDecodeError as error:
        raise DataError(f"{name}, {where}, is neither JSON nor JSON lines: {error}") from None
    except RecursionError:
        raise DataError(f"{name}, {where}, is nested too deeply to be data") from None
    except ValueError as error:  # ours, or a number of thousands of digits
        raise DataError(f"{name}, {where}: {problem_of(error)}") from None


def no_number(spelling: str) -> Any:
    raise ValueError(f"{spelling} is not a value of JSON: write null, or leave the row out")


DECODER = json.JSONDecoder(object_pairs_hook=once, parse_constant=no_number)
