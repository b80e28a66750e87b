"""Text that every Python carries: the source of its standard library, and what its documentation strings say."""

import ast
import hashlib
import pkgutil
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder

from .files import DataError
from .prose import paragraphs
from .text import Texts

PASSED_OVER = {"test", "tests", "idle_test", "encodings", "lib2to3", "__phello__"}  # tests, and tables of character sets
TOPICS = "pydoc_data.topics"  # the language reference that help() shows: a dictionary of chapters


def stdlib_source(kind: str = "code", size: int = 2_000_000) -> Texts:
    """Return about `size` characters of the standard library, one document for each module: its "code", or its "docs".

    The docs are the paragraphs of English prose (`prose.paragraphs`) in the documentation strings and in the language
    reference, each once. The order is fixed and mixes the library's subjects, so that any part of it is a sample of the
    whole. Only Python's version and what its packager left out change it. No module is imported. Python 3.11 has 9.6
    million characters of code and 1.1 million of docs.
    Raises DataError where this Python carries no source.
    """
    if kind not in ("code", "docs"):
        raise DataError(f'the standard library gives "code" or "docs", not {kind!r}')
    if size < 1:
        raise DataError(f"size must be at least one character, not {size}")
    texts, total = [], 0
    for document in _documents(kind):
        texts.append(document[: size - total])
        total += len(texts[-1])
        if total >= size:
            break
    if not texts:
        raise DataError("this Python carries no source of its standard library: give a text file of your own instead")
    return Texts(f"Python {sys.version_info[0]}.{sys.version_info[1]} standard library, {kind}", texts)


def stdlib_text(kind: str = "code", size: int = 2_000_000) -> str:
    """The documents of `stdlib_source` as one string."""
    return stdlib_source(kind, size).read()


def stdlib_functions() -> Iterator[ast.AsyncFunctionDef | ast.FunctionDef]:
    """All functions and methods of the standard library but those whose names begin with two underscores: their syntax
    trees, ordered by module."""
    where = [sysconfig.get_path("stdlib"), *(path for path in sys.path if path.endswith(".zip"))]
    for spec in _specs(sorted(sys.stdlib_module_names), where):
        for node in _definitions(_parse(_source(spec))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
                yield node


def first_sentence(text: str, shortest: int, longest: int) -> str:
    """Return the first line of a documentation string if it is a sentence of shortest to longest characters, else ""."""
    line = text.strip().partition("\n")[0].strip()
    return line if line.endswith(".") and shortest <= len(line) <= longest else ""


def _documents(kind: str) -> Iterator[str]:
    """The documents by the hash of their names: an order that anybody gets again, and that follows no subject."""
    where = [sysconfig.get_path("stdlib"), *(path for path in sys.path if path.endswith(".zip"))]
    specs = {spec.name: spec for spec in _specs(sorted(sys.stdlib_module_names), where)}
    topics = specs.pop(TOPICS, None)
    if kind == "code":
        yield from filter(None, (_source(specs[name]) for name in sorted(specs, key=_shuffled)))
        return
    chapters = _chapters(_source(topics)) if topics else {}
    seen: set[str] = set()  # many classes inherit a documentation string
    for name in sorted([*specs, *chapters], key=_shuffled):
        text = chapters[name] if name in chapters else _documentation(_source(specs[name]))
        new = [paragraph for paragraph in paragraphs(text) if paragraph not in seen]
        seen.update(new)
        if new:
            yield "\n\n".join(new)


def _shuffled(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _specs(names: list[str], where: list[str], package: str = "") -> Iterator[ModuleSpec]:
    """The modules of these names and, for packages, all below; found on the disk or in a zip, none imported."""
    for name in names:
        spec = PathFinder.find_spec(package + name, where) if name not in PASSED_OVER else None
        if spec is None:
            continue  # built in, left out by the packager, or made for another platform
        yield spec
        if folders := list(spec.submodule_search_locations or ()):
            yield from _specs(sorted(info.name for info in pkgutil.iter_modules(folders)), folders, spec.name + ".")


def _source(spec: ModuleSpec) -> str:
    get_source = getattr(spec.loader, "get_source", None)
    try:
        return get_source(spec.name) or "" if get_source else ""
    except (ImportError, OSError):
        return ""  # only compiled files are there


def _chapters(source: str) -> dict[str, str]:
    """The chapters of the language reference by name."""
    found = (ast.literal_eval(node) for node in ast.walk(_parse(source)) if isinstance(node, ast.Dict))
    return {f"{TOPICS}.{name}": text for chapters in found for name, text in chapters.items()}


def _documentation(source: str) -> str:
    """All documentation strings of a module, with an empty line between two."""
    found = (ast.get_docstring(node) for node in _definitions(_parse(source)))
    return "\n\n".join(filter(None, found))


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old escape sequence in somebody's string
        return ast.parse(source)


def _definitions(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """What can have a documentation string, from the top of the file to its end."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _definitions(child)
