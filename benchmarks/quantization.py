"""Weights of 16 (bfloat16), 8 and 4 bits beside float32: what they cost in perplexity, what they gain in speed and memory.

    python benchmarks/quantization.py llama
    python benchmarks/quantization.py llama --model stories260K --text stories.txt

Speed and memory: greedy decoding of one sequence by a model of random weights; a process each, taking turns. Perplexity:
of a trained model on a text, by default the shared data's stories260K on TinyStories.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Comparison, Contender, console
from rich.table import Table
from works import WORKS, Work, fresh_model

KINDS = {"float32": None, "16 bits": 16, "8 bits": 8, "4 bits": 4}
PROMPT = 16  # tokens
BEGUN = 20  # tokens at the beginning of a window that are not measured: they know nothing of what stands before
SHARED = Path(os.environ.get("TINYLLM_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def chosen(work: str, tiny: bool) -> Work:
    return WORKS[work].make_tiny() if tiny else WORKS[work]


# Speed and memory ------------------------------------------------------------------------------------------------------


def weights(work: str, tiny: bool, directory: str, threads: int) -> Iterator[dict[str, Any]]:
    """Writes the model in each kind; gives the bytes of each."""
    import tinyllm
    from tinyllm.checkpoints.quantization import quantize

    sizes = {}
    for kind, bits in KINDS.items():
        model = fresh_model(chosen(work, tiny))
        if bits is not None:
            quantize(model, bits)
        tinyllm.save(f"{directory}/{kind}", model)
        sizes[kind] = sum(array.nbytes for array in model.arrays().values())
    yield {"bytes": sizes}


def decoding(work: str, tiny: bool, directory: str, new: int, threads: int) -> Iterator[dict[str, Any]]:
    """The seconds a token, the prompt's included."""
    import tinyllm

    model, _ = tinyllm.load(directory)
    tokens = np.random.default_rng(0).integers(2, chosen(work, tiny).config["vocab_size"], (1, PROMPT))

    def generate() -> Any:
        return tinyllm.generate(model, tokens, max_new_tokens=new, eos_id=())

    yield {"result": generate()[0, -new:].tolist()}
    while True:
        began = time.perf_counter()
        generate()
        yield {"seconds": [(time.perf_counter() - began) / new]}


def compare(work: str, new: int, tiny: bool, threads: int, rounds: int, max_foreign: float) -> tuple[Comparison, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sizes = harness.once("quantization:weights", threads, work=work, tiny=tiny, directory=folder).answer["bytes"]
        contenders = [
            Contender(
                kind,
                "quantization:decoding",
                {"work": work, "tiny": tiny, "directory": f"{folder}/{kind}", "new": new},
                None,
            )
            for kind in KINDS
        ]
        title = f"{chosen(work, tiny).about.partition(',')[0]}, greedy, {PROMPT} tokens continued by {new}, time a token"
        return harness.compare(title, contenders, threads, rounds, max_foreign), sizes


# Perplexity ------------------------------------------------------------------------------------------------------------


def perplexities(path: Path, text: Path) -> dict[str, float]:
    """exp of the mean loss in windows of the model's longest sequence, by kind."""
    import tinyllm
    from tinyllm.checkpoints.quantization import quantize
    from tinyllm.data import IGNORED
    from tinyllm.models import LanguageModel

    model, tokenizer = tinyllm.load(path)
    assert isinstance(model, LanguageModel) and tokenizer is not None
    tokens = np.array(tokenizer.encode(text.read_text(encoding="utf-8")[:400_000]))
    length = model.max_length
    windows = tokens[: (len(tokens) - 1) // length * length + 1]
    inputs, targets = windows[:-1].reshape(-1, length), windows[1:].reshape(-1, length).copy()
    targets[:, :BEGUN] = IGNORED
    found = {}
    for kind, bits in KINDS.items():
        measured = copy.deepcopy(model)
        if bits is not None:
            quantize(measured, bits)
        losses = [measured.loss(inputs[i : i + 8], targets[i : i + 8]) for i in range(0, len(inputs) // 8 * 8, 8)]
        found[kind] = math.exp(np.mean(losses))
    return found


def show_perplexities(path: Path, text: Path) -> None:
    table = Table(title=f"{path.name} on {text.name}")
    for column in ("weights", "perplexity", "against float32"):
        table.add_column(column, justify="left" if column == "weights" else "right")
    found = perplexities(path, text)
    for kind, perplexity in found.items():
        table.add_row(kind, f"{perplexity:.3f}", f"{perplexity / found['float32'] - 1:+.2%}")
    console.print(table)


def main() -> int:
    parser = harness.parser(__doc__, rounds=7)
    parser.add_argument(
        "work", nargs="?", default="llama", choices=["gpt2", "llama", "opt"], help="the model whose speed is measured"
    )
    parser.add_argument("--new", type=int, default=64, help="tokens to generate (default: %(default)s)")
    parser.add_argument(
        "--model", type=Path, default=SHARED / "models" / "stories260K", help="the model whose perplexity is measured"
    )
    parser.add_argument("--text", type=Path, default=SHARED / "tinystories" / "tiny_stories.txt", help="and on what")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: to see that it works, not to measure")
    args: argparse.Namespace = parser.parse_args()
    about = harness.machine(args.threads)
    harness.show_machine(about)
    if args.model.exists() and args.text.exists():
        show_perplexities(args.model, args.text)
    try:
        result, sizes = compare(args.work, args.new, args.tiny, args.threads, args.rounds, args.max_foreign)
    except harness.WorkerError as error:
        sys.exit(str(error))
    extra = {"MB of\nweights": {kind: f"{size / 1e6:,.1f}" for kind, size in sizes.items()}}
    if result.rounds:
        extra["tokens\na second"] = {c.name: f"{1 / result.seconds(c.name):.1f}" for c in result.present}
    harness.show(result, extra)
    if args.json:
        harness.write_json(args.json, about, [{**result.to_json(), "bytes": sizes}])
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
