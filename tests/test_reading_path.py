"""A reader who follows a loss from tokens to a number meets few files and few functions, and no deep chain of calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parent.parent / "tools" / "reading_path.py"
LIMITS = {"GPT": (14, 35, 8), "T5": (16, 40, 9)}  # files, functions, calls deep


def printed(*options: str) -> str:
    """What the tool prints, in a process that nothing else traces."""
    return subprocess.run([sys.executable, str(TOOL), *options], capture_output=True, text=True, check=True).stdout


def test_the_path_is_short() -> None:
    found = re.findall(r"^(\w+): (\d+) files, (\d+) functions, (\d+) calls deep$", printed(), re.M)
    assert [name for name, *_ in found] == list(LIMITS)
    for name, *numbers in found:
        assert all(int(n) <= limit for n, limit in zip(numbers, LIMITS[name], strict=True)), (name, numbers)


def test_the_functions_are_listed() -> None:
    out = printed("OPT", "--list")
    assert out.startswith("OPT: ") and "layers/block.py: " in out and "deepest: LanguageModel.loss > OPT.hidden" in out
