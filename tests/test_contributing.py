"""CONTRIBUTING.md names files that exist. The files of its examples are made by those who follow it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MADE = ("softcap", "bigram", "lowercase")  # by the recipes


def test_paths_exist():
    outside = re.sub(r"^ *```.*?^ *```$", "", TEXT, flags=re.S | re.M)
    named = re.findall(r"`((?:tinyllm|kernels|tests|blogs|tools|examples)/[\w./]+)`", outside)
    assert len(named) > 40
    for path in named:
        assert any(name in path for name in MADE) or (ROOT / path).exists(), path


def test_the_gate_is_the_one_of_the_repository():
    commands = re.search(r"```bash\n(ruff check.*?)```", TEXT, re.S)[1].splitlines()
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 4 and all(f"\n{command}" in gate for command in commands)
    extras = r'pip install (?:--quiet )?-e "\.\[(.*?)\]"'
    assert re.search(extras, TEXT)[1] == re.search(extras, gate)[1]
