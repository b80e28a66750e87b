"""Three parts of data: one to learn from, one to choose by (validation), and one to measure once, at the end (test)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from .batches import split
from .files import DataError
from .tables import held_out

Rows = TypeVar("Rows")


@dataclass(frozen=True)
class Parts(Generic[Rows]):
    """What to learn from, to validate on, and to test on (None without a test part). notes: what was left out, and why."""

    learned: Rows
    validation: Rows
    test: Rows | None = None
    notes: str = ""


def three_parts(
    rows: Rows,
    validation: Rows | None,
    test: Rows | None,
    fractions: tuple[float, float],
    keys: Callable[[Rows], Sequence[str]],
    take: Callable[[Rows, np.ndarray], Rows],
    groups: Callable[[Rows], Sequence[Any] | None] = lambda rows: None,
) -> Parts[Rows]:
    """Divide rows into the parts that do not have data of their own.

    validation, test: the rows of files for these parts, or None. fractions: of all rows, for validation and for the test;
    the second may be 0. keys: what each row is about; rows of one key come into one part. take: the rows that a mask,
    (N,) bool, says. groups: see tables.held_out.

    If there is a test part, it stays whole: rows about the same are left out of the others. Then what is learned also loses
    the rows that are about the same as one for validation. DataError if nothing remains.
    """
    for_validation, for_test = fractions
    left_out: list[str] = []

    def cut(rows: Rows, fraction: float) -> tuple[Rows, Rows]:
        which = held_out(keys(rows), fraction, groups=groups(rows))
        return take(rows, ~which), take(rows, which)

    def apart(rows: Rows, other: Rows, name: str, other_name: str) -> Rows:
        taken = set(keys(other))
        which = np.array([key not in taken for key in keys(rows)], bool)
        if not which.any():
            raise DataError(f"all of {name} are also in {other_name}: give other data for one of them")
        if shared := int((~which).sum()):
            left_out.append(f"Left out of {name}, because {other_name} have the same: {shared:,} of {len(which):,}.")
        return take(rows, which)

    if test is None and for_test:
        rows, test = cut(rows, for_test)
    if test is not None:
        rows = apart(rows, test, "the data to learn from", "the test data")
        validation = None if validation is None else apart(validation, test, "the validation data", "the test data")
    if validation is None:
        rows, validation = cut(rows, for_validation / (1 - for_test))
    elif test is not None:
        rows = apart(rows, validation, "the data to learn from", "the validation data")
    return Parts(rows, validation, test, "\n".join(left_out))


def text_parts(
    tokens: np.ndarray, test: np.ndarray | None, fractions: tuple[float, float], boundary: int | None
) -> Parts[np.ndarray]:
    """Divide the tokens of a text, (N,): from its end the test part, before it the part for validation (batches.split)."""
    for_validation, for_test = fractions
    if test is None and for_test:
        tokens, test = split(tokens, for_test, boundary)
    learned, validation = split(tokens, for_validation / (1 - for_test), boundary)
    return Parts(learned, validation, test)


def taken(rows: list[Any], which: np.ndarray) -> list[Any]:
    """The rows of a list that a mask says."""
    return [row for row, chosen in zip(rows, which) if chosen]
