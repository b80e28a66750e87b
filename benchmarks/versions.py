"""Two versions of tinyllm, step by step: whether a change costs or gains time.

    python benchmarks/versions.py nano gpt2 --other ../before/.venv/bin/python --pairs 20
    python benchmarks/versions.py nano baby --plain --dtype bfloat16

Each version runs in a process of its own, and the two take turns, a step or a few at a time: what else the machine does hits
both alike. --other: the Python of an environment with the other version. --plain: this version with the blocks as they are
read (layers/block.py) against the fused ones (layers/fused.py). A ratio above 1 says that this version is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from works import WORKS, batches, fresh_model

DECODING = "decoding"  # tokens of GPT-2, one sequence
TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="+", help=f"Works to compare, of {', '.join(WORKS)} and {DECODING}.")
    parser.add_argument("--other", default=sys.executable, help="Python of the other version's environment.")
    parser.add_argument("--plain", action="store_true", help="Compare this version's fused blocks with its plain ones.")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="Precision of the products.")
    parser.add_argument("--pairs", type=int, default=10, help="Number of turns that each version gets.")
    parser.add_argument("--tiny", action="store_true", help="Shrink every work, to try this script.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [work for work in options.works if work not in (*WORKS, DECODING)]:
        parser.error(f"there is no work {unknown[0]!r}; pass one of {', '.join(WORKS)} or {DECODING}")
    if options.worker:
        return serve(options.works[0], options)
    print(f"{'work':10} {'dtype':9} {'other ms':>10} {'this ms':>10}   other / this: median, quartiles")
    for work in options.works:
        print(compared(work, options), flush=True)


def compared(work: str, options: argparse.Namespace) -> str:
    """One row of the table."""
    other, this = started(options.other, work, options, plain=options.plain), started(sys.executable, work, options)
    times: tuple[list[float], list[float]] = [], []
    for turn in range(options.pairs):
        for process, taken in ((other, times[0]), (this, times[1]))[:: 1 if turn % 2 else -1]:
            taken.append(asked(process))
    for process in (other, this):
        process.communicate("")
    ratios = [a / b for a, b in zip(*times)]
    low, _, high = statistics.quantiles(ratios) if len(ratios) > 1 else (ratios[0],) * 3
    medians = " ".join(f"{statistics.median(t):10.2f}" for t in times)
    return f"{work:10} {options.dtype:9} {medians}   {statistics.median(ratios):.3f}, {low:.3f} to {high:.3f}"


def started(python: str, work: str, options: argparse.Namespace, plain: bool = False) -> subprocess.Popen[str]:
    """A worker that is ready."""
    command = [python, __file__, work, "--worker", "--dtype", options.dtype]
    command += ["--plain"] * plain + ["--tiny"] * options.tiny
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"{python} cannot run {work!r}: see the error above")
    return process


def asked(process: subprocess.Popen[str]) -> float:
    """The milliseconds of the worker's next turn."""
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


# The worker -------------------------------------------------------------------------------------------------------------


def serve(work: str, options: argparse.Namespace) -> None:
    """Runs a turn for each line that comes in, and prints the milliseconds of a step."""
    if options.plain:
        import tinyllm.layers.fused as fused

        fused.FUSED = {kind: kind for kind in fused.FUSED}
    step, steps = decoding(options) if work == DECODING else training(work, options)
    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        print((time.perf_counter() - began) / steps * 1e3, flush=True)


def training(name: str, options: argparse.Namespace) -> tuple[Callable[[], Any], int]:
    """A training step, and how many make a turn."""
    import tinyllm

    work = WORKS[name].make_tiny() if options.tiny else WORKS[name]
    model, (batch,) = fresh_model(work), batches(work, 1)
    optimizer = tinyllm.Adam(model, lr=work.lr, betas=work.betas, weight_decay=work.weight_decay)
    model.train()

    def step() -> None:
        model.zero_grad()
        with precision(options.dtype):
            model.loss(*batch)
            model.backward()
        tinyllm.clip_grad_norm(model, work.clip)
        optimizer.step()

    return step, work.steps


def decoding(options: argparse.Namespace) -> tuple[Callable[[], Any], int]:
    """TOKENS tokens of GPT-2 after a prompt."""
    import tinyllm

    work = WORKS["gpt2"].make_tiny() if options.tiny else WORKS["gpt2"]
    model, ((tokens, _),) = fresh_model(work), batches(work, 1)

    def step() -> None:
        with precision(options.dtype):
            tinyllm.generate(model, tokens[:1, :16], max_new_tokens=TOKENS)

    return step, 1


def precision(dtype: str) -> Any:
    """autocast, or what an older version had in its place."""
    import tinyllm

    return tinyllm.autocast(dtype) if hasattr(tinyllm, "autocast") else tinyllm.kernels.precision(dtype)


if __name__ == "__main__":
    main()
