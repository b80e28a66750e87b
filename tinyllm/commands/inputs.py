"""The texts that a command works on: arguments, the lines of a file or of standard input, a column of a table. One line
comes out for each that goes in, blank ones included."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.reading import lines_of, read_file
from ..data.tables import Table, is_header, read_table, table_kind


@dataclass(kw_only=True)
class FromFile:
    """The options of a command that takes many texts inherit from it."""

    # File
    file: Path | None = None  # a file with a text on each line, or a table (CSV, TSV, JSON lines); - is standard input
    text_column: str | None = None  # the table's column with the texts; found by its name if not given
    delimiter: str | None = (
        None  # what is between a table's columns: comma, semicolon, tab, or any character; found if not given
    )
    encoding: str = "utf-8"  # how the file is encoded, such as utf-8, latin-1, windows-1252 or utf-16


def texts_of(options: FromFile, given: Sequence[str], what: str) -> list[str]:
    """The texts that are given as arguments, then those of the file; standard input if there are neither and it is no
    terminal.

    what: what the error asks for. ValueError if there are no texts at all.
    """
    return texts_and_table(options, given, what)[0]


def texts_and_table(
    options: FromFile, given: Sequence[str], what: str, second: str | None = None
) -> tuple[list[str], Table | None]:
    """What texts_of returns, and the table if the file is one. second: another of its columns, which has no text of
    these."""
    file = options.file
    if file is None and not given and not sys.stdin.isatty():
        file = Path("-")
    texts = [*given]
    table = None if file is None else table_of(options, file, second)
    if table is not None:
        texts += table.texts(options.text_column or table.text_column([second]))
    elif file is not None:
        texts += input_lines(file, options.encoding)
    if not texts:
        raise ValueError(f"give {what}, or a file of them: --file lines.txt, or - for standard input")
    return texts, table


def place_of(options: FromFile, given: Sequence[str], i: int, table: Table | None = None) -> str:
    """Where text i of texts_and_table is from, as errors name it."""
    if i < len(given):
        return f"text {i + 1}"
    i -= len(given)
    return table.where(i) if table is not None else f"{options.file or 'standard input'}, line {i + 1}"


def input_lines(file: Path, encoding: str) -> list[str]:
    """The lines of a file or of standard input, blank ones included."""
    return lines_of(read_file(file, encoding, "give a file with a text on each line"))


def table_of(options: FromFile, file: Path, *columns: str | None) -> Table | None:
    """The table that a file holds; None if it is plain lines.

    A file is a table if its name ends in .csv, .json or .jsonl, if it ends in .tsv and its first line is a header, or if an
    option names a column or what is between columns.
    """
    asked = [options.text_column, *columns]
    kind = table_kind(file)
    if kind == "tsv" and not any(asked):
        first = next(iter(input_lines(file, options.encoding)), "")
        kind = "tsv" if is_header(first.split("\t")) else ""
    if kind or any(asked) or options.delimiter:
        return read_table(file, asked, options.delimiter, options.encoding)
    return None


def one_line(text: str) -> str:
    """A text without the tabs and line ends that would look like another column or row."""
    return re.sub(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", text)
