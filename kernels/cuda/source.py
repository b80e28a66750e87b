"""CUDA sources with what they include written in: compilers, and caches of what these made, then need no other file."""

from __future__ import annotations

import re
from pathlib import Path

INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)


def with_includes(code: str, name: str, *folders: Path) -> str:
    """The code, called `name` in messages, with each file that it includes once, from the first folder that has it."""
    seen: set[str] = set()

    def of_file(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        path = next((folder / name for folder in folders if (folder / name).exists()), None)
        if path is None:
            raise FileNotFoundError(f"a kernel includes {name}, which is not in {', '.join(map(str, folders))}")
        return expanded(path.read_text(encoding="utf-8"), name)

    def expanded(text: str, name: str) -> str:
        text = text.replace("#pragma once\n", "\n")  # a compiler warns of it outside of a header

        def included(found: re.Match[str]) -> str:
            return f'{of_file(found[1])}\n#line {text.count(chr(10), 0, found.start()) + 2} "{name}"'

        return f'#line 1 "{name}"\n{INCLUDE.sub(included, text)}'

    return expanded(code, name)
