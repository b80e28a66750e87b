"""Tables that Python holds: a pandas DataFrame, a list of dicts, a Hugging Face Dataset. None of these libraries is needed.

A table becomes a file of JSON lines, and so goes the way of every other file. With a run's directory it is kept there, so
that the run can be resumed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .files import DataError
from .sources import TEXTS_OF

OPTIONS = ("data", "val_data", "val", "test_data")  # the options of training that name data
GIVE = "give a pandas DataFrame, a list of dicts, a Hugging Face Dataset, or the name of a file"


@contextmanager
def stored(options: dict[str, Any], documents: bool) -> Iterator[tuple[dict[str, Any], Path]]:
    """Within the block: the options with the names of files in place of tables, and the folder of these files.

    documents: whether a table's texts are the documents of a plain text. An error about a line of such a file names the
    option and the row of the table.
    """
    with tempfile.TemporaryDirectory(prefix="tinyllm-") as name:
        folder, named = Path(name).resolve(), dict(options)
        for option in OPTIONS:
            if option == "data" and option in options and (options[option] is None or is_empty(options[option])):
                raise DataError(f"data is {options[option]}, and holds no rows: {GIVE}")
            if option in options:
                named[option] = file_names(options[option], folder / option, TEXTS_OF if documents else "")
        try:
            yield named, folder
        except ValueError as error:
            if str(folder) not in str(error):
                raise
            said = str(error)
            for path in folder.iterdir():
                said = said.replace(f"{path}, line ", f"{path.stem}, row ").replace(str(path), path.stem)
            raise type(error)(said) from None


def is_empty(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and not data


def file_names(data: Any, path: Path, before: str) -> Any:
    """The data as they are given, with the name of a file in place of each table."""
    if data is None or isinstance(data, (str, Path)):
        return data
    if isinstance(data, (list, tuple)) and not any(isinstance(item, Mapping) for item in data):
        several = [file_names(item, path.with_name(f"{path.name}-{i + 1}"), before) for i, item in enumerate(data)]
        return several
    target = path.with_name(f"{path.name}.jsonl")
    target.write_text("".join(json.dumps(row) + "\n" for row in rows_of(data, path.name)), encoding="utf-8")
    return f"{before}{target}"


def rows_of(data: Any, name: str) -> list[dict[str, Any]]:
    """The rows of a table as JSON can hold them. A missing value (None, NaN, pandas.NA) is left out."""
    if isinstance(data, Mapping):
        inside = f'one of its parts, such as {name}["{next(iter(data), "train")}"]'
        raise DataError(f"{name} is a {type(data).__name__}: give {inside}, or a list of dicts with a row each")
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a DataFrame
        columns = [str(column) for column in data.columns]
        if len(set(columns)) < len(columns):
            twice = next(column for column in columns if columns.count(column) > 1)
            raise DataError(f"{name} has the column {twice!r} twice: rename one of them")
        given: Any = data.to_dict("records")
    elif isinstance(data, (list, tuple)) or hasattr(data, "__iter__"):
        given = data
    else:
        raise DataError(f"{name} is a {type(data).__name__}: {GIVE}")
    rows = []
    for i, row in enumerate(given):
        if not isinstance(row, Mapping):
            raise DataError(f"{name}, row {i + 1}, is a {type(row).__name__}: {GIVE}")
        rows.append({str(column): plain(value, f"{name}, row {i + 1}, {column}") for column, value in row.items()})
    if not rows:
        raise DataError(f"{name} holds no rows")
    for column, names in label_names(data).items():
        for row in rows:
            row[column] = named(row.get(column), names)
    return [{column: value for column, value in row.items() if value is not None} for row in rows]


def plain(value: Any, where: str) -> Any:
    """A value as JSON can hold it, None if it is missing."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float):
        if np.isinf(value):
            raise DataError(f"{where} is {value}: it should be a text or a finite number")
        return None if np.isnan(value) else value
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{where}, {name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, where) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise DataError(f"{where} is a {type(value).__name__}: it should be a text, a number, or a list or dict of these")


def label_names(data: Any) -> dict[str, list[str]]:
    """The names of labels that a Hugging Face Dataset keeps beside their numbers, by column."""
    features = getattr(data, "features", None)
    found = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        inside = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
        if isinstance(names := getattr(inside, "names", None), list):
            found[column] = names
    return found


def named(value: Any, names: list[str]) -> Any:
    """A label's name for its number; -1, by which data sets mark a row without a label, is None."""
    if isinstance(value, list):
        return [named(item, names) for item in value]
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
