"""Draws the figures of the blogs: `python blogs/figures.py [NAME ...]` (needs matplotlib, the extra `plots`).

What several figures are drawn with stands here, each blog's own figures in figures_gpt.py and so on.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "figures"
INK, FORWARD, BACKWARD, PALE = "#222222", "#2a6fbb", "#c8502f", "#eef3f8"
GREEN, SAND = "#dfeadf", "#f6ead9"  # of boxes: attention, feed-forward


def box(ax, x, y, text, color=PALE, width=4.4, height=0.62, size=10):
    ax.add_patch(plt.Rectangle((x - width / 2, y - height / 2), width, height, facecolor=color, edgecolor=INK, linewidth=1))
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color=INK)


def arrow(ax, start, end, color, width=1.4):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": width})


def stack(ax, levels, x=0.0):
    """Boxes one above the other, (y, text, color) from the bottom up, with the way of x and of dx between them."""
    for y, text, color in levels:
        box(ax, x, y, text, color)
    for i, ((below, *_), (above, *_)) in enumerate(zip(levels, levels[1:])):
        arrow(ax, (x - 0.25, below + 0.33), (x - 0.25, above - 0.33), FORWARD)
        if i:
            arrow(ax, (x + 0.25, above - 0.33), (x + 0.25, below + 0.33), BACKWARD)


def residual(ax, start, end, x=0.0):
    """The way around a branch: from height `start` to height `end`, where it is added."""
    ax.plot([x - 0.25, x - 2.7, x - 2.7, x - 0.25], [start, start, end, end], color=FORWARD, linewidth=1.2)
    ax.text(x - 2.8, (start + end) / 2, "x +", ha="right", va="center", color=FORWARD, fontsize=10)


def directions(ax, y):
    """What the two colours mean, at height y."""
    ax.text(-1.75, y, "forward: x", color=FORWARD, fontsize=11, ha="center")
    ax.text(1.75, y, "backward: dx", color=BACKWARD, fontsize=11, ha="center")


def decoder(levels):
    """The axes with a decoder's stack, from tokens to loss; levels 2 to 5 are a block, twice a norm and a branch."""
    _, ax = plt.subplots(figsize=(6.4, 7.6))
    stack(ax, levels)
    ax.add_patch(plt.Rectangle((-3.4, 1.85), 6.1, 4.45, fill=False, edgecolor=INK, linestyle="--", linewidth=1))
    ax.text(2.55, 1.98, "a block, L times", ha="right", fontsize=9, color=INK)
    residual(ax, 1.72, 3.98)
    residual(ax, 4.06, 6.06)
    directions(ax, 9.75)
    return ax


def main(names):
    for file in sorted(FOLDER.parent.glob("figures_*.py")):
        for figure in importlib.import_module(file.stem).FIGURES:
            if not names or figure.__name__ in names:
                figure()
                plt.savefig(FOLDER / f"{figure.__name__}.png", dpi=110, bbox_inches="tight")
                plt.close("all")


if __name__ == "__main__":
    main(sys.argv[1:])
