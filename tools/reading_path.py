"""How far a reader has to go: the files and functions of ours that the forward pass of a loss runs through, and how deep.

python tools/reading_path.py            # GPT and T5 in the reference set
python tools/reading_path.py --list     # with the names of the functions, file by file
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import tinyllm
from tinyllm import kernels

OURS = tuple(f"{Path(module.__file__ or '').parent}/" for module in (tinyllm, kernels))
MODELS = {"GPT": tinyllm.GPT, "T5": tinyllm.T5, "BERT": tinyllm.BERT, "Llama": tinyllm.Llama, "OPT": tinyllm.OPT}


@dataclass
class ReadingPath:
    """What a trace function sees: the functions of each file, and the longest chain of calls."""

    functions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    deepest: list[str] = field(default_factory=list)

    def trace(self, frame: FrameType, event: str, _: Any) -> None:
        if is_ours(frame):
            self.functions[frame.f_code.co_filename].add(frame.f_code.co_qualname)
            self.deepest = max(self.deepest, chain(frame), key=len)

    def __str__(self) -> str:
        functions = sum(map(len, self.functions.values()))
        return f"{len(self.functions)} files, {functions} functions, {len(self.deepest)} calls deep"


def is_ours(frame: FrameType) -> bool:
    """Whether a frame belongs to a function of ours. A comprehension counts as a part of the function around it."""
    return frame.f_code.co_filename.startswith(OURS) and not frame.f_code.co_name.startswith("<")


def chain(frame: FrameType | None) -> list[str]:
    """Our functions that are running, from the outermost to the innermost."""
    names = []
    while frame is not None:
        if is_ours(frame):
            names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names[::-1]


def reading_path(name: str) -> ReadingPath:
    """Follows one loss of a tiny model in the reference set."""
    path = ReadingPath()
    with kernels.use("reference"):
        model = MODELS[name].tiny()
        batch, options = model.example(np.random.default_rng(0)), model.example_options(np.random.default_rng(0))
        model.loss(*batch, **options)  # what is made on first use is not part of the path
        sys.settrace(path.trace)
        try:
            model.loss(*batch, **options)
        finally:
            sys.settrace(None)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["GPT", "T5"], help=f"Models to follow, of {', '.join(MODELS)}.")
    parser.add_argument("--list", action="store_true", help="Print the functions of each file and the deepest calls.")
    options = parser.parse_args()
    for name in options.models:
        path = reading_path(name)
        print(f"{name}: {path}")
        if options.list:
            for file, functions in sorted(path.functions.items()):
                print(f"  {Path(file).parent.name}/{Path(file).name}: {', '.join(sorted(functions))}")
            print("  deepest:", " > ".join(path.deepest))


if __name__ == "__main__":
    main()
