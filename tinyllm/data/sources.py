"""What a user may name as data: the standard library, a data set of the registry, a file or a folder."""

from collections.abc import Iterable
from pathlib import Path

from .download import fetch
from .files import DataError
from .names import nearest
from .reading import UTF8
from .registry import DATASETS, find_dataset
from .stdlib import stdlib_source
from .tables import read_table
from .text import Source, Texts, open_text

TEXTS_OF = "texts:"  # before the name of a table: each row's text is a document


def open_source(
    what: str | Path,
    suffixes: Iterable[str] | None = None,
    separator: str | None = None,
    quiet: bool = False,
    encoding: str = UTF8,
) -> Source:
    """The documents of "stdlib", "stdlib:code" or "stdlib:docs"; of a data set by name, fetched if need be; of a path; or of
    "texts:TABLE", the text column of a table (tables.py) with a document in each row.

    A name comes before a path of the same name: write ./stdlib for a folder called stdlib. `suffixes`, `separator` and
    `encoding` are open_text's. Raises DataError if `what` is none of these, or no plain text.
    """
    if isinstance(what, str):
        if what.startswith(TEXTS_OF):
            table = read_table(what.removeprefix(TEXTS_OF), encoding=encoding)
            return Texts(what, table.texts(table.text_column()))
        if what == "stdlib" or what.startswith("stdlib:"):
            return stdlib_source(what.removeprefix("stdlib").lstrip(":") or "code")
        if what in DATASETS:
            return _open_dataset(what, separator, quiet)
        if not Path(what).exists():
            names = ("stdlib", *DATASETS)
            meant = f": did you mean {close}?" if (close := nearest(what, names)) else ""
            raise DataError(f"{what} is neither a file or folder, nor one of the names {', '.join(names)}{meant}")
    return open_text(what, suffixes, separator, encoding)


def _open_dataset(name: str, separator: str | None, quiet: bool) -> Source:
    dataset = find_dataset(name)
    if dataset.text is None:
        raise DataError(f"{name} is no plain text but made for {dataset.purpose}: see tinyllm data path {name}")
    source = open_text(fetch(name, quiet) / dataset.text, separator=separator or dataset.separator)
    source.name = name
    return source
