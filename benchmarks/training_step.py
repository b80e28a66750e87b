"""One training step (forward, backward, clipping, AdamW), tinyllm beside PyTorch: same weights, batches and settings.

python benchmarks/training_step.py nano baby gpt2
python benchmarks/training_step.py bert t5 llama opt --against eager compile
python benchmarks/training_step.py baby --dtype bfloat16 --against eager-bf16 compile-bf16
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
from harness import Comparison, Contender, console
from matmul import CEILING
from works import WORKS, Work, batches, fresh_model, step_flops, write_weights

MODES = ("eager", "compile", "eager-bf16", "compile-bf16")
CHECKED = 4  # losses of the first steps that must be equal; what is compiled is compiled in them
BATCHES = 8  # different ones
NOISE = 5e-3  # how far losses may lie apart where products are rounded to bfloat16


def chosen(work: str, tiny: bool) -> Work:
    return WORKS[work].make_tiny() if tiny else WORKS[work]


# The contenders --------------------------------------------------------------------------------------------------------


def weights(work: str, tiny: bool, directory: str, dtype: str, threads: int) -> Iterator[dict[str, Any]]:
    """Writes the weights that all begin with; gives the operations of a step.

    A few steps with them put the kernels into their cache: what a compiler needs of memory is not training's.
    """
    w = chosen(work, tiny)
    model = fresh_model(w)
    write_weights(directory, model, w.peer)
    next(tinyllm_steps(work, tiny, directory, dtype, threads))
    yield {"flops": step_flops(model, w.B * w.T, w.S or w.T), "parameters": model.n_parameters}


def tinyllm_steps(work: str, tiny: bool, directory: str, dtype: str, threads: int) -> Iterator[dict[str, Any]]:
    import tinyllm

    w = chosen(work, tiny)
    model, _ = tinyllm.load(directory)
    optimizer = tinyllm.Adam(model, w.lr, w.betas, weight_decay=w.weight_decay)
    model.train()

    def step(batch: tuple[Any, ...]) -> float:
        with tinyllm.kernels.autocast(dtype):
            loss = model.loss(*batch)
            model.backward()
        norm = tinyllm.kernels.global_norm(model.flat.grad)
        optimizer.step(tinyllm.optim.clip_factor(norm, w.clip))
        model.zero_grad()
        return loss

    return turns(step, batches(w, BATCHES), w.steps)


def torch_steps(work: str, tiny: bool, directory: str, mode: str, threads: int) -> Iterator[dict[str, Any]]:
    import torch
    from torch_models import GPT, Step, WithLoss

    torch.set_num_threads(threads)
    w = chosen(work, tiny)
    model = WithLoss.load(directory, w.peer, w.inputs) if w.peer else GPT.load(directory, w.config)
    step = Step(model, mode, w.lr, w.betas, w.weight_decay, w.clip)
    return turns(step, [tuple(map(torch.from_numpy, batch)) for batch in batches(w, BATCHES)], w.steps)


def turns(step: Callable[[Any], float], batches: list[Any], steps: int) -> Iterator[dict[str, Any]]:
    """The losses of the first steps, then the seconds of each step of a turn; what the batches cost is not in them."""
    supply = itertools.cycle(batches)
    yield {"result": [step(next(supply)) for _ in range(CHECKED)]}
    while True:
        seconds = []
        for batch in itertools.islice(supply, steps):
            began = time.perf_counter()
            step(batch)
            seconds.append(time.perf_counter() - began)
        yield {"seconds": seconds}


# The comparison --------------------------------------------------------------------------------------------------------


def compare(
    work: str, modes: list[str], dtype: str, tiny: bool, threads: int, rounds: int, max_foreign: float
) -> Comparison:
    """The comparison of one work; its facts hold what is known of tinyllm's model beside the losses."""
    about = chosen(work, tiny).about
    with tempfile.TemporaryDirectory() as folder:
        options = {"work": work, "tiny": tiny, "directory": f"{folder}/weights"}
        model = harness.once("training_step:weights", threads, **options, dtype=dtype).answer
        contenders = [Contender("tinyllm", "training_step:tinyllm_steps", {**options, "dtype": dtype})]
        if dtype != "float32":
            again = {**options, "dtype": "float32"}
            contenders.append(Contender("tinyllm float32", "training_step:tinyllm_steps", again, NOISE))
        for mode in modes:
            tolerance = NOISE if mode.endswith("-bf16") or dtype != "float32" else 1e-4
            contender = Contender(f"PyTorch {mode}", "training_step:torch_steps", {**options, "mode": mode}, tolerance)
            contenders.append(contender)
        if not tiny:  # a step's operations at the speed of the vector units
            ceiling = {"sizes": [model["flops"] // 2, 1, 1], "layout": "y", "dtype": dtype}
            contenders.append(Contender(CEILING, "matmul:ceiling", ceiling, tolerance=None))
        result = harness.compare(f"{work}: {about}, {dtype}", contenders, threads, rounds, max_foreign)
    for facts in result.facts.values():
        facts.update(model)
    return result


def show(result: Comparison) -> None:
    names = [c.name for c in result.present] if result.rounds else []
    flops = {name: result.facts[name]["flops"] / result.seconds(name) / 1e9 for name in names}
    columns = {"\nGFLOP/s": {name: f"{rate:.0f}" for name, rate in flops.items()}}
    if CEILING in flops:
        columns["of the\nceiling"] = {name: f"{rate / flops[CEILING]:.0%}" for name, rate in flops.items()}
    harness.show(result, columns)


def main() -> int:
    parser = harness.parser(__doc__, rounds=7)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(WORKS)} (default: nano baby gpt2)")
    parser.add_argument(
        "--against", nargs="+", choices=MODES, default=MODES, metavar="MODE",
        help=f"modes of PyTorch, of {', '.join(MODES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of tinyllm's products (default: %(default)s)"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny models: to see that it works, not to measure")
    args = parser.parse_args()
    works = args.works or ["nano", "baby", "gpt2"]
    if unknown := [work for work in works if work not in WORKS]:
        parser.error(f"there is no work {', '.join(unknown)}; there are {', '.join(WORKS)}")
    about = harness.machine(args.threads)
    harness.show_machine(about)
    results = []
    for work in works:
        try:
            turns = args.threads, args.rounds, args.max_foreign
            results.append(compare(work, args.against, args.dtype, args.tiny, *turns))
        except harness.WorkerError as error:
            sys.exit(str(error))
        show(results[-1])
    if args.json:
        harness.write_json(args.json, about, [result.to_json() for result in results])
    console.print("times, in pairs: how many times as long as tinyllm's step theirs takes; above 1, tinyllm is faster")
    console.print(
        f"ceiling: the step's operations done by the vector units in {args.dtype}, on numbers that stay in the cache"
    )
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
