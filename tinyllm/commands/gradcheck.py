"""`tinyllm gradcheck`: every gradient of a model against finite differences, as a table."""

from __future__ import annotations

import sys

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from .. import kernels
from ..finite_differences import gradcheck
from ..models import MODELS
from .options import Choice

CLASSES = {name.lower(): name for name in MODELS}


@click.command()
@click.argument("model", metavar="MODEL", type=Choice(list(CLASSES), case_sensitive=False))
@click.option(
    "--kernels",
    "kernel_set",
    type=Choice(["reference", "cpu"]),
    default="reference",
    show_default=True,
    help="The set of kernels that computes.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Numbers of each parameter that are compared one by one.",
)
@click.option("--tolerance", default=1e-6, show_default=True, help="The relative error above which a gradient is wrong.")
@click.option("--dropout", is_flag=True, help="Check with dropout on.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the weights, the batch and the directions."
)
def command(model: str, kernel_set: str, samples: int, tolerance: float, dropout: bool, seed: int) -> None:
    """Compare each hand-written gradient of MODEL with central differences.

    A tiny model with random weights of order one is checked in float64: its loss is computed at four points along single
    numbers of each parameter and along one random direction. The exit status is 1 where a relative error is too large.

    \b
    Example:  tinyllm gradcheck gpt --kernels cpu
    """  # fmt: skip
    tiny = MODELS[CLASSES[model]][0].tiny()
    tiny.train(dropout)
    with kernels.use(kernel_set):
        checks = gradcheck(tiny, samples=samples, seed=seed)
    table = Table(title=f"{CLASSES[model]}, {kernel_set} kernels, float64: gradients against central differences")
    table.add_column("layer")
    table.add_column("parameter")
    for column in ("shape", "|gradient|", "relative error"):
        table.add_column(column, justify="right")
    for check in checks:
        layer, _, parameter = check.name.rpartition(".")
        right = np.isfinite(check.error) and check.error <= tolerance
        error = f"{check.error:.1e}" if right else f"[bold red]{check.error:.1e}  WRONG[/]"
        table.add_row(layer, parameter, " x ".join(map(str, check.shape)), f"{check.norm:.3e}", error)
    console = Console()
    console.print(table)
    wrong = [check.name for check in checks if not check.error <= tolerance]
    if wrong:
        console.print(f"[bold red]{len(wrong)} of {len(checks)} gradients are off: {', '.join(wrong)}[/]")
        sys.exit(1)
    worst = max(check.error for check in checks)
    console.print(f"All {len(checks)} gradients agree; the largest relative error is {worst:.1e}.")
