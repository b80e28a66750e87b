"""LLaMA in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and sampling.

    python examples/one_file/llama.py text.txt --steps 200

Compared with GPT-2, LLaMA has RMS norms, rotary positions, fewer heads of keys and values than of queries, a gated
feed-forward part, and no biases.

Each operation has its backward directly below it. The backward takes dy, the gradient of the loss with respect to the
operation's output y, and returns the gradients with respect to its inputs. blogs/llama.md and blogs/gpt.md derive every
formula. The parameters have the names and layouts of Hugging Face's LlamaForCausalLM. All arithmetic stays in their dtype.
There is no dropout.

Sizes: B batch, T time, S key positions (here S = T), C channels, H heads, G key/value heads, D = C / H head size,
F feed-forward, V vocabulary, N = B T rows. Arrays: x input, y output, w weights, dy dx dw gradients, s scores,
p probabilities, f residual branch, pos positions.

Touvron et al. 2023, LLaMA: Open and Efficient Foundation Language Models. Vaswani et al. 2017, Attention Is All You Need.
Zhang & Sennrich 2019, Root Mean Square Layer Normalization. Su et al. 2021, RoFormer (rotary positions). Shazeer 2020, GLU
Variants Improve Transformer. Ainslie et al. 2023, GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
Checkpoints. Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # parameters or gradients, by name


@dataclass(frozen=True)
class Config:
    """Fields as in Hugging Face's LlamaConfig. The defaults train in a minute. The comments give LLaMA 7B's values."""

    vocab_size: int  # 32000: V
    max_position_embeddings: int = 32  # 2048: the longest T
    num_hidden_layers: int = 4  # 32
    num_attention_heads: int = 4  # 32: H
    num_key_value_heads: int = 2  # 32: G. LLaMA 3 8B has 8 for 32 query heads.
    hidden_size: int = 128  # 4096: C
    intermediate_size: int = 344  # 11008: F, about 8/3 C and not 4 C, since there are three matrices and not two
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0  # a larger theta slows the slow pairs down, for longer texts
    initializer_range: float = 0.08  # 0.02: standard deviation of fresh weights. A small model learns faster with more.
    tie_word_embeddings: bool = False  # the output projection is the token embedding


# The operations ---------------------------------------------------------------------------------------------------------


def embedding(rows: Array, w: Array) -> Array:
    """y = w[rows]."""
    return w[rows]  # (N,), (V, C) -> (N, C)


def embedding_backward(dy: Array, rows: Array, w: Array) -> Array:
    """dw[r] is the sum of dy over all n with rows[n] = r. `dw[rows] += dy` would keep only one of them."""
    dw = np.zeros_like(w)  # (V, C)
    np.add.at(dw, rows, dy)  # (N,), (N, C) added into (V, C)
    return dw  # (V, C)


def linear(x: Array, w: Array) -> Array:
    """y = x w^T. PyTorch stores w as (outputs, inputs)."""
    return x @ w.T  # (N, C), (C, F) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """dx = dy w,  dw = dy^T x."""
    dx = dy @ w  # (N, F), (F, C) -> (N, C)
    dw = dy.T @ x  # (F, N), (N, C) -> (F, C)
    return dx, dw


def rmsnorm(x: Array, w: Array, eps: float) -> tuple[Array, tuple]:
    """y = n w,  n = x rstd,  rstd = 1 / sqrt(mean(x^2) + eps), over the C channels of each row."""
    rstd = 1 / np.sqrt((x * x).mean(1, keepdims=True) + eps)  # (N, 1)
    n = x * rstd  # (N, C)
    return n * w, (n, rstd)  # (N, C)


def rmsnorm_backward(dy: Array, w: Array, n: Array, rstd: Array) -> tuple[Array, Array]:
    """dw = sum_N dy n,  and with dn = dy w:  dx = rstd (dn - n mean_C(dn n))."""
    dw = (dy * n).sum(0)  # (C,)
    dn = dy * w  # (N, C)
    dx = rstd * (dn - n * (dn * n).mean(1, keepdims=True))  # (N, C)
    return dx, dw


def swiglu(gate: Array, up: Array) -> Array:
    """y = silu(gate) up,  silu(gate) = gate sigmoid(gate)."""
    sigmoid = (1 + np.tanh(gate / 2)) / 2  # (N, F): 1 / (1 + exp(-gate)), but never overflows
    return gate * sigmoid * up  # (N, F)


def swiglu_backward(dy: Array, gate: Array, up: Array) -> tuple[Array, Array]:
    """dgate = dy up silu'(gate),  dup = dy silu(gate),  silu' = sigmoid (1 + gate (1 - sigmoid))."""
    sigmoid = (1 + np.tanh(gate / 2)) / 2  # (N, F)
    dgate = dy * up * sigmoid * (1 + gate * (1 - sigmoid))  # (N, F)
    dup = dy * gate * sigmoid  # (N, F)
    return dgate, dup


def angles(T: int, D: int, theta: float, dtype: np.dtype) -> tuple[Array, Array]:
    """Cosine and sine of pos theta^(-2i/D), the angle by which pair i turns. They are rounded to dtype only at the end."""
    pos, i = np.arange(T), np.arange(D // 2)  # (T,), (D / 2,)
    angle = pos[:, None] * theta ** (-2 * i / D)  # (T, D / 2) in float64
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)  # (T, D / 2) each


def rotary(x: Array, cos: Array, sin: Array) -> Array:
    """Turn pair i of each head, its numbers i and D/2 + i:  y1 = x1 cos - x2 sin,  y2 = x1 sin + x2 cos."""
    x1, x2 = np.split(x, 2, 3)  # (B, H, T, D) -> (B, H, T, D / 2) each
    return np.concatenate([x1 * cos - x2 * sin, x1 * sin + x2 * cos], 3)  # (B, H, T, D)


def rotary_backward(dy: Array, cos: Array, sin: Array) -> Array:
    """dx1 = dy1 cos + dy2 sin,  dx2 = -dy1 sin + dy2 cos: turn back by the same angles."""
    return rotary(dy, cos, -sin)  # (B, H, T, D)


def repeat_heads(x: Array, H: int) -> Array:
    """Repeat each key/value head for the H / G query heads that it serves."""
    return np.repeat(x, H // x.shape[1], 1)  # (B, G, S, D) -> (B, H, S, D)


def repeat_heads_backward(dy: Array, G: int) -> Array:
    """dx is the sum of dy over the H / G copies of each head."""
    B, H, S, D = dy.shape
    return dy.reshape(B, G, H // G, S, D).sum(2)  # (B, H, S, D) -> (B, G, S, D)


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
    """Cut each row into H or G heads. merge_heads is the inverse and, since only the order changes, the backward."""
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


def block(x: Array, w: Params, config: Config, B: int, cos: Array, sin: Array) -> tuple[Array, tuple]:
    """x = x + attention(norm(x)), then x = x + mlp(norm(x)). w holds the block's parameters."""
    H, G = config.num_attention_heads, config.num_key_value_heads
    h1, norm1 = rmsnorm(x, w["input_layernorm.weight"], config.rms_norm_eps)  # (N, C)
    q = split_heads(linear(h1, w["self_attn.q_proj.weight"]), B, H)  # (N, H D) -> (B, H, T, D)
    k = split_heads(linear(h1, w["self_attn.k_proj.weight"]), B, G)  # (N, G D) -> (B, G, S, D)
    v = split_heads(linear(h1, w["self_attn.v_proj.weight"]), B, G)  # (N, G D) -> (B, G, S, D)
    q, k = rotary(q, cos, sin), rotary(k, cos, sin)  # (B, H, T, D), (B, G, S, D)
    k, v = repeat_heads(k, H), repeat_heads(v, H)  # (B, H, S, D) each
    y, p = attention(q, k, v)  # (B, H, T, D), (B, H, T, S)
    a = merge_heads(y)  # (B, H, T, D) -> (N, C)
    f = linear(a, w["self_attn.o_proj.weight"])  # (N, C)
    x = x + f  # (N, C)
    h2, norm2 = rmsnorm(x, w["post_attention_layernorm.weight"], config.rms_norm_eps)  # (N, C)
    gate = linear(h2, w["mlp.gate_proj.weight"])  # (N, F)
    up = linear(h2, w["mlp.up_proj.weight"])  # (N, F)
    m = swiglu(gate, up)  # (N, F)
    f = linear(m, w["mlp.down_proj.weight"])  # (N, C)
    return x + f, (norm1, h1, q, k, v, p, a, norm2, h2, gate, up, m)  # (N, C)


def block_backward(dx: Array, w: Params, kept: tuple, config: Config, cos: Array, sin: Array) -> tuple[Array, Params]:
    """The block read from the bottom up. x + f passes dx on to x and to f. The branch f sends dx2 (dx1) back to x."""
    norm1, h1, q, k, v, p, a, norm2, h2, gate, up, m = kept
    (B, H), G = q.shape[:2], config.num_key_value_heads
    g: Params = {}  # the gradients, by the names in w
    dm, g["mlp.down_proj.weight"] = linear_backward(dx, m, w["mlp.down_proj.weight"])  # (N, F)
    dgate, dup = swiglu_backward(dm, gate, up)  # (N, F) each
    dh_up, g["mlp.up_proj.weight"] = linear_backward(dup, h2, w["mlp.up_proj.weight"])  # (N, C)
    dh_gate, g["mlp.gate_proj.weight"] = linear_backward(dgate, h2, w["mlp.gate_proj.weight"])  # (N, C)
    dh2 = dh_gate + dh_up  # (N, C): h2 was used twice
    dx2, g["post_attention_layernorm.weight"] = rmsnorm_backward(dh2, w["post_attention_layernorm.weight"], *norm2)  # (N, C)
    dx = dx + dx2  # (N, C)
    da, g["self_attn.o_proj.weight"] = linear_backward(dx, a, w["self_attn.o_proj.weight"])  # (N, C)
    dy = split_heads(da, B, H)  # (N, C) -> (B, H, T, D)
    dq, dk, dv = attention_backward(dy, q, k, v, p)  # (B, H, T, D), (B, H, S, D), (B, H, S, D)
    dk, dv = repeat_heads_backward(dk, G), repeat_heads_backward(dv, G)  # (B, G, S, D) each
    dq, dk = rotary_backward(dq, cos, sin), rotary_backward(dk, cos, sin)  # (B, H, T, D), (B, G, S, D)
    dh_v, g["self_attn.v_proj.weight"] = linear_backward(merge_heads(dv), h1, w["self_attn.v_proj.weight"])  # (N, C)
    dh_k, g["self_attn.k_proj.weight"] = linear_backward(merge_heads(dk), h1, w["self_attn.k_proj.weight"])  # (N, C)
    dh_q, g["self_attn.q_proj.weight"] = linear_backward(merge_heads(dq), h1, w["self_attn.q_proj.weight"])  # (N, C)
    dh1 = dh_q + dh_k + dh_v  # (N, C): h1 was used three times
    dx1, g["input_layernorm.weight"] = rmsnorm_backward(dh1, w["input_layernorm.weight"], *norm1)  # (N, C)
    return dx + dx1, g  # (N, C)


def block_params(params: Params, i: int) -> Params:
    """The parameters of block i, by what follows "model.layers.{i}." in their names."""
    prefix = f"model.layers.{i}."
    return {name.removeprefix(prefix): w for name, w in params.items() if name.startswith(prefix)}


def logits(params: Params, config: Config, tokens: Array) -> tuple[Array, tuple]:
    """z (N, V), whose softmax is the probability of each next token, for tokens (B, T); and what the backward needs."""
    B, T = tokens.shape
    rows = tokens.reshape(-1)  # (N,)
    x = embedding(rows, params["model.embed_tokens.weight"])  # (N, C)
    cos, sin = angles(T, config.hidden_size // config.num_attention_heads, config.rope_theta, x.dtype)  # (T, D / 2) each
    blocks = []
    for i in range(config.num_hidden_layers):
        x, kept = block(x, block_params(params, i), config, B, cos, sin)  # (N, C)
        blocks.append(kept)
    h, norm = rmsnorm(x, params["model.norm.weight"], config.rms_norm_eps)  # (N, C)
    w = params["model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]  # (V, C)
    return linear(h, w), (rows, cos, sin, blocks, norm, h, w)  # (N, V)


def forward(params: Params, config: Config, tokens: Array, targets: Array) -> tuple[float, tuple]:
    """The mean cross-entropy of predicting targets (B, T) from tokens (B, T), and what the backward needs."""
    z, kept = logits(params, config, tokens)  # (N, V)
    loss, logp = cross_entropy(z, targets.reshape(-1))  # a number, (N, V)
    return loss, (*kept, logp, targets.reshape(-1))


def backward(params: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to every parameter, by the parameter's name."""
    rows, cos, sin, blocks, norm, h, w, logp, targets = kept
    grads: Params = {}
    dz = cross_entropy_backward(logp, targets)  # (N, V)
    dh, grads["lm_head.weight"] = linear_backward(dz, h, w)  # (N, C)
    dx, grads["model.norm.weight"] = rmsnorm_backward(dh, params["model.norm.weight"], *norm)  # (N, C)
    for i in reversed(range(config.num_hidden_layers)):
        dx, g = block_backward(dx, block_params(params, i), blocks[i], config, cos, sin)  # (N, C)
        grads |= {f"model.layers.{i}.{name}": dw for name, dw in g.items()}
    grads["model.embed_tokens.weight"] = embedding_backward(dx, rows, params["model.embed_tokens.weight"])  # (V, C)
    if config.tie_word_embeddings:  # one table, used twice: its gradient is the sum, under both names
        grads["lm_head.weight"] += grads["model.embed_tokens.weight"]
        grads["model.embed_tokens.weight"] = grads["lm_head.weight"]
    return grads


# Training and sampling --------------------------------------------------------------------------------------------------


def init(config: Config, seed: int) -> Params:
    """Fresh float32 parameters: matrices from a normal distribution, the norms' weights 1."""
    V, C, F = config.vocab_size, config.hidden_size, config.intermediate_size
    H, G, D = config.num_attention_heads, config.num_key_value_heads, C // config.num_attention_heads
    shapes = {"model.embed_tokens.weight": (V, C)}
    for i in range(config.num_hidden_layers):
        in_block = {
            "input_layernorm.weight": (C,), "self_attn.q_proj.weight": (H * D, C), "self_attn.k_proj.weight": (G * D, C),
            "self_attn.v_proj.weight": (G * D, C), "self_attn.o_proj.weight": (C, H * D),
            "post_attention_layernorm.weight": (C,), "mlp.gate_proj.weight": (F, C), "mlp.up_proj.weight": (F, C),
            "mlp.down_proj.weight": (C, F),
        }  # fmt: skip
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in in_block.items()}
    shapes |= {"model.norm.weight": (C,), "lm_head.weight": (V, C)}
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            params[name] = np.ones(shape, np.float32)
        else:
            params[name] = config.initializer_range * rng.standard_normal(shape, np.float32)
    if config.tie_word_embeddings:  # one array under two names
        params["lm_head.weight"] = params["model.embed_tokens.weight"]
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
    parser = argparse.ArgumentParser(description="Train a small LLaMA on a text file, then print a sample of its writing.")
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
