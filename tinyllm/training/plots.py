"""Pictures of a training run: the curve of its loss, and which labels are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# measure -> its name on an axis; those of SHARES are from 0 to 1, or from 0 to 100
SHARES = {
    "accuracy": "accuracy", "exact": "exact answers", "f1": "F1", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L", "bleu": "BLEU", "chrf": "chrF",
}  # fmt: skip
OTHERS = {"matthews": "Matthews' correlation (-1 to 1)", "perplexity": "perplexity (exp of the loss)"}


def axis_name(measure: str, values: Sequence[float]) -> str:
    """The name of a measure with its unit."""
    if measure in SHARES:
        percent = measure in ("bleu", "chrf") or max(values, default=0) > 1
        return f"{SHARES[measure]} ({'0 to 100' if percent else '0 to 1'})"
    return OTHERS.get(measure, measure.replace("_", " "))


def plot_loss(
    path: Path | BinaryIO, metrics: list[dict[str, Any]], title: str = "", best: str = "loss", unit: str = "token"
) -> None:
    """Writes the losses of a run's metrics against its steps as a PNG, and a second picture below it of another measure.

    best: the measure to show below, "accuracy" say; the first one if it is the loss. unit: what the loss is a mean over.
    Where training has a loss of its own, with label smoothing or weights of labels, the held-out loss is shown of that kind.
    ModuleNotFoundError, in one sentence, where matplotlib is missing.
    """
    trained = [record for record in metrics if "loss" in record]
    evaluated = [record for record in metrics if "val_loss" in record]
    names = [name for record in evaluated[:1] for name in record if name.startswith("val_")]
    others = [name for name in names if name not in ("val_loss", "val_objective")]
    measure = f"val_{best}" if f"val_{best}" in others else next(iter(others), None)
    figure = _figure(8, 6.5 if measure else 4.5)
    axes = figure.subplots(2 if measure else 1, 1, sharex=True, squeeze=False, height_ratios=[2, 1] if measure else [1])[
        :, 0
    ]
    axes[0].set_title(title)
    axes[0].set_ylabel(f"loss (nats per {unit})")
    steps, losses = [record["step"] for record in trained], [record["loss"] for record in trained]
    axes[0].plot(steps, losses, color="C0", alpha=0.25, linewidth=0.7)
    axes[0].plot(steps, smoothed(losses), color="C0", label="training, smoothed")
    objective = "val_objective" in names
    held_out = [record.get("val_objective", record["val_loss"]) for record in evaluated]
    label = "held-out data, the same loss" if objective else "held-out data"
    axes[0].plot([r["step"] for r in evaluated], held_out, "o-", color="C1", label=label)
    if objective:
        plain = [record["val_loss"] for record in evaluated]
        axes[0].plot([r["step"] for r in evaluated], plain, "o:", color="C1", label="held-out data, plain")
    if measure:
        shown = [(record["step"], record[measure]) for record in evaluated if measure in record]
        axes[1].plot(*zip(*shown), "s-", color="C2")
        axes[1].set_ylabel(f"{axis_name(measure.removeprefix('val_'), [value for _, value in shown])}\non held-out data")
    axes[-1].set_xlabel("step (updates of the weights)")
    for one in axes:
        one.grid(alpha=0.3)
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120, format="png")


def plot_confusion(path: Path, predictions: np.ndarray, targets: np.ndarray, names: list[str], title: str = "") -> None:
    """Writes as a PNG how many rows of each label, (N,) numbers, were taken for which; shades are shares of a row.

    ModuleNotFoundError, in one sentence, where matplotlib is missing.
    """
    n = len(names)
    counts = np.bincount(targets * n + predictions, minlength=n * n).reshape(n, n)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 2.5 + 0.6 * min(n, 20)
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(n, n) if n <= 20 else ():
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)
    axes.set_xticks(range(n), names, rotation=45 if n > 3 else 0)
    axes.set_yticks(range(n), names)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.savefig(path, dpi=120)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure  # here, because it is slow and an extra; without pyplot: no window, no state
    except ModuleNotFoundError:
        raise ModuleNotFoundError('a plot needs matplotlib: pip install "tinyllm-numpy[plots]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def smoothed(values: list[float]) -> np.ndarray:
    """The trend of a curve: the mean over a window around each value, a fiftieth of the curve long.

    Where the window would reach beyond an end, the straight line that fits the last whole window best goes on to the end. A
    window that shrinks there would show the noise of a few values as a kink.
    """
    y, n = np.asarray(values, float), len(values)
    reach = n // 100
    if reach == 0:
        return y
    places = np.arange(n)
    first = np.clip(places - reach, 0, n - 2 * reach - 1)  # of each window
    sums, moments = (np.cumsum([0.0, *x]) for x in (y, places * y))
    total = sums[first + 2 * reach + 1] - sums[first]
    center = first + reach
    moment = moments[first + 2 * reach + 1] - moments[first] - center * total  # sum of (place - center) y
    slope = moment / (reach * (reach + 1) * (2 * reach + 1) / 3)
    return total / (2 * reach + 1) + slope * (places - center)
