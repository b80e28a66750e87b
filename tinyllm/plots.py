"""The curve of a training run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def plot_loss(path: Path, metrics: list[dict[str, Any]], title: str = "") -> None:
    """Writes the losses of a run's metrics against its steps as a PNG.

    ModuleNotFoundError, in one sentence, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, no state
    except ModuleNotFoundError:
        raise ModuleNotFoundError('a plot needs matplotlib: pip install "tinyllm[plots]"') from None

    trained = [record for record in metrics if "loss" in record]
    evaluated = [record for record in metrics if "val_loss" in record]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps, losses = [record["step"] for record in trained], [record["loss"] for record in trained]
    axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=0.7)
    axes.plot(steps, smoothed(losses), color="C0", label="training, smoothed")
    axes.plot([r["step"] for r in evaluated], [r["val_loss"] for r in evaluated], "o-", color="C1", label="held-out data")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def smoothed(values: list[float]) -> np.ndarray:
    """The mean over a window around each value, a fiftieth of the curve long; a shorter one at both ends."""
    sums = np.cumsum([0.0, *values])
    places = np.arange(len(values))
    reach = np.minimum(np.minimum(places, places[::-1]), len(values) // 100)  # to both sides: the window stays centred
    return (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
