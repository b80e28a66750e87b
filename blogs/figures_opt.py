"""The figures of blogs/opt.md; `python blogs/figures.py` draws them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from figures import BACKWARD, FORWARD, GREEN, INK, PALE, SAND, arrow, directions, residual, stack

from tinyllm.data.packing import Pack, packed


def opt_architecture():
    """The stack that nearly all OPT models have, and that of the 350M with its norms behind the sums."""
    _, axes = plt.subplots(1, 2, figsize=(11.5, 8))
    ends = [
        (0.0, "tokens  (B, T)", "white"),
        (8.8, "cross-entropy with the next tokens", "white"),
    ]
    before = [
        (1.1, "embeddings  $W_e[\\mathrm{tok}] + W_p[\\mathrm{pos} + 2]$", PALE),
        (2.5, "norm", PALE),
        (3.4, "attention, H heads", GREEN),
        (4.6, "norm", PALE),
        (5.5, "mlp:  C → 4C, ReLU, → C", SAND),
        (6.8, "norm", PALE),
        (7.7, "output projection  $W_e^T$", PALE),
    ]
    behind = [
        (0.9, "$W_e[\\mathrm{tok}]\\,W_\\mathrm{in}^T + W_p[\\mathrm{pos} + 2]$:  E → C", PALE),
        (2.4, "attention, H heads", GREEN),
        (3.5, "norm", PALE),
        (4.4, "mlp:  C → 4C, ReLU, → C", SAND),
        (5.5, "norm", PALE),
        (6.7, "$W_\\mathrm{out}$:  C → E", PALE),
        (7.7, "output projection  $W_e^T$", PALE),
    ]
    sums = [((1.72, 3.98), (4.06, 6.06)), ((1.6, 2.92), (4.0, 4.92))]
    blocks = [(1.85, 6.3), (1.5, 6.28)]
    titles = ["norms before the branches", "OPT-350M: norms behind the sums"]
    for ax, levels, ways, (low, high), title in zip(axes, (before, behind), sums, blocks, titles):
        stack(ax, [ends[0], *levels, ends[1]])
        ax.add_patch(plt.Rectangle((-3.4, low), 6.1, high - low, fill=False, edgecolor=INK, linestyle="--", linewidth=1))
        ax.text(2.6, high - 0.23, "a block, L times", ha="right", fontsize=9, color=INK)
        for start, end in ways:
            residual(ax, start, end)
        directions(ax, 9.5)
        ax.set(xlim=(-3.6, 2.9), ylim=(-0.5, 10), aspect="equal", title=title)
        ax.axis("off")


def packing():
    """Three examples as a padded batch and as one packed row: what counts, and who sees whom."""
    sizes, prompts = (7, 5, 4), (4, 2, 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=[1, 1.15])
    colors = {"prompt": "#c9d8e8", "continuation": FORWARD, "padding": "#f2f2f2"}

    def cells(x, y, n, prompt):
        """An example of n tokens from the place x on, each with its position."""
        for t in range(n):
            color, ink = (colors["prompt"], INK) if t < prompt else (colors["continuation"], "white")
            left.add_patch(plt.Rectangle((x + t, y), 0.94, 0.8, color=color))
            left.text(x + t + 0.47, y + 0.4, str(t), ha="center", va="center", fontsize=9, color=ink)

    for row, (start, n, prompt) in enumerate(zip((0, 7, 12), sizes, prompts)):
        left.add_patch(plt.Rectangle((0, 4 - row), 6.94, 0.8, color=colors["padding"]))
        cells(0, 4 - row, n, prompt)
        cells(start, 0.3, n, prompt)
    left.text(0, 5.1, "padded: 21 places, 16 tokens", fontsize=10)
    left.text(0, 1.4, "packed: 16 places; the number is the position", fontsize=10)
    for i, (name, color) in enumerate(colors.items()):
        left.add_patch(plt.Rectangle((0 + 5 * i, -0.75), 0.6, 0.5, color=color))
        left.text(0.8 + 5 * i, -0.5, name, va="center", fontsize=9)
    left.set(xlim=(-0.2, 16.2), ylim=(-1, 5.6))
    left.axis("off")

    number = np.repeat(np.arange(3), sizes)
    learned = np.concatenate([np.arange(n) >= p for n, p in zip(sizes, prompts)])
    pack = Pack(np.append(number, 0), np.append(learned, False), np.append(number, 3))
    mask = packed([pack])[2][0] & np.tri(16, dtype=bool)
    right.imshow(mask, cmap="Blues", vmin=0, vmax=1.4)
    right.set(title="who sees whom", xlabel="key", ylabel="query", xticks=range(0, 16, 4), yticks=range(0, 16, 4))
    figure.tight_layout()


def longest_common():
    """The table of the longest common subsequence of two sentences, and the way through it."""
    a, b = "the cat sat on the mat".split(), "on the mat sat the cat".split()
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, j in np.ndindex(len(a), len(b)):
        table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else max(table[i, j + 1], table[i + 1, j])
    _, ax = plt.subplots(figsize=(4.6, 3.7))
    ax.imshow(table, cmap="Blues", vmax=6)
    for i, j in np.ndindex(table.shape):
        ax.text(j, i, table[i, j], ha="center", va="center", fontsize=10)
    i, j = len(a), len(b)
    while table[i, j]:
        if a[i - 1] == b[j - 1]:
            arrow(ax, (j - 0.2, i - 0.2), (j - 0.8, i - 0.8), BACKWARD, 1.6)
            i, j = i - 1, j - 1
        elif table[i - 1, j] >= table[i, j - 1]:
            arrow(ax, (j, i - 0.25), (j, i - 0.75), "#888888", 1)
            i -= 1
        else:
            arrow(ax, (j - 0.25, i), (j - 0.75, i), "#888888", 1)
            j -= 1
    ax.set_xticks(range(len(b) + 1), ["", *b])
    ax.set_yticks(range(len(a) + 1), ["", *a])
    ax.xaxis.tick_top()


FIGURES = [opt_architecture, packing, longest_common]
