"""The figures of blogs/llama.md; `python blogs/figures.py` draws them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from figures import BACKWARD, FORWARD, GREEN, INK, PALE, SAND, arrow, box, decoder

import tinyllm
from tinyllm import lora
from tinyllm.kernels.reference.activation import gelu, silu, silu_derivative
from tinyllm.layers.rotary import KINDS, powers


def llama_architecture():
    """The stack from tokens to loss; what GPT-2 has not is named in full."""
    levels = [
        (0.0, "tokens  (B, T)", "white"),
        (1.1, "embedding  $W_e[\\mathrm{tok}]$", PALE),
        (2.5, "RMS norm", PALE),
        (3.4, "attention: H queries, G keys,\nq and k turned by position", GREEN),
        (4.6, "RMS norm", PALE),
        (5.5, "SwiGLU:  C → 2F, gate, → C", SAND),
        (6.9, "RMS norm", PALE),
        (7.8, "output projection  $W_o$", PALE),
        (8.9, "cross-entropy with the next tokens", "white"),
    ]
    ax = decoder(levels)
    ax.set(xlim=(-3.6, 2.9), ylim=(-0.5, 10.1), aspect="equal")
    ax.axis("off")


def rotary():
    """Three pairs of one vector as its position grows, and how a score falls with the distance."""
    _, axes = plt.subplots(1, 4, figsize=(12, 2.9), width_ratios=[1, 1, 1, 1.9])
    for ax, pair in zip(axes, (0, 1, 2)):
        frequency = powers(6, 100.0)[pair]
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#bbbbbb"))
        for position in range(8):
            c, s = np.cos(position * frequency), np.sin(position * frequency)
            arrow(ax, (0, 0), (c, s), plt.cm.Blues(0.3 + 0.09 * position))
            if position in (0, 7) or frequency > 0.1:
                ax.text(1.15 * c, 1.15 * s, str(position), ha="center", va="center", fontsize=8)
        ax.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", title=f"pair {pair}: {frequency:.2g} rad")
        ax.axis("off")
    distances = np.arange(0, 201)
    for theta, color in ((100.0, "#999999"), (10_000.0, FORWARD), (500_000.0, BACKWARD)):
        score = np.cos(distances[:, None] * powers(64, theta)).mean(1)
        axes[3].plot(distances, score, color=color, label=f"θ = {theta:,.0f}")
    axes[3].legend(frameon=False, fontsize=8)
    axes[3].set(xlabel="distance i − j", title="q · k / D of two equal vectors, D = 64")


def rotary_scaling():
    """By how much each kind of scaling slows each pair down."""
    _, ax = plt.subplots(figsize=(6.4, 3.4))
    D, theta, made_for = 128, 10_000.0, 2048
    kinds = {
        "linear": {"factor": 4},
        "dynamic": {"factor": 1},
        "llama3": {"factor": 4, "low_freq_factor": 1, "high_freq_factor": 4},
        "yarn": {"factor": 4},
    }
    for (name, options), color in zip(kinds.items(), (INK, "#7a9a3a", BACKWARD, FORWARD)):
        frequencies, _ = KINDS[name](D, theta, made_for, 4 * made_for, **options)
        ax.plot(frequencies / powers(D, theta), color=color, label=name)
    ax.legend(frameon=False)
    ax.set(xlabel="pair c  (fast to slow)", ylabel="new frequency / old", ylim=(0, 1.05))
    ax.set_title("from 2,048 to 8,192 tokens, D = 128, θ = 10,000", fontsize=10)


def gate():
    """SiLU beside GELU, its derivative, and the surface of silu(gate) up as lines of equal value."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
    u = np.linspace(-6, 4, 601)
    left.plot(u, silu(u), color=FORWARD, label="silu(u)")
    left.plot(u, silu_derivative(u), color=BACKWARD, label="silu'(u)")
    left.plot(u, gelu(u), color="#999999", linestyle=":", label="gelu(u)")
    left.legend(frameon=False, fontsize=8)
    left.set(xlabel="u", ylim=(-0.5, 2))
    gate, up = np.meshgrid(np.linspace(-4, 4, 161), np.linspace(-4, 4, 161))
    levels = [-12, -8, -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4, 8, 12]
    lines = right.contour(gate, up, silu(gate) * up, levels=levels, cmap="coolwarm", linewidths=1.2)
    right.clabel(lines, fontsize=7)
    right.set(xlabel="gate", ylabel="up", title="silu(gate) · up")


def grouped_queries():
    """Which head of keys and values each query head reads, and the way of the gradient back."""
    _, axes = plt.subplots(1, 3, figsize=(12, 2.2))
    H = 8
    for ax, G, title in zip(axes, (8, 2, 1), ("multi-head: G = H", "grouped: G = 2", "multi-query: G = 1")):
        keys = [(H // G - 1) / 2 + g * H // G for g in range(G)]
        for h in range(H):
            key = keys[h * G // H]
            arrow(ax, (key - 0.06, 0.3), (h - 0.06, 1.7), FORWARD, 1)
            arrow(ax, (h + 0.06, 1.7), (key + 0.06, 0.3), BACKWARD, 1)
            box(ax, h, 2, f"q{h}", GREEN, 0.7, 0.5, 9)
        for g, key in enumerate(keys):
            box(ax, key, 0, f"kv{g}", SAND, 0.7, 0.5, 9)
        ax.set(xlim=(-0.6, 7.6), ylim=(-0.4, 2.4), title=title)
        ax.axis("off")


def window():
    """What one layer sees through a window of four, and what reaches a token through one, two and three such layers."""
    _, axes = plt.subplots(1, 4, figsize=(11, 2.9))
    T, W = 16, 4
    distance = np.arange(T)[:, None] - np.arange(T)
    full, one = distance >= 0, (distance >= 0) & (distance < W)
    masks = [full, one, np.linalg.matrix_power(one.astype(int), 2) > 0, np.linalg.matrix_power(one.astype(int), 3) > 0]
    titles = ["no window", "window 4, one layer", "through two layers", "through three layers"]
    for ax, mask, title in zip(axes, masks, titles):
        ax.imshow(mask, cmap="Blues", vmin=0, vmax=1.4)
        ax.set(title=title, xlabel="knows of", xticks=range(0, T, 4), yticks=range(0, T, 4))
    axes[0].set_ylabel("position")


def quantization():
    """The relative error of normally distributed weights by the size of a group, and the bits that a weight then takes."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
    random = np.random.default_rng(0)
    w = random.standard_normal(1 << 18)
    sizes = 2 ** np.arange(2, 15)
    for bits, color in ((8, FORWARD), (4, BACKWARD)):
        top = 2 ** (bits - 1) - 1
        errors = []
        for size in sizes:
            groups = w.reshape(-1, size)
            scales = np.abs(groups).max(1, keepdims=True) / top
            errors.append(np.linalg.norm(np.rint(groups / scales) * scales - groups) / np.linalg.norm(w))
        left.loglog(sizes, errors, color=color, marker=".", label=f"{bits} bits")
        right.semilogx(sizes, bits + 16 / sizes, color=color, marker=".", label=f"{bits} bits")
    for ax, title in ((left, "relative error"), (right, "bits a weight, scales included")):
        ax.axvline(32, color="#999999", linestyle=":")
        ax.set(xlabel="numbers that share a scale", title=title)
        ax.legend(frameon=False, fontsize=8)


def adapters():
    """The copying model of blogs/llama.md learns to write each token one higher, with adapters of several ranks."""

    def train(model, steps, lr, shift):
        random, losses = np.random.default_rng(0), []
        optimizer = tinyllm.Adam(model, lr=lr, betas=(0.9, 0.99))
        for _ in range(steps):
            half = random.integers(0, 8, (32, 8))
            text = np.concatenate([half, (half + shift) % 8], 1)
            targets = text[:, 1:].copy()
            targets[:, :7] = -100
            model.zero_grad()
            losses.append(model.loss(text[:, :-1], targets))
            model.backward()
            tinyllm.clip_grad_norm(model, 1.0)
            optimizer.step()
        return losses

    def copier():
        sizes = {"vocab_size": 8, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
        model = tinyllm.Llama(tinyllm.LlamaConfig(**sizes, **heads))
        train(model, 250, 3e-3, shift=0)
        return model

    _, ax = plt.subplots(figsize=(6, 3.2))
    for r, color in ((1, "#9dc3e6"), (2, FORWARD), (8, INK), (None, BACKWARD)):
        model = copier()
        if r is not None:
            lora.add(model, lora.LoRAConfig(r=r))
        losses = train(model, 100, 1e-2 if r else 3e-3, shift=1)
        ax.semilogy(losses, color=color, label=f"rank {r}: {model.n_parameters:,}" if r else f"all: {model.n_parameters:,}")
    ax.legend(frameon=False, fontsize=8, title="numbers that are trained", title_fontsize=8)
    ax.set(xlabel="step", ylabel="loss")


FIGURES = [llama_architecture, rotary, rotary_scaling, gate, grouped_queries, window, quantization, adapters]
