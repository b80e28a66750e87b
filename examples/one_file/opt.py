"""OPT in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and sampling.

    python examples/one_file/opt.py text.txt --steps 200

OPT is a GPT-2 with ReLU, separate query, key and value maps, and position embeddings that begin at row 2 of their table.
OPT-350M differs from the other sizes, with its norms after the sums, and is not covered.

Each operation has its backward directly below it. The backward takes dy, the gradient of the loss with respect to the
operation's output y, and returns the gradients with respect to its inputs. blogs/gpt.md and blogs/opt.md derive every
formula. The parameters have the names and layouts of Hugging Face's OPTForCausalLM. All arithmetic stays in their dtype.
There is no dropout and no padding.

Sizes: B batch, T time, S key positions (here S = T), C channels, H heads, D = C / H head size, F feed-forward, V vocabulary,
N = B T rows. Arrays: x input, y output, w b weights, dy dx dw db gradients, s scores, p probabilities, f residual branch,
pos positions.

Zhang et al. 2022, OPT: Open Pre-trained Transformer Language Models. Vaswani et al. 2017, Attention Is All You Need.
Ba et al. 2016, Layer Normalization. Press & Wolf 2017, Using the Output Embedding to Improve Language Models.
Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # parameters or gradients, by name

EPS = 1e-5  # of all norms
OFFSET = 2  # position 0 uses row 2 of the position table. OPT's own training code reserves the rows before it.
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


def embedding(rows: Array, w: Array) -> Array:
    """y = w[rows]."""
    return w[rows]  # (N,), (V, C) -> (N, C)


def embedding_backward(dy: Array, rows: Array, w: Array) -> Array:
    """dw[r] is the sum of dy over all n with rows[n] = r. `dw[rows] += dy` would keep only one of them."""
    dw = np.zeros_like(w)  # (V, C)
    np.add.at(dw, rows, dy)  # (N,), (N, C) added into (V, C)
    return dw  # (V, C)


def linear(x: Array, w: Array, b: Array) -> Array:
    """y = x w^T + b. PyTorch stores w as (outputs, inputs)."""
    return x @ w.T + b  # (N, C), (C, F), (F,) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """dx = dy w,  dw = dy^T x,  db = sum_N dy."""
    dx = dy @ w  # (N, F), (F, C) -> (N, C)
    dw = dy.T @ x  # (F, N), (N, C) -> (F, C)
    db = dy.sum(0)  # (F,)
    return dx, dw, db


def layernorm(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """y = n w + b,  n = (x - mean) rstd,  rstd = 1 / sqrt(variance + EPS), over the C channels of each row."""
    rstd = 1 / np.sqrt(x.var(1, keepdims=True) + EPS)  # (N, 1)
    n = (x - x.mean(1, keepdims=True)) * rstd  # (N, C)
    return n * w + b, (n, rstd)  # (N, C)


def layernorm_backward(dy: Array, w: Array, n: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """dw = sum_N dy n,  db = sum_N dy,  and with dn = dy w:  dx = rstd (dn - mean_C(dn) - n mean_C(dn n))."""
    dw = (dy * n).sum(0)  # (C,)
    db = dy.sum(0)  # (C,)
    dn = dy * w  # (N, C)
    dx = rstd * (dn - dn.mean(1, keepdims=True) - n * (dn * n).mean(1, keepdims=True))  # (N, C)
    return dx, dw, db


def relu(x: Array) -> Array:
    """y = max(x, 0)."""
    return np.maximum(x, 0)  # (N, F)


def relu_backward(dy: Array, x: Array) -> Array:
    """dx = dy where x > 0, else 0."""
    return dy * (x > 0)  # (N, F)


def softmax(x: Array) -> Array:
    """y = exp(x) / sum exp(x) over the last axis. Subtracting the maximum cancels out, and prevents overflow."""
    e = np.exp(x - x.max(-1, keepdims=True))  # (..., S)
    return e / e.sum(-1, keepdims=True)  # (..., S)


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx = y (dy - sum(dy y)). Where y = 0, as at masked keys, dx = 0: the mask needs no code of its own."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))  # (..., S)


def attention(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """s = q k^T / sqrt(D),  p = softmax(s) over the keys up to the query's position,  y = p v."""
    T, D = q.shape[2:]
    s = q @ k.swapaxes(2, 3) / math.sqrt(D)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    s = np.where(np.tri(T, dtype=bool), s, -np.inf)  # (T, S), (B, H, T, S): later keys get p = 0
    p = softmax(s)  # (B, H, T, S)
    return p @ v, p  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)


def attention_backward(dy: Array, q: Array, k: Array, v: Array, p: Array) -> tuple[Array, Array, Array]:
    """dv = p^T dy,  dp = dy v^T,  ds = p (dp - sum_S(dp p)),  dq = ds k / sqrt(D),  dk = ds^T q / sqrt(D)."""
    D = q.shape[3]
    dv = p.swapaxes(2, 3) @ dy  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dp = dy @ v.swapaxes(2, 3)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    ds = softmax_backward(dp, p)  # (B, H, T, S)
    dq = ds @ k / math.sqrt(D)  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)
    dk = ds.swapaxes(2, 3) @ q / math.sqrt(D)  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    return dq, dk, dv


def split_heads(x: Array, B: int, H: int) -> Array:
    """Cut each row into heads. merge_heads is the inverse and, since only the order changes, the backward."""
    return x.reshape(B, -1, H, x.shape[1] // H).swapaxes(1, 2)  # (N, C) -> (B, T, H, D) -> (B, H, T, D)


def merge_heads(x: Array) -> Array:
    """Put the heads of each row side by side. split_heads is the inverse and the backward."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B * T, H * D)  # (B, H, T, D) -> (B, T, H, D) -> (N, C)


def cross_entropy(z: Array, targets: Array) -> tuple[float, Array]:
    """loss = -mean log p[target],  log p = z - log sum_V exp(z). Rows with the target -100 do not count."""
    rows = np.flatnonzero(targets != -100)  # (M,): the rows that count
    z = z - z.max(1, keepdims=True)  # (N, V)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))  # (N, V)
    loss = (-logp[rows, targets[rows]]).sum() / max(1, len(rows))  # (M,) -> a number
    return float(loss), logp


def cross_entropy_backward(logp: Array, targets: Array) -> Array:
    """dz = (p - onehot(target)) / M in the M rows that count, and 0 in the others."""
    rows = np.flatnonzero(targets != -100)  # (M,)
    dz = np.zeros_like(logp)  # (N, V)
    dz[rows] = np.exp(logp[rows])  # (M, V)
    dz[rows, targets[rows]] -= 1  # (M,)
    return dz / max(1, len(rows))  # (N, V)


# The model --------------------------------------------------------------------------------------------------------------


def block(x: Array, w: Params, config: Config, B: int) -> tuple[Array, tuple]:
    """x = x + attention(norm(x)), then x = x + mlp(norm(x)). w holds the block's parameters."""
    h1, norm1 = layernorm(x, w["self_attn_layer_norm.weight"], w["self_attn_layer_norm.bias"])  # (N, C)
    q = linear(h1, w["self_attn.q_proj.weight"], w["self_attn.q_proj.bias"])  # (N, C)
    k = linear(h1, w["self_attn.k_proj.weight"], w["self_attn.k_proj.bias"])  # (N, C)
    v = linear(h1, w["self_attn.v_proj.weight"], w["self_attn.v_proj.bias"])  # (N, C)
    q, k, v = (split_heads(part, B, config.num_attention_heads) for part in (q, k, v))  # (N, C) -> (B, H, T, D) each
    y, p = attention(q, k, v)  # (B, H, T, D), (B, H, T, S)
    a = merge_heads(y)  # (B, H, T, D) -> (N, C)
    f = linear(a, w["self_attn.out_proj.weight"], w["self_attn.out_proj.bias"])  # (N, C)
    x = x + f  # (N, C)
    h2, norm2 = layernorm(x, w["final_layer_norm.weight"], w["final_layer_norm.bias"])  # (N, C)
    u = linear(h2, w["fc1.weight"], w["fc1.bias"])  # (N, F)
    m = relu(u)  # (N, F)
    f = linear(m, w["fc2.weight"], w["fc2.bias"])  # (N, C)
    return x + f, (norm1, h1, q, k, v, p, a, norm2, h2, u, m)  # (N, C)


def block_backward(dx: Array, w: Params, kept: tuple) -> tuple[Array, Params]:
    """The block read from the bottom up. x + f passes dx on to x and to f. The branch f sends dx2 (dx1) back to x."""
    norm1, h1, q, k, v, p, a, norm2, h2, u, m = kept
    g: Params = {}  # the gradients, by the names in w
    dm, g["fc2.weight"], g["fc2.bias"] = linear_backward(dx, m, w["fc2.weight"])  # (N, F)
    du = relu_backward(dm, u)  # (N, F)
    dh2, g["fc1.weight"], g["fc1.bias"] = linear_backward(du, h2, w["fc1.weight"])  # (N, C)
    dx2, g["final_layer_norm.weight"], g["final_layer_norm.bias"] = layernorm_backward(
        dh2, w["final_layer_norm.weight"], *norm2
    )  # (N, C)
    dx = dx + dx2  # (N, C)
    da, g["self_attn.out_proj.weight"], g["self_attn.out_proj.bias"] = linear_backward(dx, a, w["self_attn.out_proj.weight"])
    dy = split_heads(da, *q.shape[:2])  # (N, C) -> (B, H, T, D)
    dq, dk, dv = (merge_heads(part) for part in attention_backward(dy, q, k, v, p))  # (B, H, T, D) -> (N, C) each
    dh_v, g["self_attn.v_proj.weight"], g["self_attn.v_proj.bias"] = linear_backward(dv, h1, w["self_attn.v_proj.weight"])
    dh_k, g["self_attn.k_proj.weight"], g["self_attn.k_proj.bias"] = linear_backward(dk, h1, w["self_attn.k_proj.weight"])
    dh_q, g["self_attn.q_proj.weight"], g["self_attn.q_proj.bias"] = linear_backward(dq, h1, w["self_attn.q_proj.weight"])
    dh1 = dh_q + dh_k + dh_v  # (N, C) each: h1 was used three times
    dx1, g["self_attn_layer_norm.weight"], g["self_attn_layer_norm.bias"] = layernorm_backward(
        dh1, w["self_attn_layer_norm.weight"], *norm1
    )  # (N, C)
    return dx + dx1, g  # (N, C)


def block_params(params: Params, i: int) -> Params:
    """The parameters of block i, by what follows "model.decoder.layers.{i}." in their names."""
    prefix = f"model.decoder.layers.{i}."
    return {name.removeprefix(prefix): w for name, w in params.items() if name.startswith(prefix)}


def logits(params: Params, config: Config, tokens: Array) -> tuple[Array, tuple]:
    """z (N, V), whose softmax is the probability of each next token, for tokens (B, T); and what the backward needs."""
    B, T = tokens.shape
    rows, pos = tokens.reshape(-1), np.tile(np.arange(T), B) + OFFSET  # (N,), (N,)
    x = embedding(rows, params[TOKENS]) + embedding(pos, params[POSITIONS])  # (N, C)
    blocks = []
    for i in range(config.num_hidden_layers):
        x, kept = block(x, block_params(params, i), config, B)  # (N, C)
        blocks.append(kept)
    final = params["model.decoder.final_layer_norm.weight"], params["model.decoder.final_layer_norm.bias"]  # (C,), (C,)
    h, norm = layernorm(x, *final)  # (N, C)
    w = params[TOKENS if config.tie_word_embeddings else "lm_head.weight"]  # (V, C)
    return h @ w.T, (rows, pos, blocks, norm, h, w)  # (N, C), (C, V) -> (N, V)


def forward(params: Params, config: Config, tokens: Array, targets: Array) -> tuple[float, tuple]:
    """The mean cross-entropy of predicting targets (B, T) from tokens (B, T), and what the backward needs."""
    z, kept = logits(params, config, tokens)  # (N, V)
    loss, logp = cross_entropy(z, targets.reshape(-1))  # a number, (N, V)
    return loss, (*kept, logp, targets.reshape(-1))


def backward(params: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to every parameter, by the parameter's name."""
    rows, pos, blocks, norm, h, w, logp, targets = kept
    grads: Params = {}
    dz = cross_entropy_backward(logp, targets)  # (N, V)
    grads["lm_head.weight"] = dz.T @ h  # (V, N), (N, C) -> (V, C)
    dh = dz @ w  # (N, V), (V, C) -> (N, C)
    dx, dw, db = layernorm_backward(dh, params["model.decoder.final_layer_norm.weight"], *norm)  # (N, C), (C,), (C,)
    grads["model.decoder.final_layer_norm.weight"], grads["model.decoder.final_layer_norm.bias"] = dw, db
    for i in reversed(range(config.num_hidden_layers)):
        dx, g = block_backward(dx, block_params(params, i), blocks[i])  # (N, C)
        grads |= {f"model.decoder.layers.{i}.{name}": dw for name, dw in g.items()}
    grads[POSITIONS] = embedding_backward(dx, pos, params[POSITIONS])  # (max_position_embeddings + 2, C)
    grads[TOKENS] = embedding_backward(dx, rows, params[TOKENS])  # (V, C)
    if config.tie_word_embeddings:  # one table, used twice: its gradient is the sum, under both names
        grads["lm_head.weight"] += grads[TOKENS]
        grads[TOKENS] = grads["lm_head.weight"]
    return grads


# Training and sampling --------------------------------------------------------------------------------------------------


def init(config: Config, seed: int) -> Params:
    """Fresh float32 parameters: matrices from a normal distribution, the norms' weights 1, all biases 0."""
    V, C, F, L = config.vocab_size, config.hidden_size, config.ffn_dim, config.num_hidden_layers
    shapes = {"embed_tokens.weight": (V, C), "embed_positions.weight": (config.max_position_embeddings + OFFSET, C)}
    for i in range(L):
        in_block = {
            "self_attn_layer_norm.weight": (C,), "self_attn_layer_norm.bias": (C,),
            "self_attn.q_proj.weight": (C, C), "self_attn.q_proj.bias": (C,),
            "self_attn.k_proj.weight": (C, C), "self_attn.k_proj.bias": (C,),
            "self_attn.v_proj.weight": (C, C), "self_attn.v_proj.bias": (C,),
            "self_attn.out_proj.weight": (C, C), "self_attn.out_proj.bias": (C,),
            "final_layer_norm.weight": (C,), "final_layer_norm.bias": (C,),
            "fc1.weight": (F, C), "fc1.bias": (F,), "fc2.weight": (C, F), "fc2.bias": (C,),
        }  # fmt: skip
        shapes |= {f"layers.{i}.{name}": shape for name, shape in in_block.items()}
    shapes |= {"final_layer_norm.weight": (C,), "final_layer_norm.bias": (C,)}
    shapes = {f"model.decoder.{name}": shape for name, shape in shapes.items()} | {"lm_head.weight": (V, C)}
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            params[name] = np.zeros(shape, np.float32) if name.endswith("bias") else np.ones(shape, np.float32)
        else:  # 2 L branches add to the residual stream: their last maps start smaller, so that the sum stays small
            std = config.init_std / (math.sqrt(2 * L) if name.endswith(("out_proj.weight", "fc2.weight")) else 1)
            params[name] = std * rng.standard_normal(shape, np.float32)
    if config.tie_word_embeddings:  # one array under two names
        params["lm_head.weight"] = params[TOKENS]
    return params


def adam(params: Params, grads: Params, m: Params, v: Params, step: int, lr: float) -> None:
    """Update, in place, the parameters that m and v have moments of. Gradients with a norm above 1 are scaled down to 1.

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,
    w = w - lr (decay w + m' / (sqrt(v') + eps))  with  m' = m / (1 - b1^step),  v' = v / (1 - b2^step).
    """
    b1, b2, eps = 0.9, 0.99, 1e-8
    norm = math.sqrt(sum(float((grads[name] ** 2).sum()) for name in m))
    for name in m:
        w, g = params[name], grads[name] / max(1.0, norm)
        m[name] = b1 * m[name] + (1 - b1) * g
        v[name] = b2 * v[name] + (1 - b2) * g * g
        decay = 0.1 if w.ndim == 2 else 0.0  # only matrices decay
        w -= lr * (decay * w + m[name] / (1 - b1**step) / (np.sqrt(v[name] / (1 - b2**step)) + eps))


def sample(params: Params, config: Config, tokens: list[int], n: int, temperature: float, rng: np.random.Generator) -> None:
    """Append n tokens. Each is drawn from softmax(z / temperature), z the logits after the tokens so far."""
    for _ in range(n):
        z, _ = logits(params, config, np.array([tokens[-config.max_position_embeddings :]]))  # (1, T) -> (T, V)
        p = softmax(z[-1].astype(np.float64) / max(temperature, 1e-3))  # (V,): at 0 nearly one for the largest
        tokens.append(int(rng.choice(len(p), p=p)))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a small OPT on a text file, then print a sample of its writing.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("text", help="Text file in UTF-8 to train on. Its characters are the vocabulary.")
    parser.add_argument("--steps", type=int, default=200, help="Number of training steps.")
    parser.add_argument("--batch-size", type=int, default=32, help="Number of pieces of the text in each step.")
    parser.add_argument("--lr", type=float, default=3e-3, help="Largest learning rate, reached after 20 steps.")
    parser.add_argument("--sample", type=int, default=300, help="Number of characters to sample after training.")
    parser.add_argument("--temperature", type=float, default=0.8, help="Divisor of the logits. Lower is less random.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed for the weights, the data order and the sample.")
    options = parser.parse_args(argv)

    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read '{options.text}': {error}. Pass the path of a text file in UTF-8.") from None
    characters = sorted(set(text))
    config, rng = Config(vocab_size=len(characters)), np.random.default_rng(options.seed)
    T = config.max_position_embeddings
    if len(text) <= T:
        raise SystemExit(f"'{options.text}' has {len(text)} characters, fewer than {T + 1}. Pass a longer text.")
    number = {c: i for i, c in enumerate(characters)}
    tokens = np.array([number[c] for c in text])  # (len(text),)

    params = init(config, options.seed)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()  # Adam updates the shared array once
    m = {name: np.zeros_like(w) for name, w in params.items() if name not in tied}
    v = {name: np.zeros_like(w) for name, w in m.items()}
    for step in range(1, options.steps + 1):
        starts = rng.integers(0, len(tokens) - T, options.batch_size)  # (B,)
        pieces = tokens[starts[:, None] + np.arange(T + 1)]  # (B, T + 1)
        loss, kept = forward(params, config, pieces[:, :-1], pieces[:, 1:])  # the target is the next token
        grads = backward(params, config, kept)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / options.steps)  # from 1 to 0.1
        adam(params, grads, m, v, step, options.lr * min(1, step / 20) * cosine)
        if step % 20 == 0 or step in (1, options.steps):
            print(f"step {step:4d}  loss {loss:.4f}", flush=True)

    written = [int(tokens[0])]
    sample(params, config, written, options.sample, options.temperature, rng)
    print("".join(characters[i] for i in written))


if __name__ == "__main__":
    main()
