"""The rooms of the package: imports run one way, and a name means one thing.

Every import counts: those inside functions and those for type checkers too.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {"tinyllm": ROOT / "tinyllm", "tinyllm.kernels": ROOT / "kernels"}
LOOSE = 8  # modules directly in tinyllm/, at most


def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


MODULES = modules()


def imported(name: str, tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the full name and the local name of each import in a part of a module's syntax tree."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}", alias.asname or alias.name) for alias in node.names)


def imports(name: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each module of ours that a module imports."""
    for line, target, _ in imported(name, ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if (module := target if target in MODULES else target.rpartition(".")[0]) in MODULES:
            yield line, module


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """A path in the graph that ends where it begins, or None."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for target in sorted(graph.get(name, ())):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, []))), None)


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circle({name: {target for _, target in imports(name)} - {name} for name in MODULES}) is None


def room(name: str) -> str:
    """The folder that a module is in, or the module itself if it is loose."""
    parts = name.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else name


def test_no_folder_imports_itself_in_a_circle() -> None:
    """tinyllm/__init__.py gathers the public names, so it is above everything; only __main__ and commands read from it."""
    graph: dict[str, set[str]] = {}
    for name in MODULES:
        targets = {room(target) for _, target in imports(name)} - {room(name), "tinyllm"}
        graph.setdefault(room(name), set()).update(targets)
    assert circle(graph) is None


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) is None


def test_imports_inside_the_package_are_relative() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [n for n in named if n.split(".")[0] == "tinyllm"], f"{name}, line {node.lineno}"  # type: ignore[attr-defined]


def test_few_modules_are_loose() -> None:
    loose = [p.name for p in (ROOT / "tinyllm").glob("*.py") if p.stem not in ("__init__", "__main__")]
    assert len(loose) <= LOOSE, loose


def test_no_function_hides_the_module_that_it_is_in() -> None:
    for name in MODULES:
        package, _, last = name.rpartition(".")
        if package:
            importlib.import_module(name) if ".cuda" not in name and not name.endswith("__main__") else None
            found = getattr(sys.modules.get(package), last, None)
            assert found is None or found is sys.modules.get(name), f"{package}.{last} is not the module {name}"


def hidden_modules(name: str, source: str) -> set[str]:
    """Return the names in a module's source that hide a module: one imported at the top or, in a package, one of its own."""
    tree = ast.parse(source)
    given = set()  # what the source defines, assigns or takes as a parameter
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            given.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            given.add(node.id)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
    at_the_top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    bound = {(local, target) for _, target, local in imported(name, at_the_top)}
    modules = {local for local, target in bound if target in MODULES}
    others = given | {local for local, target in bound if target != f"{name}.{local}"}
    return given & modules | {other for other in others if f"{name}.{other}" in MODULES}


def test_no_name_hides_a_module() -> None:
    """Whatever is imported first. The cuda set counts too."""
    for name, path in MODULES.items():
        assert not hidden_modules(name, path.read_text(encoding="utf-8")), name


def test_a_hidden_module_is_found() -> None:
    assert hidden_modules("tinyllm.data", "from .sentences import sentences") == {"sentences"}
    assert hidden_modules("tinyllm.data", "from ..files import atomic_file as text") == {"text"}
    assert hidden_modules("tinyllm.data", "from . import text, towns\nfrom .stdlib import stdlib_text") == set()
    assert hidden_modules("tinyllm.recipes", "from .checkpoints import lora\ndef f(lora): return lora") == {"lora"}
    assert hidden_modules("tinyllm.recipes", "from .checkpoints import lora\nmerged = lora.merge(1)") == set()


def test_every_package_is_installed() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            assert f"\n    {name}\n" in text, f"setup.cfg does not list {name}"


def test_the_reference_set_needs_neither_numba_nor_cuda() -> None:
    code = "import sys, tinyllm; print([m for m in sys.modules if m.split('.')[0] == 'numba' or 'kernels.cu' in m])"
    environment = {**__import__("os").environ, "TINYLLM_KERNELS": "reference"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
