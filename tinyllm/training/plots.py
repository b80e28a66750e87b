"""Pictures of a training run: the curve of its loss, and which labels are taken for which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def plot_loss(path: Path, metrics: list[dict[str, Any]], title: str = "") -> None:
    """Writes the losses of a run's metrics against its steps as a PNG, and beside them the first other measure there is.

    ModuleNotFoundError, in one sentence, where matplotlib is missing.
    """
    figure = _figure(8, 4.5)
    trained = [record for record in metrics if "loss" in record]
    evaluated = [record for record in metrics if "val_loss" in record]
    axes = figure.subplots()
    steps, losses = [record["step"] for record in trained], [record["loss"] for record in trained]
    axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=0.7)
    axes.plot(steps, smoothed(losses), color="C0", label="training, smoothed")
    axes.plot([r["step"] for r in evaluated], [r["val_loss"] for r in evaluated], "o-", color="C1", label="held-out data")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    for name in [name for name in evaluated[-1] if name.startswith("val_") and name != "val_loss"][:1] if evaluated else []:
        measure, about = axes.twinx(), name.removeprefix("val_")
        measure.plot([r["step"] for r in evaluated], [r[name] for r in evaluated], "s-", color="C2")
        measure.set_ylabel(f"{about} on held-out data")
        axes.plot([], [], "s-", color="C2", label=about)  # for the legend
    axes.legend(loc="center right")
    figure.savefig(path, dpi=120)


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
        raise ModuleNotFoundError('a plot needs matplotlib: pip install "tinyllm[plots]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def smoothed(values: list[float]) -> np.ndarray:
    """The mean over a window around each value, a fiftieth of the curve long; a shorter one at both ends."""
    sums = np.cumsum([0.0, *values])
    places = np.arange(len(values))
    reach = np.minimum(np.minimum(places, places[::-1]), len(values) // 100)  # to both sides: the window stays centred
    return (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
