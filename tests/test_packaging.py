"""What is installed: both packages with their types, the sources of the CUDA kernels, and one version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinyllm

ROOT = Path(__file__).parent.parent
NEEDED = ("tinyllm", "kernels", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def without_numpy(*arguments: str, cwd: Path) -> str:
    """What setuptools prints for these arguments where NumPy cannot be imported, as when a wheel is built."""
    code = "import sys; sys.modules['numpy'] = None; import setuptools; setuptools.setup()"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code, "--quiet", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the sources, because setuptools writes beside them."""
    pytest.importorskip("setuptools", reason="builds the package: pip install setuptools")
    copy = tmp_path_factory.mktemp("sources")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def test_the_version_is_in_one_place(sources):
    assert without_numpy("--version", cwd=sources).split()[-1] == tinyllm.__version__
    written = [line for line in (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines() if tinyllm.__version__ in line]
    assert not [line for line in written if line.startswith("version")]


def test_the_distribution_is_not_called_as_another_project(sources):
    """`tinyllm` on the package index is somebody else's: only the import and the command have that name."""
    assert without_numpy("--name", cwd=sources).split()[-1] == "tinyllm-numpy"
    texts = [path for kind in ("py", "md", "cfg", "toml", "yaml") for path in ROOT.rglob(f"*.{kind}")]
    wrong = re.compile(r"""pip install [^\n`&|;]*["' ]tinyllm(?!-numpy)(?![\w/])""")
    found = [path for path in texts if wrong.search(path.read_text(encoding="utf-8", errors="replace"))]
    assert [path for path in found if path != Path(__file__)] == []


def test_what_is_installed(sources, tmp_path):
    without_numpy("build", "--build-lib", str(tmp_path), cwd=sources)
    installed = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"tinyllm/py.typed", "tinyllm/kernels/py.typed"} <= installed
    for folder, place in (("tinyllm", "tinyllm"), ("kernels", "tinyllm/kernels")):
        kinds = [path for kind in ("py", "cu", "cuh", "h") for path in (ROOT / folder).rglob(f"*.{kind}")]
        assert {f"{place}/{path.relative_to(ROOT / folder).as_posix()}" for path in kinds} <= installed


def test_the_changelog_has_the_version():
    """The version of the package is the newest one that CHANGELOG.md lists, below what is not released yet."""
    titles = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert titles[:2] == ["Unreleased", tinyllm.__version__]


def test_hooks_before_a_commit_are_checks_of_the_gate():
    """They use the tools of the environment, and nothing is fetched for them."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert re.findall(r"repo: (.*)", hooks) == ["local"] and "://" not in hooks
    entries = re.findall(r"entry: (.*)", hooks)
    assert len(entries) == 3 and hooks.count("language: system") == 3
    for entry in entries:
        assert entry in gate or f"{entry} ." in gate
