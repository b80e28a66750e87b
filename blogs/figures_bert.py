"""The figures of blogs/bert.md; `python blogs/figures.py` draws them. The third panel of norm_order trains for minutes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from figures import BACKWARD, FORWARD, GREEN, INK, PALE, SAND, arrow, box, directions, residual, stack

import tinyllm
from tinyllm.layers import MLP, Attention, Context, Layer, LayerNorm, PostNormBlock, PreNormBlock
from tinyllm.models.bert import BERTBase, PretrainingHead


def bert_architecture():
    """The stack from tokens to the heads, with the way of the gradient beside it."""
    _, ax = plt.subplots(figsize=(7.6, 7.8))
    levels = [
        (0.0, "[CLS] text [SEP] text [SEP]", "white"),
        (1.1, "$W_e + W_p + W_\\mathrm{seg}$,  norm", PALE),
        (2.6, "attention, both ways", GREEN),
        (3.9, "norm", PALE),
        (5.1, "mlp:  C → 4C, GELU, → C", SAND),
        (6.4, "norm", PALE),
    ]
    stack(ax, levels)
    for start, end in ((1.75, 3.25), (4.4, 5.75)):
        residual(ax, start, end)
    ax.add_patch(plt.Rectangle((-3.4, 1.62), 6.1, 5.3, fill=False, edgecolor=INK, linestyle="--", linewidth=1))
    ax.text(2.55, 1.75, "a block, L times", ha="right", fontsize=9, color=INK)
    heads = [(-4.1, "masked words\nrows with a target", 8.3), (0.0, "pooler: $h_0$\na label; is it next?", 8.3)]
    heads += [(4.1, "start and end\nsoftmax over T", 8.3)]
    for x, text, y in heads:
        box(ax, x, y, text, PALE, 3.6, 0.95, 9)
        arrow(ax, (x * 0.35 - 0.15, 6.75), (x - 0.15, y - 0.5), FORWARD)
        arrow(ax, (x + 0.15, y - 0.5), (x * 0.35 + 0.15, 6.75), BACKWARD)
    directions(ax, 9.4)
    ax.set(xlim=(-6.1, 6.1), ylim=(-0.5, 9.8), aspect="equal")
    ax.axis("off")


class Stack(Layer):
    """L blocks with their norms before or behind the branches, and what the gradient's size is below each of them."""

    def __init__(self, L, pre, C=64, std=1 / 8):
        super().__init__()
        self.pre = pre
        self.blocks = []
        for _ in range(L):
            attention = Attention(C, 4, causal=False, std=std, residual_std=std)
            mlp = MLP(C, 4 * C, "gelu", std=std, residual_std=std)
            norms = LayerNorm(C), LayerNorm(C)
            self.blocks.append(
                PreNormBlock(norms[0], attention, norms[1], mlp)
                if pre
                else PostNormBlock(attention, norms[0], mlp, norms[1])
            )
        self.norm = LayerNorm(C) if pre else None

    def forward(self, x):
        self.sizes, context, r = [x.std()], Context(), None
        for block in self.blocks:
            if self.pre:
                x, r = block(x, r, context)
                self.sizes.append((x + r).std())
            else:
                x = block(x, context)
        return self.norm.add(x, r)[1] if self.pre else x

    def backward(self, dy):
        dx, dr = self.norm.add_backward(dy) if self.pre else (dy, None)
        self.gradients = [np.linalg.norm(dx)]
        for block in reversed(self.blocks):
            if self.pre:
                dx, dr = block.backward(dx, dr)
            else:
                dx = block.backward(dx)
            self.gradients.append(np.linalg.norm(dx))
        self.gradients.reverse()
        return dx


def normalized(random, shape):
    x = random.standard_normal(shape)
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def gradients_by_depth(ax, L=24, seeds=8):
    """|dx| below each block over |dy|, for a random cotangent dy, beside what section 6 derives."""
    for pre, color in ((False, BACKWARD), (True, FORWARD)):
        measured, predicted = [], []
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            tower = Stack(L, pre).initialize(seed, "float64")
            x, dy = normalized(random, (4, 16, 64)), random.standard_normal((4, 16, 64))
            tower(x)
            direct = [float(m[-1].mean()) for block in tower.blocks for m in (block.norm1._kept[0], block.norm2._kept[0])]
            tower.backward(dy)
            measured.append(np.array(tower.gradients) / np.linalg.norm(dy))
            if pre:
                predicted.append(1 / np.array(tower.sizes))
            else:
                below = np.cumprod([1.0, *direct[::-1]])  # of the factors rstd from the top
                predicted.append(below[::2][::-1])
        depth = np.arange(L + 1)
        name = "pre-norm" if pre else "post-norm"
        ax.semilogy(depth, np.exp(np.log(measured).mean(0)), color=color, label=name)
        rule = "1 / size of x" if pre else "its direct path alone"
        ax.semilogy(depth, np.exp(np.log(predicted).mean(0)), color=color, linestyle=":", label=rule)
    ax.legend(frameon=False, fontsize=8)
    ax.set(xlabel="depth: blocks below", ylabel="|dx| / |dy|", ylim=(1e-8, 5), title="gradient at initialisation")


def perturbation_by_depth(ax, noise=0.01):
    """How far the output moves when every matrix does by 1% of itself, beside the sums of section 6."""
    depths = (2, 4, 8, 16, 32)
    for pre, color in ((False, BACKWARD), (True, FORWARD)):
        moved, predicted = [], []
        for L in depths:
            each = []
            for seed in range(4):
                random = np.random.default_rng(seed)
                tower = Stack(L, pre).initialize(seed, "float64")
                x = normalized(random, (4, 16, 64))
                with tower.without_keeping():
                    before = tower(x)
                    variance = (tower.sizes[-1] ** 2 - 1) / (2 * L) if pre else branch_variance()
                    matrices = tower.flat.data[: tower.flat.decayed]
                    matrices *= 1 + noise * random.standard_normal(matrices.size)
                    each.append(np.linalg.norm(tower(x) - before) / np.linalg.norm(before))
            moved.append(np.mean(each))
            branch = np.arange(1, 2 * L + 1)
            share = variance / (1 + variance * branch) if pre else np.full(2 * L, variance / (1 + variance))
            predicted.append(noise * np.sqrt(2 * share.sum()))  # two matrices in a branch
        ax.loglog(depths, moved, "o-", color=color, label="pre-norm" if pre else "post-norm", markersize=4)
        rule = "√log L" if pre else "√L"
        ax.loglog(depths, predicted, ":", color=color, label=f"derived: {rule}")
    ax.legend(frameon=False, fontsize=8)
    ax.set(xlabel="blocks", ylabel="relative change of the output", title="weights moved by 1%")
    ax.set_xticks(depths, depths)
    ax.set_yticks((0.02, 0.05, 0.1), ("2%", "5%", "10%"))
    ax.minorticks_off()


def branch_variance():
    """The mean variance of a branch's output whose input is normalized: the first block's, which all are like."""
    random = np.random.default_rng(0)
    tower = Stack(1, True).initialize(0, "float64")
    with tower.without_keeping():
        tower(normalized(random, (4, 16, 64)))
    return (tower.sizes[-1] ** 2 - 1) / 2


MASK, FIRST, V = 1, 2, 10


def palindromes(random, B, T=12):
    half = random.integers(FIRST, V, (B, T // 2))
    return np.concatenate([half, half[:, ::-1]], 1)


def masked(random, tokens):
    """15% chosen; of these 80% become [MASK], 10% another token, 10% stay."""
    chosen, kind = random.random(tokens.shape) < 0.15, random.random(tokens.shape)
    shown = np.where(chosen & (kind < 0.8), MASK, tokens)
    shown = np.where(chosen & (kind >= 0.9), random.integers(FIRST, V, tokens.shape), shown)
    return shown, np.where(chosen, tokens, -100)


class PreNormBERT(tinyllm.BERT):
    """BERT with the norms of its blocks moved before the branches, and one more behind the last."""

    def __init__(self, config, seed=0, dtype="float32"):
        BERTBase.__init__(self, config)
        self.last_norm = LayerNorm(config.hidden_size, dropout=config.hidden_dropout_prob)
        self.head = PretrainingHead(config, self.tokens)
        self.initialize(seed, dtype)

    def _block(self):
        block = super()._block()
        return PreNormBlock(block.norm1, block.attention, block.norm2, block.mlp)

    def hidden(self, tokens, token_types, context):
        x, r = self.dropout(self.norm(self.positions(self.tokens(tokens), context.positions))), None
        for block in self.blocks:
            x, r = block(x, r, context)
        return self.last_norm.add(x, r)[1]

    def hidden_backward(self, dh):
        dx, dr = self.last_norm.add_backward(dh)
        for block in reversed(self.blocks):
            dx, dr = block.backward(dx, dr)
        self.tokens.backward(self.positions.backward(self.norm.backward(self.dropout.backward(dx))))


def palindrome_config(layers):
    return tinyllm.BERTConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=12, type_vocab_size=0, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
        initializer_range=0.1,
    )  # fmt: skip


def train(model, random, steps, lr, warmup, batch=64):
    """-> the losses."""
    optimizer = tinyllm.Adam(model, lr=lr, weight_decay=0.01)
    losses = []
    for step in range(steps):
        optimizer.lr = lr * min(1, (step + 1) / warmup)
        model.zero_grad()
        losses.append(model.loss(*masked(random, palindromes(random, batch))))
        model.backward()
        tinyllm.clip_grad_norm(model, 1.0)
        optimizer.step()
    return losses


def loss_by_learning_rate(ax, layers=12, steps=800):
    rates = (3e-4, 1e-3, 3e-3, 1e-2)
    runs = [
        ("post-norm", tinyllm.BERT, 1, BACKWARD, "-"),
        ("post-norm, 200 steps of warm-up", tinyllm.BERT, 200, BACKWARD, "--"),
        ("pre-norm", PreNormBERT, 1, FORWARD, "-"),
    ]
    for name, kind, warmup, color, line in runs:
        finals = []
        for lr in rates:
            model = kind(palindrome_config(layers))
            finals.append(np.mean(train(model, np.random.default_rng(0), steps, lr, warmup, 32)[-50:]))
            print(f"{name}, lr {lr}: {finals[-1]:.3f}", flush=True)
        ax.semilogx(rates, finals, line, marker="o", markersize=4, color=color, label=name)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    ax.set(xlabel="learning rate", ylabel="loss", ylim=(0, 2.3), title=f"trained: {layers} blocks, {steps} steps")


def norm_order():
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    with tinyllm.kernels.use("reference"):
        gradients_by_depth(axes[0])
        perturbation_by_depth(axes[1])
    loss_by_learning_rate(axes[2])
    figure.tight_layout()


def palindrome_attention():
    """Trains the model of palindromes and shows where its heads look when a token is masked."""
    random = np.random.default_rng(0)
    model = tinyllm.BERT(palindrome_config(2))
    train(model, random, 300, 3e-3, 50)
    text = palindromes(random, 1)
    shown, targets = text.copy(), np.full_like(text, -100)
    shown[0, 3], targets[0, 3] = MASK, text[0, 3]
    model.loss(shown, targets)
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9))
    for layer, block in enumerate(model.blocks):
        qkv, _, lse, *_ = block.attention._kept[-1]
        q, k, _ = block.attention.split(qkv)
        scores = np.einsum("bihd,bjhd->bhij", q, k)[0] * block.attention.scale
        for head in range(2):
            ax = axes[2 * layer + head]
            ax.imshow(np.exp(scores[head] - lse[0, head][:, None]), cmap="Blues", vmin=0, vmax=1)
            ax.set(
                title=f"layer {layer + 1}, head {head + 1}", xlabel="looks at", xticks=range(0, 12, 3), yticks=[0, 3, 6, 9]
            )
    axes[0].set_ylabel("position (3 is masked)")
    figure.tight_layout()


FIGURES = [bert_architecture, norm_order, palindrome_attention]
