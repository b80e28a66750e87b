"""BERT in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and filling gaps.

    python examples/one_file/bert.py text.txt --steps 1000

BERT learns to guess hidden tokens, here characters, from those on both sides of them. Each operation has its backward
directly below it. The backward takes dy, the gradient of the loss with respect to the output y. It returns dx for the input
x, and puts the gradients of the parameters into g under their names, which are those of Hugging Face's BertForMaskedLM.
blogs/bert.md and blogs/gpt.md derive the formulas.
Sizes: B batch, T time, S key positions (here S = T), N = B T rows, C channels, H heads, D = C / H, F inner, V vocabulary.
Arrays: x input, y output, w b weights, dy dx dw db gradients, s scores, p probabilities, z logits.
Papers: Devlin et al. 2019 (BERT), Vaswani et al. 2017 (attention), Ba et al. 2016 (layer norm), Hendrycks & Gimpel 2016
(GELU), Press & Wolf 2017 (one table for input and output), Loshchilov & Hutter 2019 (AdamW).
"""

import math
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # the parameters w or their gradients g, by name
WORD = "bert.embeddings.word_embeddings.weight"
POSITION = "bert.embeddings.position_embeddings.weight"
TYPE = "bert.embeddings.token_type_embeddings.weight"
BIAS = "cls.predictions.bias"
TIED = {"cls.predictions.decoder.weight": WORD, "cls.predictions.decoder.bias": BIAS}  # second names of the same arrays


@dataclass(frozen=True)
class Config:
    """Fields as in Hugging Face's BertConfig. The defaults train in a minute. The comments give BERT-base's values."""

    vocab_size: int  # 30522: V
    hidden_size: int = 64  # 768: C
    num_hidden_layers: int = 2  # 12
    num_attention_heads: int = 4  # 12: H
    intermediate_size: int = 256  # 3072: F
    max_position_embeddings: int = 24  # 512: the longest T
    type_vocab_size: int = 2  # 2: token types, 0 in the first sentence and 1 in the second
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.05  # 0.02: standard deviation of fresh weights. A small model learns faster with more.


# The operations ---------------------------------------------------------------------------------------------------------
def linear(x: Array, w: Params, name: str) -> Array:
    """y = x w^T + b. PyTorch stores w as (outputs, inputs)."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # (N, C), (C, F), (F,) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Params, name: str, g: Params) -> Array:
    """dx = dy w,  dw = dy^T x,  db = sum_N dy."""
    g[f"{name}.weight"] = dy.T @ x  # (F, N), (N, C) -> (F, C)
    g[f"{name}.bias"] = dy.sum(0)  # (F,)
    return dy @ w[f"{name}.weight"]  # (N, F), (F, C) -> (N, C)


def layernorm(x: Array, w: Params, name: str, eps: float) -> tuple[Array, tuple]:
    """y = n w + b,  n = (x - mean) rstd,  rstd = 1 / sqrt(variance + eps), over the C channels of each row."""
    rstd = 1 / np.sqrt(x.var(1, keepdims=True) + eps)  # (N, 1)
    n = (x - x.mean(1, keepdims=True)) * rstd  # (N, C)
    return n * w[f"{name}.weight"] + w[f"{name}.bias"], (n, rstd)  # (N, C), (C,), (C,) -> (N, C)


def layernorm_backward(dy: Array, n: Array, rstd: Array, w: Params, name: str, g: Params) -> Array:
    """dw = sum_N dy n,  db = sum_N dy,  and with dn = dy w:  dx = rstd (dn - mean_C(dn) - n mean_C(dn n))."""
    g[f"{name}.weight"] = (dy * n).sum(0)  # (C,)
    g[f"{name}.bias"] = dy.sum(0)  # (C,)
    dn = dy * w[f"{name}.weight"]  # (N, C)
    return rstd * (dn - dn.mean(1, keepdims=True) - n * (dn * n).mean(1, keepdims=True))  # (N, C)


def erf(x: Array) -> Array:
    """The error function of every number. NumPy does not have it, but Python does."""
    return np.fromiter(map(math.erf, x.ravel().tolist()), x.dtype, x.size).reshape(x.shape)  # (N, F)


def gelu(x: Array) -> tuple[Array, Array]:
    """y = x Phi(x),  Phi(x) = (1 + erf(x / sqrt(2))) / 2, the distribution function of the normal distribution."""
    phi = (1 + erf(x / math.sqrt(2))) / 2  # (N, F)
    return x * phi, phi  # (N, F) each


def gelu_backward(dy: Array, x: Array, phi: Array) -> Array:
    """dx = dy (Phi(x) + x Phi'(x)),  Phi'(x) = exp(-x^2 / 2) / sqrt(2 pi)."""
    return dy * (phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))  # (N, F)


def attention(q: Array, k: Array, v: Array, mask: Array, H: int) -> tuple[Array, tuple]:
    """In each head:  s = q k^T / sqrt(D),  p = softmax(s) over the keys that are real tokens,  y = p v."""
    (B, T), D = mask.shape, q.shape[1] // H
    q, k, v = (x.reshape(B, T, H, D).swapaxes(1, 2) for x in (q, k, v))  # (N, C) -> (B, H, T, D) each
    s = q @ k.swapaxes(2, 3) / math.sqrt(D)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    s = np.where(mask[:, None, None, :], s, -np.inf)  # (B, 1, 1, S), (B, H, T, S): padding gets p = 0
    e = np.exp(s - s.max(3, keepdims=True))  # (B, H, T, S): the maximum cancels in p, and prevents overflow
    p = e / e.sum(3, keepdims=True)  # (B, H, T, S)
    y = (p @ v).swapaxes(1, 2).reshape(B * T, H * D)  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D) -> (N, C)
    return y, (q, k, v, p)


def attention_backward(dy: Array, q: Array, k: Array, v: Array, p: Array) -> list[Array]:
    """dv = p^T dy,  dp = dy v^T,  ds = p (dp - sum_S(dp p)),  dq = ds k / sqrt(D),  dk = ds^T q / sqrt(D)."""
    B, H, T, D = q.shape
    dy = dy.reshape(B, T, H, D).swapaxes(1, 2)  # (N, C) -> (B, H, T, D)
    dv = p.swapaxes(2, 3) @ dy  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dp = dy @ v.swapaxes(2, 3)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    ds = p * (dp - (dp * p).sum(3, keepdims=True))  # (B, H, T, S): 0 at the masked keys, where p = 0
    dq = ds @ k / math.sqrt(D)  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)
    dk = ds.swapaxes(2, 3) @ q / math.sqrt(D)  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    return [dx.swapaxes(1, 2).reshape(B * T, H * D) for dx in (dq, dk, dv)]  # (N, C) each


def cross_entropy(z: Array, targets: Array) -> tuple[float, Array]:
    """loss = -mean log p[target],  log p = z - log sum_V exp(z). Rows with the target -100 do not count."""
    z = z - z.max(1, keepdims=True)  # (N, V)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))  # (N, V)
    rows = np.flatnonzero(targets != -100)  # (M,): the rows that count
    return float(-logp[rows, targets[rows]].sum()) / max(1, len(rows)), logp  # a number, (N, V)


def cross_entropy_backward(logp: Array, targets: Array) -> Array:
    """dz = (p - onehot(target)) / M in the M rows that count, and 0 in the others."""
    dz = np.where(targets[:, None] == -100, 0, np.exp(logp))  # (N, 1), (N, V) -> (N, V)
    rows = np.flatnonzero(targets != -100)  # (M,)
    dz[rows, targets[rows]] -= 1  # (M,)
    return dz / max(1, len(rows))  # (N, V)


# The model --------------------------------------------------------------------------------------------------------------
def block(x: Array, w: Params, at: str, config: Config, mask: Array) -> tuple[Array, tuple]:
    """h = norm(x + attention(x)), then y = norm(h + mlp(h)). `at` begins the names of the block's parameters."""
    q, k, v = (linear(x, w, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))  # (N, C) each
    a, heads = attention(q, k, v, mask, config.num_attention_heads)  # (N, C)
    h = x + linear(a, w, f"{at}.attention.output.dense")  # (N, C)
    h, norm1 = layernorm(h, w, f"{at}.attention.output.LayerNorm", config.layer_norm_eps)  # (N, C)
    u = linear(h, w, f"{at}.intermediate.dense")  # (N, C) -> (N, F)
    m, phi = gelu(u)  # (N, F) each
    y = h + linear(m, w, f"{at}.output.dense")  # (N, F) -> (N, C)
    y, norm2 = layernorm(y, w, f"{at}.output.LayerNorm", config.layer_norm_eps)  # (N, C)
    return y, (x, heads, a, norm1, h, u, phi, m, norm2)


def block_backward(dy: Array, w: Params, at: str, kept: tuple, g: Params) -> Array:
    """The block read from the bottom up. A sum passes its gradient on to both terms, and the branch adds its own part."""
    x, heads, a, norm1, h, u, phi, m, norm2 = kept
    dh = layernorm_backward(dy, *norm2, w, f"{at}.output.LayerNorm", g)  # (N, C)
    dm = linear_backward(dh, m, w, f"{at}.output.dense", g)  # (N, C) -> (N, F)
    du = gelu_backward(dm, u, phi)  # (N, F)
    dh = dh + linear_backward(du, h, w, f"{at}.intermediate.dense", g)  # (N, F) -> (N, C)
    dx = layernorm_backward(dh, *norm1, w, f"{at}.attention.output.LayerNorm", g)  # (N, C)
    da = linear_backward(dx, a, w, f"{at}.attention.output.dense", g)  # (N, C)
    for name, d in zip(("query", "key", "value"), attention_backward(da, *heads)):  # (N, C): dq, dk and dv
        dx = dx + linear_backward(d, x, w, f"{at}.attention.self.{name}", g)  # (N, C): every use of x adds to its gradient
    return dx


def logits(w: Params, config: Config, tokens: Array, types=None, mask=None) -> tuple[Array, tuple]:
    """z (N, V), whose softmax is the probability of each token at each place of tokens (B, T)."""
    types = np.zeros_like(tokens) if types is None else types  # (B, T): all in the first sentence
    mask = np.ones_like(tokens, bool) if mask is None else mask.astype(bool)  # (B, T): true where a token is not padding
    x = w[WORD][tokens] + w[POSITION][: tokens.shape[1]] + w[TYPE][types]  # (B, T, C), (T, C), (B, T, C) -> (B, T, C)
    x = x.reshape(tokens.size, -1)  # (B, T, C) -> (N, C)
    x, norm0 = layernorm(x, w, "bert.embeddings.LayerNorm", config.layer_norm_eps)  # (N, C)
    blocks = []
    for i in range(config.num_hidden_layers):
        x, kept = block(x, w, f"bert.encoder.layer.{i}", config, mask)  # (N, C)
        blocks.append(kept)
    u = linear(x, w, "cls.predictions.transform.dense")  # (N, C)
    m, phi = gelu(u)  # (N, C) each
    h, norm1 = layernorm(m, w, "cls.predictions.transform.LayerNorm", config.layer_norm_eps)  # (N, C)
    return h @ w[WORD].T + w[BIAS], (tokens, types, norm0, blocks, x, u, phi, norm1, h)  # (N, C), (C, V), (V,) -> (N, V)


def forward(w: Params, config: Config, tokens: Array, targets: Array, types=None, mask=None) -> tuple[float, tuple]:
    """The mean cross-entropy of the targets (B, T) that are not -100, and what the backward needs."""
    z, kept = logits(w, config, tokens, types, mask)  # (N, V)
    loss, logp = cross_entropy(z, targets.reshape(-1))  # a number, (N, V)
    return loss, (*kept, logp, targets.reshape(-1))


def backward(w: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to every parameter, by the parameter's name."""
    tokens, types, norm0, blocks, x, u, phi, norm1, h, logp, targets = kept
    dz = cross_entropy_backward(logp, targets)  # (N, V)
    g: Params = {WORD: dz.T @ h, BIAS: dz.sum(0)}  # (V, N), (N, C) -> (V, C); (V,)
    dh = dz @ w[WORD]  # (N, V), (V, C) -> (N, C)
    dm = layernorm_backward(dh, *norm1, w, "cls.predictions.transform.LayerNorm", g)  # (N, C)
    du = gelu_backward(dm, u, phi)  # (N, C)
    dx = linear_backward(du, x, w, "cls.predictions.transform.dense", g)  # (N, C)
    for i in reversed(range(config.num_hidden_layers)):
        dx = block_backward(dx, w, f"bert.encoder.layer.{i}", blocks[i], g)  # (N, C)
    dx = layernorm_backward(dx, *norm0, w, "bert.embeddings.LayerNorm", g)  # (N, C)
    dx = dx.reshape(*tokens.shape, -1)  # (N, C) -> (B, T, C): the sum of three embeddings passes it on to each of them
    g |= {name: np.zeros_like(w[name]) for name in (POSITION, TYPE)}  # (max_position_embeddings, C), (type_vocab_size, C)
    g[POSITION][: tokens.shape[1]] = dx.sum(0)  # (B, T, C) -> (T, C)
    np.add.at(g[TYPE], types, dx)  # (B, T, C) into (type_vocab_size, C). += would count a repeated type only once
    np.add.at(g[WORD], tokens, dx)  # (B, T, C) into (V, C): one table, used twice, so its gradient is a sum
    return g | {name: g[first] for name, first in TIED.items()}


# Training and filling gaps ----------------------------------------------------------------------------------------------
def init(config: Config, seed: int) -> Params:
    """Fresh float32 parameters: matrices from a normal distribution, the norms' weights 1, all biases 0."""
    V, C, F = config.vocab_size, config.hidden_size, config.intermediate_size
    in_block = {f"attention.self.{name}": (C, C) for name in ("query", "key", "value")}
    in_block |= {"attention.output.dense": (C, C), "attention.output.LayerNorm": (C,)}
    in_block |= {"intermediate.dense": (F, C), "output.dense": (C, F), "output.LayerNorm": (C,)}
    layers = {f"bert.encoder.layer.{i}.{x}": shape for i in range(config.num_hidden_layers) for x, shape in in_block.items()}
    layers |= {"cls.predictions.transform.dense": (C, C), "cls.predictions.transform.LayerNorm": (C,)}
    layers |= {"bert.embeddings.LayerNorm": (C,)}
    shapes = {WORD: (V, C), POSITION: (config.max_position_embeddings, C), TYPE: (config.type_vocab_size, C), BIAS: (V,)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}  # one bias for each output
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        random = config.initializer_range * rng.standard_normal(shape, np.float32)
        params[name] = random if len(shape) == 2 else np.full(shape, 0 if name.endswith("bias") else 1, np.float32)
    return params | {name: params[first] for name, first in TIED.items()}


def adam(params: Params, grads: Params, m: Params, v: Params, step: int, lr: float) -> None:
    """Update the parameters in place. m and v are moving means of each gradient and of its square."""
    norm = math.sqrt(sum(float((grads[name] ** 2).sum()) for name in m))  # of all gradients together
    for name in m:
        w, g = params[name], grads[name] / max(1.0, norm)  # a norm above 1 is scaled down to 1
        m[name] = 0.9 * m[name] + 0.1 * g
        v[name] = 0.99 * v[name] + 0.01 * g * g
        mean, square = m[name] / (1 - 0.9**step), v[name] / (1 - 0.99**step)  # corrected for their start at 0
        w -= lr * (mean / (np.sqrt(square) + 1e-8) + (0.1 * w if w.ndim == 2 else 0))  # only matrices decay


def hide(tokens: Array, mask_id: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Choose 15 % of the tokens (B, T) as targets. Show 80 % of these as [MASK], 10 % as a random token, 10 % unchanged."""
    chosen, kind = rng.random(tokens.shape) < 0.15, rng.random(tokens.shape)  # (B, T) each
    shown = np.where(chosen & (kind < 0.8), mask_id, tokens)  # (B, T)
    shown = np.where(chosen & (kind >= 0.9), rng.integers(0, mask_id, tokens.shape), shown)  # (B, T)
    return shown, np.where(chosen, tokens, -100)  # (B, T) each


def fill(w: Params, config: Config, tokens: Array, mask_id: int) -> Array:
    """The probability (M, V) of each token at the M gaps, the places where tokens (B, T) hold [MASK]."""
    z, _ = logits(w, config, tokens)  # (N, V)
    z = z[tokens.reshape(-1) == mask_id]  # (M, V)
    e = np.exp(z - z.max(1, keepdims=True))  # (M, V)
    return e / e.sum(1, keepdims=True)  # (M, V)


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Train a small BERT on a text file.", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("text", help="Text file in UTF-8 to train on. Its characters are the vocabulary.")
    parser.add_argument("--steps", type=int, default=1000, help="Number of training steps.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed for the weights, the data order and the gaps.")
    options = parser.parse_args(argv)
    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read '{options.text}': {error}. Pass the path of a text file in UTF-8.") from None
    characters, tokens = np.unique(list(text), return_inverse=True)  # (V - 1,), (len(text),): text = characters[tokens]
    vocabulary, mask_id = [*characters.tolist(), "[MASK]"], len(characters)
    config, rng = Config(vocab_size=len(vocabulary)), np.random.default_rng(options.seed)
    B, T = 48, config.max_position_embeddings
    if len(text) < 10 * T:
        raise SystemExit(f"'{options.text}' has {len(text)} characters, fewer than {10 * T}. Pass a longer text.")
    train, held_out = np.split(tokens, [len(tokens) * 9 // 10])

    params = init(config, options.seed)
    m = {name: np.zeros_like(w) for name, w in params.items() if name not in TIED}  # Adam updates a shared array once
    v = {name: np.zeros_like(w) for name, w in m.items()}
    for step in range(1, options.steps + 1):
        starts = rng.integers(0, len(train) - T + 1, B)  # (B,)
        shown, targets = hide(train[starts[:, None] + np.arange(T)], mask_id, rng)  # (B, T) each
        loss, kept = forward(params, config, shown, targets)
        grads = backward(params, config, kept)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / options.steps)  # from 1 to 0.1
        adam(params, grads, m, v, step, 3e-3 * min(1, step / 50) * cosine)  # the first 50 steps are shorter
        if step % 20 == 0 or step in (1, options.steps):
            print(f"step {step:4d}  loss {loss:.4f}", flush=True)

    print("\nHeld-out pieces of text with one character hidden, and the most probable characters there (what it was)")
    for start in rng.integers(0, len(held_out) - T + 1, 8):
        piece, gap = held_out[start : start + T], rng.integers(T)  # (T,), a position
        shown = np.where(np.arange(T) == gap, mask_id, piece)  # (T,)
        p = fill(params, config, shown[None], mask_id)[0]  # (1, T) -> (V,)
        best = ", ".join(f"{vocabulary[i]!r} {p[i]:.0%}" for i in np.argsort(-p[:mask_id])[:4])
        print(f"{''.join(vocabulary[i] for i in shown)!r:40} {best}  ({vocabulary[piece[gap]]!r})")


if __name__ == "__main__":
    main()
