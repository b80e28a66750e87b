"""nanoGPT's run for a laptop from beginning to end: tinyllm beside PyTorch, the wall time and the loss on held-out text.

    python benchmarks/shakespeare.py shakespeare.txt
    python benchmarks/shakespeare.py shakespeare.txt --bfloat16 --plot curves.png

Characters, the last tenth held out; 4 layers, 4 heads, 128 channels, T=64, batch 12, 2,000 steps, learning rate 1e-3 to
1e-4. One after the other, each in a process of its own. tinyllm runs as `tinyllm train gpt --preset nano` does: with
evaluations, samples, a log and checkpoints. The PyTorch side trains as nanoGPT does, from random places of the text, with
the same evaluations, and writes nothing. With --same it begins with tinyllm's initial weights and sees tinyllm's batches:
then the losses differ by rounding alone, which 2,000 steps make visible.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import harness
import numpy as np
from harness import Contender, Turn, console, duration
from training_step import MODES
from works import NANO

T, BATCH, HELD_OUT = 64, 12, 0.1
EVAL_EVERY, EVAL_BATCHES = 250, 20
OPTIMIZER: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.1, "clip": 1.0}
LR: dict[str, Any] = {"lr": 1e-3, "min_lr": 1e-4, "warmup": 100}
NAMES = {"float32": "tinyllm", "bfloat16": "tinyllm bfloat16"}


# The contenders --------------------------------------------------------------------------------------------------------


def tinyllm_run(text: str, steps: int, seed: int, threads: int, dtype: str = "float32") -> Iterator[dict[str, Any]]:
    """A run of training as `tinyllm train` makes it; then the loss on all held-out text."""
    import tinyllm
    from tinyllm.tasks import TextTask
    from tinyllm.training.config import TrainConfig
    from tinyllm.training.run import Run

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        began = time.perf_counter()
        model, tokenizer = tinyllm.train(
            "gpt", preset="nano", data=[text], val_fraction=HELD_OUT, out=out, steps=steps, seed=seed, batch_size=BATCH,
            eval_every=EVAL_EVERY, eval_batches=EVAL_BATCHES, schedule="cosine", dtype=dtype,
            **LR, **OPTIMIZER,
        )  # fmt: skip
        assert tokenizer is not None
        seconds = time.perf_counter() - began
        log = [{name: value for name, value in line.items() if name != "sample"} for line in Run(out).metrics]
    held_out = TextTask(data=[text], val_fraction=HELD_OUT).open(model, tokenizer, TrainConfig()).held_out()
    with model.without_keeping():
        loss = mean_loss(model.loss, held_out)
    yield {"seconds": [seconds], "held_out_loss": loss, "log": log}


def torch_run(
    text: str, steps: int, seed: int, mode: str, rates: list[float], same: bool, threads: int
) -> Iterator[dict[str, Any]]:
    """The same in PyTorch. rates: the learning rate of each step; same: tinyllm's initial weights and batches."""
    import torch
    from torch_models import GPT, Step

    import tinyllm
    from tinyllm.tasks import TextTask
    from tinyllm.training.config import TrainConfig

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    began = time.perf_counter()
    task = TextTask(data=[text], val_fraction=HELD_OUT)
    tokenizer = task.make_tokenizer()
    tokens = torch.tensor(tokenizer.encode(Path(text).read_text(encoding="utf-8")))
    cut = int(len(tokens) * (1 - HELD_OUT))
    learned, held_out = tokens[:cut], tokens[cut:]
    config: dict[str, Any] = {**NANO, "vocab_size": tokenizer.vocab_size, "bias": False}
    model = GPT.of(config).initialize()
    if same:
        beginning = tinyllm.GPT(tinyllm.GPTConfig(**config), seed=seed)
        model.take({name: torch.tensor(array) for name, array in beginning.arrays().items()})
        batches = task.open(beginning, tokenizer, TrainConfig(batch_size=BATCH, seed=seed)).batches
    step = Step(model, mode, LR["lr"], **OPTIMIZER)
    log: list[dict[str, Any]] = []

    def draw(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch from random places, as nanoGPT draws it."""
        places = torch.randint(len(part) - T, (BATCH, 1)) + torch.arange(T)
        return part[places], part[places + 1]

    def note(**record: float) -> None:
        log.append({**record, "seconds": round(time.perf_counter() - began, 3)})

    @torch.no_grad()
    def loss_of(x: torch.Tensor, y: torch.Tensor) -> float:
        return step.loss(x, y).item()

    for i in range(steps + 1):
        if i % EVAL_EVERY == 0 or i == steps:
            note(step=i, val_loss=sum(loss_of(*draw(held_out)) for _ in range(EVAL_BATCHES)) / EVAL_BATCHES)
        if i < steps:
            batch = tuple(torch.from_numpy(array) for array in next(batches)) if same else draw(learned)
            note(step=i + 1, loss=step(batch, rates[i]))
    seconds = time.perf_counter() - began

    from tinyllm.data import full_pass  # the batches that tinyllm's model is measured on

    all_held_out = full_pass(held_out.numpy(), BATCH, T)
    step.bf16, step.forward = False, model
    loss = mean_loss(lambda x, y: loss_of(torch.from_numpy(x), torch.from_numpy(y)), all_held_out)
    yield {"seconds": [seconds], "held_out_loss": loss, "log": log}


def mean_loss(loss: Any, batches: Iterable[tuple[np.ndarray, ...]]) -> float:
    """The mean over all targets of the batches, in each of which loss(tokens, targets) is the mean of those not -100."""
    total, count = 0.0, 0
    for tokens, targets in batches:
        n = int((targets != -100).sum())
        total, count = total + n * loss(tokens, targets), count + n
    return total / count


# The comparison --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    """What is trained, and who trains it."""

    text: Path
    steps: int = 2000
    dtypes: Sequence[str] = ("float32",)  # of tinyllm
    modes: Sequence[str] = ("eager",)  # of PyTorch
    same: bool = False  # PyTorch has tinyllm's initial weights and batches

    def contenders(self, seed: int) -> list[Contender]:
        from tinyllm.optim import learning_rate

        options = {"text": str(self.text), "steps": self.steps, "seed": seed}
        rates = [learning_rate(step, self.steps, **LR) for step in range(self.steps)]
        peers = {**options, "rates": rates, "same": self.same}
        return [
            *(Contender(NAMES[dtype], "shakespeare:tinyllm_run", {**options, "dtype": dtype}) for dtype in self.dtypes),
            *(Contender(f"PyTorch {mode}", "shakespeare:torch_run", {**peers, "mode": mode}) for mode in self.modes),
        ]


def measure(race: Race, threads: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """contender -> its runs, one for each round, each in a fresh process."""
    for dtype in race.dtypes:  # compiles the kernels that are in no cache yet
        harness.once("shakespeare:tinyllm_run", threads, text=str(race.text), steps=1, seed=0, dtype=dtype)
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        for contender in race.contenders(seed=number):
            console.print(f"[dim]round {number + 1}: {contender.name} makes {race.steps:,} steps[/dim]")
            began = time.perf_counter()
            with harness.Worker(contender, threads) as worker:
                turn = worker.next()
            runs.setdefault(contender.name, []).append(record(turn, time.perf_counter() - began))
    return runs


def record(turn: Turn, process: float) -> dict[str, Any]:
    """process: seconds with Python's start and all imports."""
    return {
        "training_seconds": turn.seconds, "process_seconds": process, "foreign_load": turn.foreign,
        "peak_memory": turn.memory, "held_out_loss": turn.answer["held_out_loss"], "log": turn.answer["log"],
    }  # fmt: skip


def of(runs: list[dict[str, Any]], name: str) -> float:
    return median(run[name] for run in runs)


def agree(runs: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether all have learned something."""
    return all(math.isfinite(run["held_out_loss"]) for theirs in runs.values() for run in theirs)


def disturbed(runs: dict[str, list[dict[str, Any]]], max_foreign: float) -> bool:
    return any((run["foreign_load"] or 0) > max_foreign for theirs in runs.values() for run in theirs)


def to_json(race: Race, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"work": "shakespeare", "steps": race.steps, "agree": agree(runs), "contenders": runs}


def show(runs: dict[str, list[dict[str, Any]]], max_foreign: float) -> None:
    ours = runs["tinyllm"]
    headings = ["\ntraining", "times\ntinyllm", "with\nstart-up", "held-out\nloss", "peak\nmemory", "others'\nload"]
    table = harness.new_table(f"\n{len(ours)} rounds", headings)
    for name, theirs in runs.items():
        seconds, memory = of(theirs, "training_seconds"), theirs[-1]["peak_memory"]
        loads = [run["foreign_load"] for run in theirs]
        table.add_row(
            name, duration(seconds), f"{seconds / of(ours, 'training_seconds'):.2f}",
            duration(of(theirs, "process_seconds")), f"{of(theirs, 'held_out_loss'):.4f}",
            harness.megabytes(memory), harness.load(None if None in loads else max(loads)),
        )  # fmt: skip
    console.print(table)
    if disturbed(runs, max_foreign):
        console.print("[red]others used the processors meanwhile: these times are not to be quoted[/red]")


def plot(path: Path, runs: dict[str, list[dict[str, Any]]]) -> None:
    """The curves of the first round, by step and by time."""
    from matplotlib.figure import Figure

    from tinyllm.training.plots import smoothed

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, by in zip(panels, ("step", "seconds")):
        for i, (name, theirs) in enumerate(runs.items()):
            trained, evaluated = ([line for line in theirs[0]["log"] if key in line] for key in ("loss", "val_loss"))
            losses = smoothed([line["loss"] for line in trained])
            axes.plot([line[by] for line in trained], losses, color=f"C{i}", label=f"{name}, training, smoothed")
            held_out = [line["val_loss"] for line in evaluated]
            axes.plot([line[by] for line in evaluated], held_out, "o", color=f"C{i}", label=f"{name}, held-out text")
        axes.set(xlabel=by, xlim=(0, None))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("loss (nats per character)")
    panels[0].legend()
    figure.savefig(path, dpi=120)
    console.print(f"written: {path}")


def main() -> int:
    parser = harness.parser(__doc__, rounds=1)
    parser.add_argument(
        "text", type=Path, help="a text file, such as tiny Shakespeare: `tinyllm data fetch tinyshakespeare`"
    )
    parser.add_argument(
        "--against", nargs="*", choices=MODES, default=["eager"], metavar="MODE",
        help=f"modes of PyTorch, of {', '.join(MODES)} (default: eager)",
    )  # fmt: skip
    parser.add_argument("--bfloat16", action="store_true", help="tinyllm in bfloat16 as well")
    parser.add_argument("--steps", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--same", action="store_true", help="PyTorch has tinyllm's initial weights and batches")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves as a PNG (needs matplotlib)")
    args = parser.parse_args()
    if not args.text.is_file():
        parser.error(f"there is no file {args.text}")
    dtypes = list(NAMES) if args.bfloat16 else ["float32"]
    race = Race(args.text, args.steps, dtypes, args.against, args.same)
    about = harness.machine(args.threads)
    harness.show_machine(about)
    try:
        runs = measure(race, args.threads, args.rounds)
    except harness.WorkerError as error:
        sys.exit(str(error))
    show(runs, args.max_foreign)
    if args.json:
        harness.write_json(args.json, about, [to_json(race, runs)])
    if args.plot:
        plot(args.plot, runs)
    return 0 if agree(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
