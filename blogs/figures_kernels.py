"""The figures of blogs/kernels.md; `python blogs/figures.py` draws them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from figures import BACKWARD, FORWARD, INK

from tinyllm.kernels.reference.softmax import allowed


def online_softmax():
    """The maximum and the sum of a row, as they run over it, and what the sum would be under the last maximum."""
    s = np.random.default_rng(7).standard_normal(40) * 1.5 + np.linspace(-1, 1, 40)
    top = np.maximum.accumulate(s)
    total = np.array([np.exp(s[: j + 1] - top[j]).sum() for j in range(len(s))])
    _, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True)
    above.plot(s, ".", color=INK, label="scores $s_j$")
    above.step(range(40), top, where="post", color=FORWARD, label="running maximum $m_j$")
    below.step(range(40), total, where="post", color=BACKWARD, label="running sum $l_j$")
    final = total * np.exp(top - top[-1])
    below.step(range(40), final, where="post", color=INK, linestyle=":", label="the same under the last maximum")
    for ax in (above, below):
        for j in np.flatnonzero(np.diff(top)) + 1:
            ax.axvline(j, color=INK, linewidth=0.4, alpha=0.4)
        ax.legend(frameon=False, fontsize=9, loc="lower right" if ax is above else "upper left")
        ax.spines[["top", "right"]].set_visible(False)
    below.set(xlabel="scores read", ylim=(0, total.max() * 1.35))


def causal_tiles(T=512, size=64):
    """Which tiles of T x T scores are left out, computed with a mask, and computed whole."""
    _, axes = plt.subplots(1, 2, figsize=(8.6, 4.3))
    for ax, window, title in zip(axes, (None, 160), ("causal", "causal, window 160")):
        ok = allowed(T, T, causal=True, window=window)[0, 0]
        for t in range(0, T, size):
            for s in range(0, T, size):
                tile = ok[t : t + size, s : s + size]
                color = "white" if not tile.any() else FORWARD if tile.all() else "#a9c6e6"
                ax.add_patch(plt.Rectangle((s, t), size, size, facecolor=color, edgecolor=INK, linewidth=0.6))
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", xlabel="keys", title=title)
    axes[0].set_ylabel("queries")
    kinds = (("white", "not computed"), ("#a9c6e6", "computed with a mask"), (FORWARD, "computed whole"))
    patches = [plt.Rectangle((0, 0), 1, 1, facecolor=color, edgecolor=INK, label=name) for color, name in kinds]
    plt.gcf().legend(handles=patches, loc="lower center", ncol=3, frameon=False, fontsize=9)
    plt.subplots_adjust(bottom=0.2)


FIGURES = (online_softmax, causal_tiles)
