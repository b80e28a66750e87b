"""LLaMA in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and sampling.

    python examples/one_file/llama.py text.txt --steps 200

LLaMA is a GPT-2 with RMS norms, rotary positions, fewer heads of keys and values, a gated feed-forward part and no biases.
Each operation has its backward directly below it. The backward takes dy, the gradient of the loss with respect to the
output y. It returns dx for the input x, and puts the gradients of the parameters into g under their names, which are those
of Hugging Face's LlamaForCausalLM. blogs/llama.md and blogs/gpt.md derive the formulas.
Sizes: B batch, T time, S key positions (here S = T), N = B T rows, C channels, H heads of queries, G of keys and values,
R = H / G, D = C / H, F inner, V vocabulary. Arrays: x input, y output, w weights, s scores, p probabilities, z logits.
Papers: Touvron et al. 2023 (LLaMA), Zhang & Sennrich 2019 (RMS norm), Su et al. 2021 (rotary positions), Shazeer 2020
(gate), Ainslie et al. 2023 (grouped queries), Vaswani et al. 2017 (attention), Loshchilov & Hutter 2019 (AdamW).
"""

import math
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # the parameters w or their gradients g, by name
TOKENS = "model.embed_tokens.weight"


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
def linear(x: Array, w: Params, name: str) -> Array:
    """y = x w^T. PyTorch stores w as (outputs, inputs)."""
    return x @ w[f"{name}.weight"].T  # (N, C), (C, F) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Params, name: str, g: Params) -> Array:
    """dx = dy w,  dw = dy^T x."""
    g[f"{name}.weight"] = dy.T @ x  # (F, N), (N, C) -> (F, C)
    return dy @ w[f"{name}.weight"]  # (N, F), (F, C) -> (N, C)


def rmsnorm(x: Array, w: Params, name: str, eps: float) -> tuple[Array, tuple]:
    """y = n w,  n = x rstd,  rstd = 1 / sqrt(mean(x^2) + eps), over the C channels of each row."""
    rstd = 1 / np.sqrt((x * x).mean(1, keepdims=True) + eps)  # (N, 1)
    n = x * rstd  # (N, C)
    return n * w[f"{name}.weight"], (n, rstd)  # (N, C), (C,) -> (N, C)


def rmsnorm_backward(dy: Array, n: Array, rstd: Array, w: Params, name: str, g: Params) -> Array:
    """dw = sum_N dy n,  and with dn = dy w:  dx = rstd (dn - n mean_C(dn n))."""
    g[f"{name}.weight"] = (dy * n).sum(0)  # (C,)
    dn = dy * w[f"{name}.weight"]  # (N, C)
    return rstd * (dn - n * (dn * n).mean(1, keepdims=True))  # (N, C)


def swiglu(gate: Array, up: Array) -> tuple[Array, Array]:
    """y = silu(gate) up,  silu(gate) = gate sigmoid(gate)."""
    sigmoid = (1 + np.tanh(gate / 2)) / 2  # (N, F): 1 / (1 + exp(-gate)), but never overflows
    return gate * sigmoid * up, sigmoid  # (N, F) each


def swiglu_backward(dy: Array, gate: Array, up: Array, sigmoid: Array) -> tuple[Array, Array]:
    """dgate = dy up silu'(gate),  dup = dy silu(gate),  silu' = sigmoid (1 + gate (1 - sigmoid))."""
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
    x1, x2 = np.split(x, 2, -1)  # (..., T, D) -> (..., T, D / 2) each
    return np.concatenate([x1 * cos - x2 * sin, x1 * sin + x2 * cos], -1)  # (..., T, D)


def rotary_backward(dy: Array, cos: Array, sin: Array) -> Array:
    """dx1 = dy1 cos + dy2 sin,  dx2 = -dy1 sin + dy2 cos: turn back by the same angles."""
    return rotary(dy, cos, -sin)  # (..., T, D)


def attention(q: Array, k: Array, v: Array, B: int, G: int, cos: Array, sin: Array) -> tuple[Array, tuple]:
    """Rotate q and k, then  s = q k^T / sqrt(D),  p = softmax(s) over the keys up to the query's position,  y = p v."""
    T, D = len(cos), 2 * cos.shape[1]
    # R heads of queries share one head of keys and values: q becomes (B, G, R, T, D), but k and v (B, G, 1, S, D).
    q, k, v = (x.reshape(B, T, G, -1, D).transpose(0, 2, 3, 1, 4) for x in (q, k, v))
    q, k = rotary(q, cos, sin), rotary(k, cos, sin)  # (B, G, R, T, D), (B, G, 1, S, D)
    s = q @ k.swapaxes(3, 4) / math.sqrt(D)  # (B, G, R, T, D), (B, G, 1, D, S) -> (B, G, R, T, S)
    s = np.where(np.tri(T, dtype=bool), s, -np.inf)  # (T, S), (B, G, R, T, S): later keys get p = 0
    e = np.exp(s - s.max(4, keepdims=True))  # (B, G, R, T, S): the maximum cancels in p, and prevents overflow
    p = e / e.sum(4, keepdims=True)  # (B, G, R, T, S)
    y = p @ v  # (B, G, R, T, S), (B, G, 1, S, D) -> (B, G, R, T, D)
    return y.transpose(0, 3, 1, 2, 4).reshape(B * T, -1), (q, k, v, p, cos, sin)  # (N, H D)


def attention_backward(dy: Array, q: Array, k: Array, v: Array, p: Array, cos: Array, sin: Array) -> list[Array]:
    """dv = sum_R p^T dy,  dp = dy v^T,  ds = p (dp - sum_S(dp p)),  dq = ds k / sqrt(D),  dk = sum_R ds^T q / sqrt(D)."""
    B, G, R, T, D = q.shape
    dy = dy.reshape(B, T, G, R, D).transpose(0, 2, 3, 1, 4)  # (N, H D) -> (B, G, R, T, D)
    dv = (p.swapaxes(3, 4) @ dy).sum(2, keepdims=True)  # (B, G, R, S, T), (B, G, R, T, D) -> (B, G, 1, S, D)
    dp = dy @ v.swapaxes(3, 4)  # (B, G, R, T, D), (B, G, 1, D, S) -> (B, G, R, T, S)
    ds = p * (dp - (dp * p).sum(4, keepdims=True))  # (B, G, R, T, S): 0 at the masked keys, where p = 0
    dq = ds @ k / math.sqrt(D)  # (B, G, R, T, S), (B, G, 1, S, D) -> (B, G, R, T, D)
    dk = (ds.swapaxes(3, 4) @ q / math.sqrt(D)).sum(2, keepdims=True)  # (B, G, R, S, D) -> (B, G, 1, S, D)
    dq, dk = rotary_backward(dq, cos, sin), rotary_backward(dk, cos, sin)  # (B, G, R, T, D), (B, G, 1, S, D)
    return [dx.transpose(0, 3, 1, 2, 4).reshape(B * T, -1) for dx in (dq, dk, dv)]  # (N, H D), (N, G D), (N, G D)


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
def block(x: Array, w: Params, at: str, config: Config, B: int, cos: Array, sin: Array) -> tuple[Array, tuple]:
    """x = x + attention(norm(x)), then x = x + mlp(norm(x)). `at` begins the names of the block's parameters."""
    h1, norm1 = rmsnorm(x, w, f"{at}.input_layernorm", config.rms_norm_eps)  # (N, C)
    q = linear(h1, w, f"{at}.self_attn.q_proj")  # (N, C) -> (N, H D)
    k = linear(h1, w, f"{at}.self_attn.k_proj")  # (N, C) -> (N, G D)
    v = linear(h1, w, f"{at}.self_attn.v_proj")  # (N, C) -> (N, G D)
    a, heads = attention(q, k, v, B, config.num_key_value_heads, cos, sin)  # (N, H D)
    x = x + linear(a, w, f"{at}.self_attn.o_proj")  # (N, C)
    h2, norm2 = rmsnorm(x, w, f"{at}.post_attention_layernorm", config.rms_norm_eps)  # (N, C)
    gate = linear(h2, w, f"{at}.mlp.gate_proj")  # (N, C) -> (N, F)
    up = linear(h2, w, f"{at}.mlp.up_proj")  # (N, C) -> (N, F)
    m, sigmoid = swiglu(gate, up)  # (N, F) each
    x = x + linear(m, w, f"{at}.mlp.down_proj")  # (N, F) -> (N, C)
    return x, (norm1, h1, heads, a, norm2, h2, gate, up, sigmoid, m)


def block_backward(dx: Array, w: Params, at: str, kept: tuple, g: Params) -> Array:
    """The block read from the bottom up. A sum passes dx on to both of its terms, and the branch adds its own part."""
    norm1, h1, heads, a, norm2, h2, gate, up, sigmoid, m = kept
    dm = linear_backward(dx, m, w, f"{at}.mlp.down_proj", g)  # (N, C) -> (N, F)
    dgate, dup = swiglu_backward(dm, gate, up, sigmoid)  # (N, F) each
    dh2 = linear_backward(dup, h2, w, f"{at}.mlp.up_proj", g)  # (N, F) -> (N, C)
    dh2 += linear_backward(dgate, h2, w, f"{at}.mlp.gate_proj", g)  # (N, F) -> (N, C): every use of h2 adds to its gradient
    dx = dx + rmsnorm_backward(dh2, *norm2, w, f"{at}.post_attention_layernorm", g)  # (N, C)
    da = linear_backward(dx, a, w, f"{at}.self_attn.o_proj", g)  # (N, C)
    dq, dk, dv = attention_backward(da, *heads)  # (N, H D) -> (N, H D), (N, G D), (N, G D)
    dh1 = linear_backward(dq, h1, w, f"{at}.self_attn.q_proj", g)  # (N, H D) -> (N, C)
    dh1 += linear_backward(dk, h1, w, f"{at}.self_attn.k_proj", g)  # (N, G D) -> (N, C)
    dh1 += linear_backward(dv, h1, w, f"{at}.self_attn.v_proj", g)  # (N, G D) -> (N, C)
    return dx + rmsnorm_backward(dh1, *norm1, w, f"{at}.input_layernorm", g)  # (N, C)


def logits(w: Params, config: Config, tokens: Array) -> tuple[Array, tuple]:
    """z (N, V), whose softmax is the probability of each next token, for tokens (B, T); and what the backward needs."""
    B, T = tokens.shape
    x = w[TOKENS][tokens].reshape(B * T, -1)  # (B, T) -> (B, T, C) -> (N, C)
    cos, sin = angles(T, config.hidden_size // config.num_attention_heads, config.rope_theta, x.dtype)  # (T, D / 2) each
    blocks = []
    for i in range(config.num_hidden_layers):
        x, kept = block(x, w, f"model.layers.{i}", config, B, cos, sin)  # (N, C)
        blocks.append(kept)
    h, norm = rmsnorm(x, w, "model.norm", config.rms_norm_eps)  # (N, C)
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
    dx = rmsnorm_backward(dh, *norm, w, "model.norm", g)  # (N, C)
    for i in reversed(range(config.num_hidden_layers)):
        dx = block_backward(dx, w, f"model.layers.{i}", blocks[i], g)  # (N, C)
    g[TOKENS] = np.zeros_like(w[TOKENS])  # (V, C)
    np.add.at(g[TOKENS], tokens.reshape(-1), dx)  # (N,), (N, C) into (V, C). += would count a repeated token only once
    if config.tie_word_embeddings:  # one table, used twice: its gradient is the sum, under both names
        g["lm_head.weight"] = g[TOKENS] = g["lm_head.weight"] + g[TOKENS]  # (V, C)
    return g


# Training and sampling --------------------------------------------------------------------------------------------------
def init(config: Config, seed: int) -> Params:
    """Fresh float32 parameters: matrices from a normal distribution, the norms' weights 1."""
    V, C, F, L = config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers
    K = config.num_key_value_heads * C // config.num_attention_heads  # G D
    in_block = {"input_layernorm": (C,), "self_attn.q_proj": (C, C), "self_attn.k_proj": (K, C)}
    in_block |= {"self_attn.v_proj": (K, C), "self_attn.o_proj": (C, C), "post_attention_layernorm": (C,)}
    in_block |= {"mlp.gate_proj": (F, C), "mlp.up_proj": (F, C), "mlp.down_proj": (C, F)}
    shapes = {TOKENS: (V, C), "model.norm.weight": (C,), "lm_head.weight": (V, C)}
    shapes |= {f"model.layers.{i}.{name}.weight": shape for i in range(L) for name, shape in in_block.items()}
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        random = config.initializer_range * rng.standard_normal(shape, np.float32)
        params[name] = random if len(shape) == 2 else np.ones(shape, np.float32)
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
    parser = ArgumentParser(description="Train a small LLaMA on a text file.", formatter_class=ArgumentDefaultsHelpFormatter)
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
