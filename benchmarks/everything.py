"""All of the benchmarks for a CPU in one go: one table, one JSON file, one picture. An hour on a quiet machine.

    python benchmarks/everything.py --json results.json --plot results.png --text shakespeare.txt
    python benchmarks/everything.py --dtypes float32 bfloat16 --works nano baby --against eager --rounds 3

With --text also nanoGPT's training run on it from beginning to end (shakespeare.py), and the tokenizers (tokenization.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import decoding
import harness
import matmul
import shakespeare
import tokenization
import training_step
from harness import Comparison, console, duration
from works import WORKS

PRODUCTS = [(3072, 384, 1536), (768, 128, 512)]
DECODED = "gpt2"
VOCABULARY = 8192  # tokens learned from the text


def comparisons(args: argparse.Namespace) -> Iterator[tuple[Comparison, str]]:
    """Each comparison, and what of it is the bound: the name of a contender that does the same work at the limit."""
    common = args.threads, args.rounds, args.max_foreign
    for dtype in args.dtypes:
        for sizes in PRODUCTS:
            yield matmul.compare(sizes, "y", dtype, *common), matmul.CEILING
        for work in args.works:
            yield training_step.compare(work, args.against, dtype, args.tiny, *common), matmul.CEILING
    yield decoding.compare(DECODED, 8 if args.tiny else 128, args.tiny, *common), decoding.BOUND
    if args.text:
        size = 300 if args.tiny else VOCABULARY
        for result in tokenization.comparisons(str(args.text), size, 1, args.rounds, args.max_foreign):
            yield result, ""


def row(result: Comparison, bound: str) -> dict[str, Any]:
    """A line of the table: times of each peer over ours, and how near we and the best of them come to the bound."""
    present = [c.name for c in result.present]
    peers = {name: result.seconds(name) for name in present if name != bound and not name.startswith("tinyllm")}
    ours, limit = result.seconds(result.first), result.seconds(bound) if bound in present else None
    fastest = min(peers.values(), default=None)
    return {
        "work": result.work,
        "seconds": ours,
        "times": {name: seconds / ours for name, seconds in peers.items()},
        "share": limit and limit / ours,
        "share_of_fastest_peer": limit and fastest and limit / fastest,
        "agree": result.is_good,
        "disturbed": result.disturbed,
    }


def row_of_run(runs: dict[str, list[dict[str, Any]]], max_foreign: float) -> dict[str, Any]:
    """The line of nanoGPT's run: bfloat16 is another contender here."""
    seconds = {name: shakespeare.of(theirs, "training_seconds") for name, theirs in runs.items()}
    return {
        "work": "nanoGPT's run",
        "seconds": seconds["tinyllm"],
        "times": {name: theirs / seconds["tinyllm"] for name, theirs in seconds.items() if name != "tinyllm"},
        "share": None,
        "share_of_fastest_peer": None,
        "agree": shakespeare.agree(runs),
        "disturbed": shakespeare.disturbed(runs, max_foreign),
    }


def show(rows: list[dict[str, Any]]) -> None:
    table = harness.new_table("work", ["tinyllm", "the others take, times as long", "of the bound\n(best other)", ""])
    for line in rows:
        times = ", ".join(f"{name} {ratio:.2f}" for name, ratio in line["times"].items())
        shares = [f"{share:.0%}" if share else "-" for share in (line["share"], line["share_of_fastest_peer"])]
        marks = [mark for mark, is_so in (("differs!", not line["agree"]), ("disturbed", line["disturbed"])) if is_so]
        table.add_row(line["work"][:48], duration(line["seconds"]), times, f"{shares[0]} ({shares[1]})", " ".join(marks))
    console.print(table)
    console.print("the bound: the processor's vector units in float32, or for decoding the reading of all weights")


def plot(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """A group of bars for each work, a bar for each peer: how many times as long as tinyllm it takes."""
    from matplotlib.figure import Figure

    peers = list(dict.fromkeys(name for line in rows for name in line["times"]))
    figure = Figure(figsize=(8, 1 + 0.2 * sum(len(line["times"]) + 1 for line in rows)), layout="constrained")
    axes = figure.subplots()
    ticks, labels, top, drawn = [], [], 0.0, set()
    for line in rows:
        for i, (name, ratio) in enumerate(line["times"].items()):
            label = None if name in drawn else name
            axes.barh(top + i, ratio, 0.9, color=f"C{peers.index(name)}", label=label)
            axes.text(ratio, top + i, f" {ratio:.2f}", va="center", fontsize=8)
            drawn.add(name)
        ticks.append(top + (len(line["times"]) - 1) / 2)
        labels.append(line["work"].split(":")[0].split(",")[0])
        top += len(line["times"]) + 1
    axes.set_yticks(ticks, labels)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel(f"time, tinyllm = 1 ({about['processor']}, {about['threads']} threads)")
    axes.legend()
    figure.savefig(path, dpi=120)
    console.print(f"written: {path}")


def main() -> int:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="steps of training (default: all)")
    parser.add_argument(
        "--against", nargs="+", choices=training_step.MODES, default=training_step.MODES, metavar="MODE",
        help=f"modes of PyTorch, of {', '.join(training_step.MODES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"],
        help="of tinyllm's products (default: float32; bfloat16 needs a processor that has it)",
    )  # fmt: skip
    parser.add_argument("--text", type=Path, metavar="FILE", help="a text, UTF-8, to learn and to encode")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios as a PNG (needs matplotlib)")
    parser.add_argument("--tiny", action="store_true", help="tiny models: to see that it works, not to measure")
    args = parser.parse_args()
    if args.text and not args.text.is_file():
        parser.error(f"there is no file {args.text}")
    about = harness.machine(args.threads)
    harness.show_machine(about)
    measured, rows = [], []
    try:
        for result, bound in comparisons(args):
            measured.append(result.to_json())
            harness.show(result)
            if result.rounds:
                rows.append(row(result, bound))
        if args.text:
            dtypes = list(dict.fromkeys(["float32", *args.dtypes]))
            race = shakespeare.Race(args.text, 6 if args.tiny else 2000, dtypes, args.against)
            runs = shakespeare.measure(race, args.threads, 1)
            shakespeare.show(runs, args.max_foreign)
            measured.append(shakespeare.to_json(race, runs))
            rows.append(row_of_run(runs, args.max_foreign))
    except harness.WorkerError as error:
        sys.exit(str(error))
    show(rows)
    if args.json:
        harness.write_json(args.json, about, measured)
    if args.plot:
        plot(args.plot, rows, about)
    return 0 if all(result["agree"] for result in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
