"""The figures of blogs/t5.md; `python blogs/figures.py` draws them."""

from __future__ import annotations

import functools

import matplotlib.pyplot as plt
import numpy as np
from figures import BACKWARD, FORWARD, GREEN, INK, PALE, SAND, arrow, directions, residual, stack

import tinyllm
from tinyllm.kernels.reference.relative import buckets


def t5_architecture():
    """Encoder and decoder side by side, and what passes between them in both directions."""
    _, ax = plt.subplots(figsize=(9.6, 8.2))
    encoder = [
        (0.0, "source  (B, S)", "white"),
        (1.1, "embedding  $W_e$", PALE),
        (2.5, "norm", PALE),
        (3.4, "attention + bias", GREEN),
        (4.6, "norm", PALE),
        (5.5, "mlp", SAND),
        (7.0, "norm", PALE),
    ]
    decoder = [
        *encoder[1:3],
        (3.4, "causal attention + bias", GREEN),
        (4.6, "norm", PALE),
        (5.5, "cross attention", GREEN),
        (6.7, "norm", PALE),
        (7.6, "mlp", SAND),
        (9.0, "norm", PALE),
        (9.9, "output  $C^{-1/2} W_e^T$", PALE),
    ]
    stack(ax, encoder, -3.6)
    stack(ax, [(0.0, "target, shifted right  (B, T)", "white"), *decoder], 3.9)
    for x, bottom, height in ((-3.6, 1.85, 4.35), (3.9, 1.85, 6.45)):
        ax.add_patch(plt.Rectangle((x - 3.25, bottom), 5.85, height, fill=False, edgecolor=INK, linestyle="--", linewidth=1))
        ax.text(x + 2.5, bottom + 0.08, "a block, L times", ha="right", fontsize=8, color=INK)
    for x, spans in ((-3.6, ((1.72, 3.98), (4.06, 6.06))), (3.9, ((1.72, 3.98), (4.06, 6.06), (6.16, 8.12)))):
        for start, end in spans:
            residual(ax, start, end, x)
    ax.plot([-3.85, -3.85, -0.05, -0.05], [7.33, 7.75, 7.75, 5.62], color=FORWARD, linewidth=1.4)
    arrow(ax, (-0.05, 5.62), (1.66, 5.62), FORWARD)
    ax.plot([1.66, 0.25, 0.25, -3.35], [5.38, 5.38, 8.05, 8.05], color=BACKWARD, linewidth=1.4)
    arrow(ax, (-3.35, 8.05), (-3.35, 7.35), BACKWARD)
    ax.text(-2.0, 7.52, "$h_\\mathrm{enc}$: keys, values", color=FORWARD, fontsize=9, ha="center")
    ax.text(-1.55, 8.22, "$dh_\\mathrm{enc}$: the sum over all layers", color=BACKWARD, fontsize=9, ha="center")
    directions(ax, 10.9)
    ax.set(xlim=(-7.1, 7.1), ylim=(-0.5, 11.3), aspect="equal")
    ax.axis("off")


def relative_buckets():
    """Which bucket a key falls into, by how far ahead of the query it is, and for all pairs."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4), width_ratios=(1.6, 1, 1))
    ahead = np.arange(-160, 161)
    left.step(ahead, buckets(ahead, 32), where="mid", color=FORWARD, label="encoder")
    left.step(ahead, buckets(ahead, 32, bidirectional=False), where="mid", color=BACKWARD, label="decoder")
    left.legend(frameon=False, loc="upper left")
    left.set(xlabel="key's position minus query's", ylabel="bucket of 32")
    pairs = np.arange(48) - np.arange(48)[:, None]
    for ax, both, title in ((middle, True, "encoder"), (right, False, "decoder")):
        shown = np.ma.masked_where(~both & (pairs > 0), buckets(pairs, 32, both))
        ax.imshow(shown, cmap="tab20c" if both else "viridis", interpolation="nearest")
        ax.set(title=f"{title}: bucket of each pair", xlabel="key", ylabel="query")
    figure.tight_layout()


V, END = 18, 1


def pairs(random, B, order, T=8):
    """Eight letters, and the same in another order: the arguments of the loss."""
    x = np.argsort(random.random((B, V - 2)), 1)[:, :T] + 2
    end = np.full((B, 1), END)
    targets = np.concatenate([np.sort(x, 1) if order == "sorted" else x[:, ::-1], end], 1)
    return np.concatenate([x, end], 1), np.concatenate([0 * end, targets[:, :-1]], 1), targets


@functools.cache
def trained(order, steps=2000):
    """A model that was trained to write letters in that order, and the generator of its data."""
    config = tinyllm.T5Config(
        vocab_size=V, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0,
        relative_attention_num_buckets=16, relative_attention_max_distance=16,
    )  # fmt: skip
    random = np.random.default_rng(0)
    model = tinyllm.T5(config)
    optimizer = tinyllm.Adam(model, lr=3e-3)
    for step in range(steps):
        optimizer.lr = 3e-3 * min(1, (step + 1) / 50)
        model.zero_grad()
        loss = model.loss(*pairs(random, 32, order))
        model.backward()
        tinyllm.clip_grad_norm(model, 1.0)
        optimizer.step()
    print(f"{order}: loss {loss:.4f} after {steps} steps")
    return model, random


def weights(layer, q, k, lse, bias=None, causal=False):
    """The attention weights (H, T, S) of the batch's first row."""
    scores = np.einsum("bihd,bjhd->bhij", q, k)[0] * layer.scale
    if bias is not None:
        scores = scores + bias
    p = np.exp(scores - lse[0][..., None])
    return p * np.tri(*p.shape[1:]) if causal else p


def cross_attention():
    """Where the decoders of two trained models look in the source: letters to sort, letters to reverse."""
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3))
    letters = [" ", "."] + [chr(ord("a") + i) for i in range(V - 2)]
    for row, order in enumerate(("sorted", "reversed")):
        model, random = trained(order)
        batch = pairs(random, 1, order)
        model.loss(*batch)
        for i, block in enumerate(model.decoder.blocks):
            q, kv, _, lse, *_ = block.cross._kept[-1]
            k, _ = block.cross.split(kv)
            ax = axes[2 * row + i]
            ax.imshow(weights(block.cross, q, k, lse).mean(0), cmap="Blues", vmin=0, vmax=1)
            ax.set_xticks(range(9), [letters[t] for t in batch[0][0]])
            ax.set_yticks(range(9), [letters[t] for t in batch[2][0]])
            ax.set(title=f"{order}: layer {i + 1}", xlabel="source", ylabel="is to write" if i == 0 else None)
    figure.tight_layout()


def relative_bias():
    """The learned biases of a model that reverses: by distance for each head, and as it is added to the scores."""
    model, _ = trained("reversed")
    figure, axes = plt.subplots(1, 4, figsize=(12, 3))
    for row, (name, bias) in enumerate((("encoder", model.encoder.bias), ("decoder", model.decoder.bias))):
        with model.without_keeping():
            table = bias(9, 9).data  # (H, 9, 9)
        ahead = np.arange(-8, 9 if name == "encoder" else 1)
        for head in range(2):
            values = bias.w.data[buckets(ahead, 16, bias.bidirectional, 16), head]
            axes[2 * row].plot(ahead, values, "o-", markersize=3, color=(FORWARD, BACKWARD)[head], label=f"head {head + 1}")
        axes[2 * row].legend(frameon=False, fontsize=8)
        axes[2 * row].set(title=f"{name}: bias by distance", xlabel="key minus query")
        shown = table[0] if name == "encoder" else np.ma.masked_where(np.tri(9) == 0, table[0])
        size = np.abs(table[0]).max()
        axes[2 * row + 1].imshow(shown, cmap="RdBu_r", vmin=-size, vmax=size)
        axes[2 * row + 1].set(title=f"{name}: head 1, added", xlabel="key", ylabel="query")
    figure.tight_layout()


FIGURES = [t5_architecture, relative_buckets, cross_attention, relative_bias]
