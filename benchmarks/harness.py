"""Contenders side by side, each in a process of its own, taking turns: A B C, A B C, ..., the idle ones asleep.

A contender is a generator, named "script:function". What it yields first are its facts, {"result": numbers, ...}: they are
checked to be the same for all. Each further item is a turn, {"seconds": [of each repetition], ...}.

    def contender(threads, **options):
        ...                                    # set up and warm up
        yield {"result": losses}
        while True:
            yield {"seconds": [...]}

Two libraries in one process fight for the processors, and one busy processor elsewhere ruins a timing. So each has its
process, with the same number of threads and an environment in which nothing tunes one of them; and what others had the
processors do during a turn is measured, and a round with too much of it is dropped and made again.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
TUNING = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "NUMBA_", "VECLIB_", "TINYLLM_KERNELS")  # cleared
PACKAGES = ("tinyllm", "numpy", "numba", "llvmlite", "torch", "transformers")
PAUSE = 0.3  # seconds before a turn: threads that wait for work by spinning have gone to sleep by then

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


@dataclass
class Contender:
    """One of those that are compared. tolerance: how far its result may be from the first one's, relatively; None: any."""

    name: str
    function: str  # "script:function", a generator function in this folder
    options: dict[str, Any] = field(default_factory=dict)  # its arguments, but `threads`
    tolerance: float | None = 1e-4


@dataclass
class Turn:
    """What a worker gave in one turn, and what that cost."""

    answer: dict[str, Any]
    wall: float  # seconds
    cpu: float  # seconds of its threads together
    foreign: float | None  # processors that others kept busy meanwhile; None where the system does not tell
    memory: int | None  # bytes: the most that the process has held so far

    @property
    def seconds(self) -> float:
        return median(self.answer["seconds"])


class WorkerError(RuntimeError):
    """A contender that could not run, and why."""


# The worker's side -----------------------------------------------------------------------------------------------------


def work() -> None:
    """Runs the contender that the first line asks for: an answer for each line that comes in then, as a line of JSON."""
    for name in filter(is_tuning, list(os.environ)):  # what a sitecustomize.py may have set since
        if name not in THREADS:
            del os.environ[name]
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def tell(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        function, options = json.loads(sys.stdin.readline())
        module, _, name = function.partition(":")
        turns = getattr(importlib.import_module(module), name)(**options)
        while sys.stdin.readline():
            began = time.process_time()
            answer = next(turns)
            tell(answer=answer, cpu=time.process_time() - began, memory=peak_memory())
    except Exception as error:
        traceback.print_exc()
        tell(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def peak_memory() -> int | None:
    """The most bytes of memory that this process has held; None on Windows, where Python cannot tell."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# The side that asks ----------------------------------------------------------------------------------------------------


class Worker:
    """A contender's process; `next` wakes it for a turn, between turns it sleeps."""

    def __init__(self, contender: Contender, threads: int):
        self.name = contender.name
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, HERE / "harness.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, encoding="utf-8", env=environment(threads),
        )  # fmt: skip
        self._write([contender.function, {**contender.options, "threads": threads}])

    def next(self) -> Turn:
        """One turn. WorkerError where the contender could not."""
        assert self.process.stdout
        time.sleep(PAUSE)
        busy, began = busy_seconds(), time.perf_counter()
        self._write("go")
        line = self.process.stdout.readline()
        wall, busy_after = time.perf_counter() - began, busy_seconds()
        message: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in message:
            raise WorkerError(f"{self.name}: {message['error']}")
        foreign = None
        if busy is not None and busy_after is not None:
            foreign = max(0.0, (busy_after - busy - message["cpu"]) / wall)
        return Turn(message["answer"], wall, message["cpu"], foreign, message["memory"])

    def _write(self, message: Any) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it is gone; what it said last will be read

    def _last_words(self) -> str:
        """Why a process ended without an answer, as far as one can know."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"its process ended with code {code} (-9: perhaps memory was short). " + " ".join(lines[-1:])

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe and pipe.close()
            except OSError:
                pass  # it is gone
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def once(function: str, threads: int, **options: Any) -> Turn:
    """What a contender yields first, in a process of its own: for what must be made before, such as weights."""
    with Worker(Contender(function, function, options), threads) as worker:
        return worker.next()


def environment(threads: int) -> dict[str, str]:
    """The environment of all workers: as many threads for each library, and nothing that tunes one of them."""
    kept = {name: value for name, value in os.environ.items() if not is_tuning(name)}
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUTF8": "1"}
    return {**kept, **quiet, **dict.fromkeys(THREADS, str(threads))}


def is_tuning(name: str) -> bool:
    return name.startswith(TUNING) and name != "NUMBA_CACHE_DIR"


def busy_seconds() -> float | None:
    """Seconds that the processors have worked since the machine started, all together, or were taken from it by its host;
    None where the system does not tell."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, stolen = map(int, first[1:9])
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


# Comparing -------------------------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """The rounds of several contenders at one work. `first` is the one that the others are held to, in result and time."""

    work: str
    contenders: list[Contender]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: list[dict[str, Turn]] = field(default_factory=list)  # those that count
    dropped: list[dict[str, Turn]] = field(default_factory=list)  # because the machine was busy
    failed: dict[str, str] = field(default_factory=dict)
    disturbed: bool = False  # the machine was never quiet for long enough

    @property
    def present(self) -> list[Contender]:
        return [c for c in self.contenders if c.name not in self.failed]

    @property
    def first(self) -> str:
        return self.contenders[0].name

    def seconds(self, name: str) -> float:
        return median(turns[name].seconds for turns in self.rounds)

    def ratios(self, name: str) -> list[float]:
        """In each round, how many times as long as the first contender this one took."""
        return [turns[name].seconds / turns[self.first].seconds for turns in self.rounds]

    def memory(self, name: str) -> int | None:
        return self.rounds[-1][name].memory

    def foreign(self, name: str) -> float | None:
        """The most that others had the processors do in a turn of this contender."""
        loads = [turns[name].foreign for turns in self.rounds]
        return None if None in loads else max(load for load in loads if load is not None)

    def difference(self, name: str) -> float:
        """How far this contender's result is from the first one's, relatively: the worst of its numbers."""
        return worst_difference(self.facts[name]["result"], self.facts[self.first]["result"])

    def disagreeing(self) -> list[str]:
        return [c.name for c in self.present if c.tolerance is not None and not self.difference(c.name) <= c.tolerance]

    @property
    def is_good(self) -> bool:
        """Whether the first contender ran, and all that must agree with it do."""
        return self.first not in self.failed and not self.disagreeing()

    def to_json(self) -> dict[str, Any]:
        entries = {}
        for c in self.present if self.first not in self.failed else []:
            ratios = self.ratios(c.name)
            entries[c.name] = {
                "seconds": self.seconds(c.name),
                "ratio_of_medians": self.seconds(c.name) / self.seconds(self.first),
                "ratio_of_pairs": median(ratios),
                "ratios": ratios,
                "peak_memory": self.memory(c.name),
                "foreign_load": self.foreign(c.name),
                "difference": finite(self.difference(c.name)),
                "tolerance": c.tolerance,
                "facts": self.facts[c.name],
            }
        rounds = [{name: asdict(turn) for name, turn in turns.items()} for turns in self.rounds]
        return {
            "work": self.work, "against": self.first, "agree": self.is_good, "disturbed": self.disturbed,
            "contenders": entries, "failed": self.failed, "dropped_rounds": len(self.dropped), "rounds": rounds,
        }  # fmt: skip


def finite(number: float) -> float | None:
    """The number, or None: JSON has no infinity."""
    return number if math.isfinite(number) else None


def worst_difference(result: Sequence[float], expected: Sequence[float]) -> float:
    """max |a - b| / |b|; infinity where they are not equally many, or a number is none."""
    if len(result) != len(expected):
        return math.inf
    errors = [0.0 if a == b else abs(a - b) / max(abs(b), 1e-300) for a, b in zip(result, expected)]
    return math.inf if any(map(math.isnan, errors)) else max(errors, default=0.0)


def compare(work: str, contenders: list[Contender], threads: int, rounds: int, max_foreign: float) -> Comparison:
    """Sets the contenders up, one after the other, then has them take turns until `rounds` undisturbed rounds are there."""
    result = Comparison(work, contenders)
    console.print(f"\n[bold]{work}[/bold]")
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for contender in contenders:
            console.print(f"[dim]setting up {contender.name}[/dim]")
            worker = stack.enter_context(Worker(contender, threads))
            try:
                result.facts[contender.name] = worker.next().answer
                workers[contender.name] = worker
            except WorkerError as error:
                result.failed[contender.name] = str(error)
                worker.close()
        if result.first not in result.failed:
            _take_turns(result, workers, rounds, max_foreign)
    if len(result.rounds) < min(rounds, 3) and result.dropped:  # busy all the time: better to show these than nothing
        result.rounds, result.dropped = result.rounds + result.dropped, []
        result.disturbed = True
    return result


def _take_turns(result: Comparison, workers: dict[str, Worker], rounds: int, max_foreign: float) -> None:
    """Rounds until `rounds` of them were undisturbed, twice as many at most."""
    for number in range(2 * rounds):
        if len(result.rounds) == rounds:
            return
        turns = {name: worker.next() for name, worker in workers.items()}
        foreign = max((turn.foreign or 0.0 for turn in turns.values()), default=0.0)
        (result.rounds if foreign <= max_foreign else result.dropped).append(turns)
        shown = ", ".join(f"{name} {duration(turn.seconds)}" for name, turn in turns.items())
        busy = "" if foreign <= max_foreign else f" [red](dropped: others kept {foreign:.2f} processors busy)[/red]"
        console.print(f"[dim]round {number + 1}: {shown}[/dim]{busy}")


# Showing ---------------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}" if seconds < 1000 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds * 1e9:.3g} ns"


def megabytes(memory: int | None) -> str:
    return "not known here" if memory is None else f"{memory / 2**20:,.0f} MiB"


def load(foreign: float | None) -> str:
    return "not known here" if foreign is None else f"{foreign:.2f}"


def new_table(corner: str, headings: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column(corner, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def show(result: Comparison, columns: dict[str, dict[str, str]] | None = None) -> None:
    """The table of a comparison. columns: further ones, heading -> contender -> text."""
    columns = columns or {}
    if result.rounds:
        ratio = f"times\n{result.first}"
        headings = ["\nmedian", *columns, ratio, "\nin pairs", "peak\nmemory", "others'\nload", "result\ndiffers"]
        table = new_table(f"\n{len(result.rounds)} rounds", headings)
        for c in result.present:
            own = [column.get(c.name, "") for column in columns.values()]
            table.add_row(c.name, duration(result.seconds(c.name)), *own, *_ratio_cells(result, c), *_other_cells(result, c))
        console.print(table)
    for reason in result.failed.values():
        console.print(f"[red]could not run:[/red] {escape(reason)}")
    for name in result.disagreeing() if result.first not in result.failed else []:
        console.print(f"[red]{name} computed something else: its time says nothing[/red]")
    if result.dropped:
        console.print(f"{len(result.dropped)} rounds were dropped, because others used the processors")
    if result.disturbed:
        console.print("[red]the machine was busy all the time: these times are not to be quoted[/red]")


def _ratio_cells(result: Comparison, c: Contender) -> tuple[str, str]:
    ratios = result.ratios(c.name)
    of_medians = result.seconds(c.name) / result.seconds(result.first)
    if c.name == result.first:
        return "1", ""
    return f"{of_medians:.2f}", f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _other_cells(result: Comparison, c: Contender) -> tuple[str, str, str]:
    difference = finite(result.difference(c.name))
    shown = "-" if c.name == result.first or difference is None else f"{difference:.0e}"
    shown += " (may)" if c.tolerance is None else ""
    return megabytes(result.memory(c.name)), load(result.foreign(c.name)), shown


# The machine and the command line --------------------------------------------------------------------------------------


def machine(threads: int) -> dict[str, Any]:
    """What the figures hang on beside the code."""
    from tinyllm.commands.info import processor_name
    from tinyllm.kernels.threads import physical_cores

    return {
        "processor": processor_name(),
        "physical_cores": physical_cores(),
        "logical_processors": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "cleared_from_environment": {name: value for name, value in os.environ.items() if is_tuning(name)},
        "load_average_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def show_machine(about: dict[str, Any]) -> None:
    threads, cores = about["threads"], about["physical_cores"]
    console.print(f"{about['processor']}, {cores} cores, {threads} threads for each; {about['system']}")
    console.print(", ".join(f"{name} {about[name] or 'not installed'}" for name in ("python", *PACKAGES)))
    if cleared := about["cleared_from_environment"]:
        console.print(f"cleared from the environment: {', '.join(cleared)}")
    if busy_seconds() is None:
        console.print("[red]what others have the processors do cannot be measured on this system: see to it yourself[/red]")
    if (about["load_average_before"] or 0) > 0.5:
        console.print(f"[red]the load average is {about['load_average_before']:.1f}: wait until the machine is quiet[/red]")


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The command line with what all scripts take."""
    from tinyllm.kernels.threads import physical_cores

    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=int, default=physical_cores(), help="of each contender (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=rounds, help="that count (default: %(default)s)")
    made.add_argument(
        "--max-foreign", type=float, default=0.1, metavar="LOAD",
        help="drop a round in which others kept more processors than this busy (default: %(default)s)",
    )  # fmt: skip
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    return made


def write_json(path: Path, about: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Everything that was measured, for programs."""
    from tinyllm.files import atomic_file

    with atomic_file(path) as file:
        file.write(json.dumps({"machine": about, "results": results}, indent=1, ensure_ascii=False).encode("utf-8"))
    console.print(f"written: {path}")


if __name__ == "__main__":
    work()
