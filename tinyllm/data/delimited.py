"""CSV and TSV: which character is between the columns, and rows that are never silently wrong.

The columns of a .tsv file, and of a file whose name says nothing and whose lines all have as many tabs, are between tabs,
and a quote there is a character like others. Every other file is CSV as RFC 4180 has it: a cell that begins with a quote
ends with the next one that stands alone. A comma, a semicolon or a tab is between its columns, the one that gives every row
as many columns. If several do, the one whose first line is a header; if that does not decide either, it is an error.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .files import DataError
from .reading import lines_of

COMMAS, SEMICOLONS, TABS = ",", ";", "\t"
NAMES = {COMMAS: "commas", SEMICOLONS: "semicolons", TABS: "tabs", "|": "pipes"}
SPELLED = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}  # as --delimiter takes them
LINE_END = re.compile(r"\r\n|\r|\n")
LARGEST = 2**31 - 1  # characters of a cell: what the csv module takes on every system

Row = tuple[int, list[str]]  # the line where it begins, its cells


def delimited_rows(
    text: str, kind: str, name: str, delimiter: str | None, is_header: Callable[[list[str]], bool]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file by the names of its columns, and where each is: "line 7".

    kind: "csv", "tsv", or "" for what the name does not say. Raises DataError, which names the file and the line.
    """
    numbered = rows_of(text, kind, name, delimiter, is_header)
    if not numbered:
        return [], []
    first = numbered[0][1]
    names = [str(i + 1) for i in range(len(first))]
    if is_header(first):
        names = [cell.strip() or number for cell, number in zip(first, names)]
        if twice := [column for column in names if names.count(column) > 1]:
            raise DataError(f"{name}, line {numbered[0][0]}, names the column {twice[0]!r} twice: rename one of them")
        numbered = numbered[1:]
    return [dict(zip(names, row)) for _, row in numbered], [f"line {line}" for line, _ in numbered]


def rows_of(text: str, kind: str, name: str, delimiter: str | None, is_header: Callable[[list[str]], bool]) -> list[Row]:
    """The rows with as many columns each, blank lines left out."""
    if delimiter is not None:
        chosen = spelled(delimiter)
        return even(cells(text, chosen, kind, name), chosen, name)
    if kind == "tsv":
        return even(cells(text, TABS, kind, name), TABS, name)
    first = next((line for line in lines_of(text) if line.strip()), "")
    if kind == "" and TABS in first:
        rows = cells(text, TABS, "tsv", name)
        if len({len(row) for _, row in rows}) == 1:
            return rows
    tried: dict[str, list[Row]] = {}
    errors: dict[str, DataError] = {}
    for candidate in (COMMAS, SEMICOLONS, TABS):
        if candidate in first:
            try:
                tried[candidate] = even(cells(text, candidate, kind, name), candidate, name)
            except DataError as error:
                errors[candidate] = error
    tried = {candidate: rows for candidate, rows in tried.items() if len(rows[0][1]) > 1}
    if len(tried) > 1:
        headed = {candidate: rows for candidate, rows in tried.items() if is_header(rows[0][1])}
        if len(headed) != 1:
            both = " and ".join(NAMES[candidate] for candidate in tried)
            raise DataError(
                f"{name} can be read as columns between {both}: say which by --delimiter, {' or '.join(map(shown, tried))}"
            )
        tried = headed
    if tried:
        return next(iter(tried.values()))
    if errors:
        likeliest = TABS if kind == "" and TABS in errors else max(errors, key=first.count)
        raise errors[likeliest]
    return even(cells(text, COMMAS, kind, name), COMMAS, name)  # one column


def spelled(delimiter: str) -> str:
    """The character that an option names."""
    character = SPELLED.get(delimiter, delimiter)
    if len(character) != 1 or character in '"\r\n':
        raise DataError(f"the delimiter is {delimiter!r}, and must be one character, or comma, semicolon, tab or pipe")
    return character


def shown(delimiter: str) -> str:
    return "tab" if delimiter == TABS else f'"{delimiter}"'


def even(rows: list[Row], delimiter: str, name: str) -> list[Row]:
    """The rows, if they all have as many columns as the first."""
    for line, row in rows:
        if len(row) != len(rows[0][1]):
            between = NAMES.get(delimiter, f"{delimiter!r}")
            raise DataError(
                f"{name}, line {line}, has {len(row)} columns between {between}, and its first line has {len(rows[0][1])}: "
                "quote cells that hold the delimiter, or name another one by --delimiter"
            )
    return rows


def cells(text: str, delimiter: str, kind: str, name: str) -> list[Row]:
    """The rows of a file that are not blank, however many columns each has."""
    if delimiter == TABS and kind != "csv":
        rows = [(i + 1, line.split(TABS)) for i, line in enumerate(lines_of(text))]
    else:
        rows = quoted(text, delimiter, name)
    return [(line, row) for line, row in rows if any(cell.strip() for cell in row)]


def quoted(text: str, delimiter: str, name: str) -> list[Row]:
    """The rows of a CSV file."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    starts = [0, *(match.end() for match in LINE_END.finditer(text))]  # of the lines
    rows: list[Row] = []
    begins = 1
    with cells_of_any_length():
        while True:
            error = "its quotes are wrong"
            try:
                row = next(reader)
            except StopIteration:
                return rows
            except csv.Error as wrong:
                row, error = None, str(wrong)
            if row is None or reader.line_num > begins:
                fault = wrong_quote(text, delimiter, begins, starts[begins - 1])
                if fault or row is None:
                    raise DataError(f"{name}, {fault or f'line {begins}: {error}'}")
            rows.append((begins, row))
            begins = reader.line_num + 1


@contextmanager
def cells_of_any_length() -> Iterator[None]:
    """Within the block the csv module takes cells of more than 131,072 characters."""
    before = csv.field_size_limit(LARGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def wrong_quote(text: str, delimiter: str, begins: int, place: int) -> str | None:
    """What is wrong with the quotes of the row that begins at a line, which begins at a place of the text.

    In a row of several lines, a quote within an unquoted cell is wrong too: it closes another one than was meant.
    """
    cell = re.compile(rf'"[^"]*(?:""[^"]*)*(?P<closed>"?)|[^{re.escape(delimiter)}\r\n]*')
    number = begins
    while match := cell.match(text, place):
        opened = text[place : place + 1] == '"'
        after = text[match.end() : match.end() + 1]
        if opened and not match["closed"]:
            return (
                f"line {number}: the quote that opens a cell here is never closed. Close it, remove it, or double it where "
                'it is a character and put the cell into quotes: "5"" pipe"'
            )
        if not opened and number > begins and '"' in match[0]:
            return (
                f"line {number}: {match[0][:20]!r} has a quote, and a cell before it begins at line {begins}. Close that one"
            )
        number += len(LINE_END.findall(match[0]))
        if opened and after not in (delimiter, "\r", "\n", ""):
            follows = text[match.end() : match.end() + 20].splitlines()[0]
            return f"line {number}: {follows!r} follows the quote that closes a cell. Double a quote that is a character"
        if after != delimiter:
            break
        place = match.end() + 1
    return None
