"""OPT in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and sampling.

    python examples/one_file/opt.py text.txt --steps 200

OPT is a GPT-2 with ReLU, separate maps for queries, keys and values, and positions that begin at row 2 of their table.
Each operation has its backward directly below it. The backward takes dy, the gradient of the loss with respect to the
output y. It returns dx for the input x, and puts the gradients of the parameters into g under their names, which are those
of Hugging Face's OPTForCausalLM. blogs/opt.md and blogs/gpt.md derive the formulas.
Sizes: B batch, T time, S key positions (here S = T), N = B T rows, C channels, H heads, D = C / H, F inner, V vocabulary.
Arrays: x input, y output, w b weights, dy dx dw db gradients, s scores, p probabilities, z logits.
Papers: Zhang et al. 2022 (OPT; not its 350M model, which has its norms after the sums), Vaswani et al. 2017 (attention),
Ba et al. 2016 (layer norm), Press & Wolf 2017 (one table for input and output), Loshchilov & Hutter 2019 (AdamW).
"""

import math
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # the parameters w or their gradients g, by name
TOKENS, POSITIONS = "model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"


@dataclass(frozen=True)
class Config:
    """Fields as in Hugging Face's OPTConfig. The defaults train in a minute. The comments give OPT-125M's values."""

    vocab_size: int  # 50272: V
    max_position_embeddings: int = 32  # 2048: the longest T
    num_hidden_layers: int = 4  # 12
    num_attention_heads: int = 4  # 12: H
    hidden_size: int = 128  # 768: C
    ffn_dim: int = 512  # 3072: F
    init_std: float = 0.08  # 0.02: standard deviation of fresh weights. A small model learns faster with more.
    tie_word_embeddings: bool = True  # the output projection is the token embedding


# The operations ---------------------------------------------------------------------------------------------------------
def linear(x: Array, w: Params, name: str) -> Array:
    """y = x w^T + b. PyTorch stores w as (outputs, inputs)."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # (N, C), (C, F), (F,) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Params, name: str, g: Params) -> Array:
    """dx = dy w,  dw = dy^T x,  db = sum_N dy."""
    g[f"{name}.weight"] = dy.T @ x  # (F, N), (N, C) -> (F, C)
    g[f"{name}.bias"] = dy.sum(0)  # (F,)
    return dy @ w[f"{name}.weight"]  # (N, F), (F, C) -> (N, C)


def layernorm(x: Array, w: Params, name: str) -> tuple[Array, tuple]:
    """y = n w + b,  n = (x - mean) rstd,  rstd = 1 / sqrt(variance + 1e-5), over the C channels of each row."""
    rstd = 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5)  # (N, 1)
    n = (x - x.mean(1, keepdims=True)) * rstd  # (N, C)
    return n * w[f"{name}.weight"] + w[f"{name}.bias"], (n, rstd)  # (N, C), (C,), (C,) -> (N, C)


def layernorm_backward(dy: Array, n: Array, rstd: Array, w: Params, name: str, g: Params) -> Array:
    """dw = sum_N dy n,  db = sum_N dy,  and with dn = dy w:  dx = rstd (dn - mean_C(dn) - n mean_C(dn n))."""
    g[f"{name}.weight"] = (dy * n).sum(0)  # (C,)
    g[f"{name}.bias"] = dy.sum(0)  # (C,)
    dn = dy * w[f"{name}.weight"]  # (N, C)
    return rstd * (dn - dn.mean(1, keepdims=True) - n * (dn * n).mean(1, keepdims=True))  # (N, C)


def relu(x: Array) -> Array:
    """y = max(x, 0)."""
    return np.maximum(x, 0)  # (N, F)


def relu_backward(dy: Array, x: Array) -> Array:
    """dx = dy where x > 0, else 0."""
    return dy * (x > 0)  # (N, F)


def attention(q: Array, k: Array, v: Array, B: int, H: int) -> tuple[Array, tuple]:
    """In each head:  s = q k^T / sqrt(D),  p = softmax(s) over the keys up to the query's position,  y = p v."""
    T, D = len(q) // B, q.shape[1] // H
    q, k, v = (x.reshape(B, T, H, D).swapaxes(1, 2) for x in (q, k, v))  # (N, C) -> (B, H, T, D) each
    s = q @ k.swapaxes(2, 3) / math.sqrt(D)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    s = np.where(np.tri(T, dtype=bool), s, -np.inf)  # (T, S), (B, H, T, S): later keys get p = 0
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
def block(x: Array, w: Params, at: str, config: Config, B: int) -> tuple[Array, tuple]:
    """x = x + attention(norm(x)), then x = x + mlp(norm(x)). `at` begins the names of the block's parameters."""
    h1, norm1 = layernorm(x, w, f"{at}.self_attn_layer_norm")  # (N, C)
    q = linear(h1, w, f"{at}.self_attn.q_proj")  # (N, C)
    k = linear(h1, w, f"{at}.self_attn.k_proj")  # (N, C)
    v = linear(h1, w, f"{at}.self_attn.v_proj")  # (N, C)
    a, heads = attention(q, k, v, B, config.num_attention_heads)  # (N, C) each -> (N, C)
    x = x + linear(a, w, f"{at}.self_attn.out_proj")  # (N, C)
    h2, norm2 = layernorm(x, w, f"{at}.final_layer_norm")  # (N, C)
    u = linear(h2, w, f"{at}.fc1")  # (N, C) -> (N, F)
    m = relu(u)  # (N, F)
    x = x + linear(m, w, f"{at}.fc2")  # (N, F) -> (N, C)
    return x, (norm1, h1, heads, a, norm2, h2, u, m)


def block_backward(dx: Array, w: Params, at: str, kept: tuple, g: Params) -> Array:
    """The block read from the bottom up. A sum passes dx on to both of its terms, and the branch adds its own part."""
    norm1, h1, heads, a, norm2, h2, u, m = kept
    dm = linear_backward(dx, m, w, f"{at}.fc2", g)  # (N, C) -> (N, F)
    du = relu_backward(dm, u)  # (N, F)
    dh2 = linear_backward(du, h2, w, f"{at}.fc1", g)  # (N, F) -> (N, C)
    dx = dx + layernorm_backward(dh2, *norm2, w, f"{at}.final_layer_norm", g)  # (N, C)
    da = linear_backward(dx, a, w, f"{at}.self_attn.out_proj", g)  # (N, C)
    dq, dk, dv = attention_backward(da, *heads)  # (N, C) -> (N, C) each
    dh1 = linear_backward(dq, h1, w, f"{at}.self_attn.q_proj", g)  # (N, C)
    dh1 += linear_backward(dk, h1, w, f"{at}.self_attn.k_proj", g)  # (N, C): every use of h1 adds to its gradient
    dh1 += linear_backward(dv, h1, w, f"{at}.self_attn.v_proj", g)  # (N, C)
    return dx + layernorm_backward(dh1, *norm1, w, f"{at}.self_attn_layer_norm", g)  # (N, C)


def logits(w: Params, config: Config, tokens: Array) -> tuple[Array, tuple]:
    """z (N, V), whose softmax is the probability of each next token, for tokens (B, T); and what the backward needs."""
    B, T = tokens.shape
    x = w[TOKENS][tokens] + w[POSITIONS][2 : 2 + T]  # (B, T, C), (T, C) -> (B, T, C)
    x = x.reshape(B * T, -1)  # (N, C)
    blocks = []
    for i in range(config.num_hidden_layers):
        x, kept = block(x, w, f"model.decoder.layers.{i}", config, B)  # (N, C)
        blocks.append(kept)
    h, norm = layernorm(x, w, "model.decoder.final_layer_norm")  # (N, C)
    head = w[TOKENS if config.tie_word_embeddings else "lm_head.weight"]  # (V, C)
    return h @ head.T, (tokens, blocks, norm, h, head)  # (N, C), (C, V) -> (N, V)


def forward(w: Params, config: Config, tokens: Array, targets: Array) -> tuple[float, tuple]:
    """The mean cross-entropy of predicting targets (B, T) from tokens (B, T), and what the backward needs."""
    z, kept = logits(w, config, tokens)  # (N, V)
    loss, logp = cross_entropy(z, targets.reshape(-1))  # a number, (N, V)
    return loss, (*kept, logp, targets.reshape(-1))


def backward(w: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to every parameter, by the parameter's name."""
    tokens, blocks, norm, h, head, logp, targets = kept
    dz = cross_entropy_backward(logp, targets)  # (N, V)
    g: Params = {"lm_head.weight": dz.T @ h}  # (V, N), (N, C) -> (V, C)
    dh = dz @ head  # (N, V), (V, C) -> (N, C)
    dx = layernorm_backward(dh, *norm, w, "model.decoder.final_layer_norm", g)  # (N, C)
    for i in reversed(range(config.num_hidden_layers)):
        dx = block_backward(dx, w, f"model.decoder.layers.{i}", blocks[i], g)  # (N, C)
    dx = dx.reshape(*tokens.shape, -1)  # (N, C) -> (B, T, C)
    g[POSITIONS] = np.zeros_like(w[POSITIONS])  # (max_position_embeddings + 2, C)
    g[POSITIONS][2 : 2 + tokens.shape[1]] = dx.sum(0)  # (B, T, C) -> (T, C)
    g[TOKENS] = np.zeros_like(w[TOKENS])  # (V, C)
    np.add.at(g[TOKENS], tokens, dx)  # (B, T), (B, T, C) into (V, C). += would count a repeated token only once
    if config.tie_word_embeddings:  # one table, used twice: its gradient is the sum, under both names
        g["lm_head.weight"] = g[TOKENS] = g["lm_head.weight"] + g[TOKENS]  # (V, C)
    return g


# Training and sampling --------------------------------------------------------------------------------------------------
def init(config: Config, seed: int) -> Params:
    """Fresh float32 parameters: matrices from a normal distribution, the norms' weights 1, all biases 0."""
    V, C, F, L = config.vocab_size, config.hidden_size, config.ffn_dim, config.num_hidden_layers
    in_block = {f"self_attn.{name}_proj": (C, C) for name in ("q", "k", "v", "out")}
    in_block |= {"self_attn_layer_norm": (C,), "fc1": (F, C), "fc2": (C, F), "final_layer_norm": (C,)}
    layers = {f"model.decoder.layers.{i}.{name}": shape for i in range(L) for name, shape in in_block.items()}
    layers["model.decoder.final_layer_norm"] = (C,)
    shapes = {TOKENS: (V, C), POSITIONS: (config.max_position_embeddings + 2, C), "lm_head.weight": (V, C)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}  # one bias for each output
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            params[name] = np.full(shape, 0 if name.endswith("bias") else 1, np.float32)
        else:  # 2 L branches add to the residual stream: their last maps start smaller, so that the sum stays small
            std = config.init_std / (math.sqrt(2 * L) if name.endswith(("out_proj.weight", "fc2.weight")) else 1)
            params[name] = std * rng.standard_normal(shape, np.float32)
    if config.tie_word_embeddings:  # one array under two names
        params["lm_head.weight"] = params[TOKENS]
    return params


def adam(params: Params, grads: Params, m: Params, v: Params, step: int, lr: float) -> None:
    """Update the parameters in place. m and v are moving means of each gradient and of its square."""
    norm = math.sqrt(sum(float((grads[name] ** 2).sum()) for name in m))  # of all gradients together
    for name in m:
        w, g = params[name], grads[name] / max(1.0, norm)  # a norm above 1 is scaled down to 1
        m[name] = 0.9 * m[name] + 0.1 * g
        v[name] = 0.99 * v[name] + 0.01 * g * g
        mean, square = m[name] / (1 - 0.9**step), v[name] / (1 - 0.99**step)  # corrected for their start at 0
        w -= lr * (mean / (np.sqrt(square) + 1e-8) + (0.1 * w if w.ndim == 2 else 0))  # only matrices decay


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Train a small OPT on a text file.", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("text", help="Text file in UTF-8 to train on. Its characters are the vocabulary.")
    parser.add_argument("--steps", type=int, default=200, help="Number of training steps.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed for the weights, the data order and the sample.")
    parser.add_argument("--temperature", type=float, default=0.8, help="Divisor of the logits. Lower is less random.")
    options = parser.parse_args(argv)
    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read '{options.text}': {error}. Pass the path of a text file in UTF-8.") from None
    characters, tokens = np.unique(list(text), return_inverse=True)  # (V,), (len(text),): text = characters[tokens]
    config, rng = Config(vocab_size=len(characters)), np.random.default_rng(options.seed)
    B, T = 32, config.max_position_embeddings
    if len(text) <= T:
        raise SystemExit(f"'{options.text}' has {len(text)} characters, fewer than {T + 1}. Pass a longer text.")

    params = init(config, options.seed)
    m = {name: np.zeros_like(w) for name, w in params.items()}
    if config.tie_word_embeddings:
        del m["lm_head.weight"]  # so that Adam updates the shared array once
    v = {name: np.zeros_like(w) for name, w in m.items()}
    for step in range(1, options.steps + 1):
        starts = rng.integers(0, len(tokens) - T, B)  # (B,)
        pieces = tokens[starts[:, None] + np.arange(T + 1)]  # (B, T + 1)
        loss, kept = forward(params, config, pieces[:, :-1], pieces[:, 1:])  # the target is the next token
        grads = backward(params, config, kept)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / options.steps)  # from 1 to 0.1
        adam(params, grads, m, v, step, 3e-3 * min(1, step / 20) * cosine)  # the first 20 steps are shorter
        if step % 20 == 0 or step in (1, options.steps):
            print(f"step {step:4d}  loss {loss:.4f}", flush=True)

    written = [int(tokens[0])]
    for _ in range(300):  # each token is drawn from softmax(z / temperature), z the logits after the tokens so far
        z, _ = logits(params, config, np.array([written[-T:]]))  # (1, T) -> (T, V)
        p = np.exp((z[-1] - z[-1].max()).astype(np.float64) / max(options.temperature, 1e-3))  # (V,)
        written.append(int(rng.choice(len(p), p=p / p.sum())))
    print("".join(characters[written]))


if __name__ == "__main__":
    main()
