"""The figures of blogs/gpt.md; `python blogs/figures.py` draws them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from figures import BACKWARD, FORWARD, GREEN, PALE, SAND, decoder

import tinyllm
from tinyllm.kernels.reference import activation
from tinyllm.kernels.reference.norm import layernorm_backward, layernorm_forward


def gpt_architecture():
    """The stack from tokens to loss, with the way of the gradient beside it."""
    levels = [
        (0.0, "tokens  (B, T)", "white"),
        (1.1, "embeddings  $W_e[\\mathrm{tok}] + W_p[\\mathrm{pos}]$", PALE),
        (2.5, "norm", PALE),
        (3.4, "attention, H heads", GREEN),
        (4.6, "norm", PALE),
        (5.5, "mlp:  C → 4C, GELU, → C", SAND),
        (6.9, "norm", PALE),
        (7.8, "output projection  $W_e^T$", PALE),
        (8.9, "cross-entropy with the next tokens", "white"),
    ]
    ax = decoder(levels)
    ax.annotate(
        "the same\nweight", (2.2, 7.8), (3.6, 4.4), fontsize=9, ha="center",
        arrowprops={"arrowstyle": "-", "connectionstyle": "arc3,rad=0.25", "color": "#888888"},
    )  # fmt: skip
    ax.annotate(
        "", (2.2, 1.1), (3.6, 4.1), arrowprops={"arrowstyle": "-", "connectionstyle": "arc3,rad=-0.25", "color": "#888888"}
    )
    ax.set(xlim=(-3.6, 4.4), ylim=(-0.5, 10.1), aspect="equal")
    ax.axis("off")


def gelu():
    """GELU by erf, its derivative, and how far the tanh form is off."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    u = np.linspace(-4, 4, 801)
    left.plot(u, activation.gelu(u), color=FORWARD, label="gelu(u)")
    left.plot(u, activation.gelu_derivative(u), color=BACKWARD, label="gelu'(u)")
    left.legend(frameon=False)
    left.set(xlabel="u", ylim=(-0.4, 2))
    right.plot(u, activation.gelu_tanh(u) - activation.gelu(u), color=FORWARD, label="function")
    right.plot(u, activation.gelu_tanh_derivative(u) - activation.gelu_derivative(u), color=BACKWARD, label="derivative")
    right.legend(frameon=False)
    right.set(xlabel="u", title="tanh form minus erf form")


def gradcheck():
    """The error of a difference quotient against its step, for a layer norm in float64 and float32."""
    random = np.random.default_rng(0)
    _, ax = plt.subplots(figsize=(6, 3.4))
    steps = np.logspace(-12, 0, 61)
    for dtype, color in (("float64", FORWARD), ("float32", BACKWARD)):
        x, r, w = (random.standard_normal((4, 16)).astype(dtype) for _ in range(3))
        w = w[0]
        _, mean, rstd = layernorm_forward(x, w)
        direction = random.standard_normal(x.shape).astype(dtype)
        exact = float((layernorm_backward(r, x, w, mean, rstd) * direction).sum())

        def f(h, x=x, r=r, w=w, direction=direction):
            return float((layernorm_forward(x + x.dtype.type(h) * direction, w)[0] * r).sum(dtype=x.dtype))

        two = [abs((f(h) - f(-h)) / (2 * h) - exact) / abs(exact) for h in steps]
        four = [abs((8 * (f(h) - f(-h)) - f(2 * h) + f(-2 * h)) / (12 * h) - exact) / abs(exact) for h in steps]
        ax.loglog(steps, np.maximum(two, 1e-16), color=color, label=f"{dtype}, two points")
        ax.loglog(steps, np.maximum(four, 1e-16), color=color, linestyle=":", label=f"{dtype}, four points")
    ax.legend(frameon=False, fontsize=8)
    ax.set(xlabel="step Δ", ylabel="relative error", ylim=(1e-15, 10))


def copy_attention():
    """Trains the copying model of blogs/gpt.md and shows where its heads look."""
    random = np.random.default_rng(0)
    config = tinyllm.GPTConfig(
        vocab_size=8, n_positions=16, n_layer=2, n_head=2, n_embd=32, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    model = tinyllm.GPT(config)
    optimizer = tinyllm.Adam(model, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(400):
        half = random.integers(0, 8, (32, 8))
        text = np.concatenate([half, half], 1)
        targets = text[:, 1:].copy()
        targets[:, :7] = -100
        model.zero_grad()
        model.loss(text[:, :-1], targets)
        model.backward()
        tinyllm.clip_grad_norm(model, 1.0)
        optimizer.step()
    half = random.integers(0, 8, 8)
    text = np.concatenate([half, half])[None, :-1]
    model.loss(text[:, :-1], text[:, 1:])
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9))
    for layer, block in enumerate(model.blocks):
        q, k, _, _, lse, *_ = model.mode.kept[block.attention][-1]
        scores = np.einsum("bihd,bjhd->bhij", q, k)[0] * block.attention.scale
        for head in range(2):
            ax = axes[2 * layer + head]
            weights = np.exp(scores[head] - lse[0, head][:, None]) * np.tri(15)
            ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
            ax.set(
                title=f"layer {layer + 1}, head {head + 1}",
                xlabel="looks at",
                xticks=range(0, 15, 4),
                yticks=range(0, 15, 4),
            )
    axes[0].set_ylabel("position")
    figure.tight_layout()


FIGURES = [gpt_architecture, gelu, gradcheck, copy_attention]
