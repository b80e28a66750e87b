"""BERT in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and filling gaps.

    python examples/one_file/bert.py text.txt --steps 1000

It learns to guess hidden characters of a text from the characters on both sides of them.

Each function that computes something has its backward directly below it. The backward takes dy, the gradient of the loss
with respect to the function's output, and returns the gradients with respect to its inputs. blogs/bert.md and blogs/gpt.md
derive each of them. The parameters have the names and layouts of Hugging Face's BertForMaskedLM. All arithmetic stays in the
parameters' dtype: float32 for training, float64 to check gradients. There is no dropout and no next-sentence head.

B batch, T time (queries), S time (keys, S = T), C channels, H heads, D = C / H head size, F feed-forward, V vocabulary,
N = B T rows, M <= N rows that have a target. x input, y output, w b weights, dy dx dw db gradients, s scores,
p probabilities, f residual branch, pos positions.

Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding. Vaswani et al. 2017,
Attention Is All You Need. Ba et al. 2016, Layer Normalization. Hendrycks & Gimpel 2016, Gaussian Error Linear Units.
Press & Wolf 2017, Using the Output Embedding to Improve Language Models (tying). Loshchilov & Hutter 2019, Decoupled Weight
Decay Regularization (AdamW).
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # parameters or their gradients, by name


@dataclass(frozen=True)
class Config:
    """The fields of Hugging Face's BertConfig. The defaults train in about a minute; BERT-base is in the comments."""

    vocab_size: int  # V, 30522
    hidden_size: int = 64  # C, 768
    num_hidden_layers: int = 2  # 12
    num_attention_heads: int = 4  # H, 12
    intermediate_size: int = 256  # F, 3072
    max_position_embeddings: int = 24  # the longest T, 512
    type_vocab_size: int = 2  # token types: first and second sentence
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.05  # standard deviation of fresh weights, 0.02


WORD = "bert.embeddings.word_embeddings.weight"
POSITION = "bert.embeddings.position_embeddings.weight"
TYPE = "bert.embeddings.token_type_embeddings.weight"
HEAD = "cls.predictions.transform."
# The checkpoint has a second name for two arrays. The forward reads them by the first name, on the right.
TIED = {"cls.predictions.decoder.weight": WORD, "cls.predictions.decoder.bias": "cls.predictions.bias"}


# The operations, each above its backward ------------------------------------------------------------------------------


def embedding(rows: Array, w: Array) -> Array:
    """y = w[rows]: one row of the table for each index."""
    return w[rows]  # (N,), (V, C) -> (N, C)


def embedding_backward(dy: Array, rows: Array, w: Array) -> Array:
    """dw[r] = the sum of dy over all n with rows[n] = r. `dw[rows] += dy` would lose all but one of them."""
    dw = np.zeros_like(w)  # (V, C)
    np.add.at(dw, rows, dy)  # (N,), (N, C) added into (V, C)
    return dw


def linear(x: Array, w: Array, b: Array) -> Array:
    """y = x w^T + b. BERT stores w as (outputs, inputs)."""
    return x @ w.T + b  # (N, C), (F, C), (F,) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """dx = dy w,  dw = dy^T x,  db = sum_N dy."""
    dx = dy @ w  # (N, F), (F, C) -> (N, C)
    dw = dy.T @ x  # (F, N), (N, C) -> (F, C)
    db = dy.sum(0)  # (F,)
    return dx, dw, db


def layernorm(x: Array, w: Array, b: Array, eps: float) -> tuple[Array, tuple[Array, Array]]:
    """y = n w + b with n = (x - mean) rstd and rstd = 1 / sqrt(variance + eps), over the C channels of each row."""
    rstd = 1 / np.sqrt(x.var(1, keepdims=True) + eps)  # (N, 1)
    n = (x - x.mean(1, keepdims=True)) * rstd  # (N, C)
    return n * w + b, (n, rstd)  # (N, C)


def layernorm_backward(dy: Array, w: Array, n: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """dw = sum_N dy n,  db = sum_N dy,  and with dn = dy w:  dx = rstd (dn - mean_C(dn) - n mean_C(dn n))."""
    dw = (dy * n).sum(0)  # (C,)
    db = dy.sum(0)  # (C,)
    dn = dy * w  # (N, C)
    dx = rstd * (dn - dn.mean(1, keepdims=True) - n * (dn * n).mean(1, keepdims=True))  # (N, C)
    return dx, dw, db


def gelu(x: Array) -> tuple[Array, Array]:
    """y = x Phi(x) with Phi(x) = (1 + erf(x / sqrt(2))) / 2, the distribution function of the normal distribution."""
    erf = np.fromiter(
        map(math.erf, (x * math.sqrt(0.5)).ravel().tolist()), x.dtype, x.size
    )  # (N F,): NumPy has no erf, Python has
    phi = (1 + erf.reshape(x.shape)) / 2  # (N, F)
    return x * phi, phi  # (N, F)


def gelu_backward(dy: Array, x: Array, phi: Array) -> Array:
    """dx = dy (Phi(x) + x Phi'(x)) with Phi'(x) = exp(-x^2 / 2) / sqrt(2 pi)."""
    return dy * (phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))  # (N, F)


def softmax(x: Array) -> Array:
    """y = exp(x) / sum exp(x) over the last axis. Subtracting the maximum avoids overflow and changes nothing else."""
    e = np.exp(x - x.max(-1, keepdims=True))  # (..., S)
    return e / e.sum(-1, keepdims=True)  # (..., S)


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx = y (dy - sum(dy y)). Where y = 0, as for masked keys, dx is 0 too."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))  # (..., S)


def attention(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, Array]:
    """s = q k^T / sqrt(D),  p = softmax(s) over the keys that are real tokens,  y = p v."""
    D = q.shape[3]
    s = q @ k.swapaxes(2, 3) / math.sqrt(D)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    s = np.where(mask[:, None, None, :], s, -np.inf)  # (B, 1, 1, S) masks (B, H, T, S): no query sees padding
    p = softmax(s)  # (B, H, T, S)
    return p @ v, p  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)


def attention_backward(dy: Array, q: Array, k: Array, v: Array, p: Array) -> tuple[Array, Array, Array]:
    """dv = p^T dy,  dp = dy v^T,  ds = softmax_backward(dp),  dq = ds k / sqrt(D),  dk = ds^T q / sqrt(D)."""
    D = q.shape[3]
    dv = p.swapaxes(2, 3) @ dy  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dp = dy @ v.swapaxes(2, 3)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    ds = softmax_backward(dp, p)  # (B, H, T, S)
    dq = ds @ k / math.sqrt(D)  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)
    dk = ds.swapaxes(2, 3) @ q / math.sqrt(D)  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    return dq, dk, dv


def split_heads(x: Array, B: int, H: int) -> Array:
    """Cut each row into H heads, and put the heads before time. merge_heads is the inverse, and so the backward."""
    return x.reshape(B, -1, H, x.shape[1] // H).swapaxes(1, 2)  # (N, C) -> (B, T, H, D) -> (B, H, T, D)


def merge_heads(x: Array) -> Array:
    """Put the heads of each row side by side again. split_heads is the inverse, and so the backward."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B * T, H * D)  # (B, H, T, D) -> (B, T, H, D) -> (N, C)


def cross_entropy(z: Array, targets: Array) -> tuple[float, Array]:
    """loss = -mean log p[target] with log p = z - log sum_V exp(z)."""
    z = z - z.max(1, keepdims=True)  # (M, V)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))  # (M, V)
    M = len(targets)
    return -float(logp[np.arange(M), targets].sum()) / max(1, M), logp


def cross_entropy_backward(logp: Array, targets: Array) -> Array:
    """dz = (p - onehot(target)) / M."""
    M = len(targets)
    dz = np.exp(logp)  # (M, V)
    dz[np.arange(M), targets] -= 1  # (M,)
    return dz / max(1, M)  # (M, V)


# The model ------------------------------------------------------------------------------------------------------------


def block(x: Array, mask: Array, w: Params, config: Config) -> tuple[Array, tuple]:
    """x = norm(x + attention(x)), then x = norm(x + mlp(x)). w holds the block's weights by their names in it.

    mask (B, S): true where a token is real.
    """
    B, H, eps = len(mask), config.num_attention_heads, config.layer_norm_eps
    x1 = x  # (N, C)
    q = split_heads(linear(x1, w["attention.self.query.weight"], w["attention.self.query.bias"]), B, H)  # (B, H, T, D)
    k = split_heads(linear(x1, w["attention.self.key.weight"], w["attention.self.key.bias"]), B, H)  # (B, H, S, D)
    v = split_heads(linear(x1, w["attention.self.value.weight"], w["attention.self.value.bias"]), B, H)  # (B, H, S, D)
    y, p = attention(q, k, v, mask)  # (B, H, T, D), (B, H, T, S)
    a = merge_heads(y)  # (N, C)
    f = linear(a, w["attention.output.dense.weight"], w["attention.output.dense.bias"])  # (N, C)
    x2, norm1 = layernorm(x1 + f, w["attention.output.LayerNorm.weight"], w["attention.output.LayerNorm.bias"], eps)
    u = linear(x2, w["intermediate.dense.weight"], w["intermediate.dense.bias"])  # (N, F)
    g, phi = gelu(u)  # (N, F)
    f = linear(g, w["output.dense.weight"], w["output.dense.bias"])  # (N, C)
    x3, norm2 = layernorm(x2 + f, w["output.LayerNorm.weight"], w["output.LayerNorm.bias"], eps)  # (N, C)
    return x3, (x1, q, k, v, p, a, norm1, x2, u, phi, g, norm2)


def block_backward(dx: Array, w: Params, kept: tuple, config: Config) -> tuple[Array, Params]:
    """The block read from the bottom up. The norm's backward gives df. It goes to x and to the branch, which adds to dx."""
    x1, q, k, v, p, a, norm1, x2, u, phi, g, norm2 = kept
    B, H = len(q), config.num_attention_heads
    d: Params = {}  # the gradients, under the names of w
    df, d["output.LayerNorm.weight"], d["output.LayerNorm.bias"] = layernorm_backward(
        dx, w["output.LayerNorm.weight"], *norm2
    )  # (N, C)
    dg, d["output.dense.weight"], d["output.dense.bias"] = linear_backward(df, g, w["output.dense.weight"])  # (N, F)
    du = gelu_backward(dg, u, phi)  # (N, F)
    branch, d["intermediate.dense.weight"], d["intermediate.dense.bias"] = linear_backward(
        du, x2, w["intermediate.dense.weight"]
    )  # (N, C)
    dx = df + branch  # (N, C)
    df, d["attention.output.LayerNorm.weight"], d["attention.output.LayerNorm.bias"] = layernorm_backward(
        dx, w["attention.output.LayerNorm.weight"], *norm1
    )  # (N, C)
    da, d["attention.output.dense.weight"], d["attention.output.dense.bias"] = linear_backward(
        df, a, w["attention.output.dense.weight"]
    )  # (N, C)
    dq, dk, dv = attention_backward(split_heads(da, B, H), q, k, v, p)  # (B, H, T, D) each
    dx = df  # (N, C)
    for name, dhead in (("query", dq), ("key", dk), ("value", dv)):
        branch, d[f"attention.self.{name}.weight"], d[f"attention.self.{name}.bias"] = linear_backward(
            merge_heads(dhead), x1, w[f"attention.self.{name}.weight"]
        )  # (N, C)
        dx = dx + branch  # (N, C)
    return dx, d


def block_weights(params: Params, i: int) -> Params:
    """The parameters of block i, by the names that follow "bert.encoder.layer.{i}."."""
    prefix = f"bert.encoder.layer.{i}."
    return {name.removeprefix(prefix): w for name, w in params.items() if name.startswith(prefix)}


def logits(
    params: Params, config: Config, tokens: Array, token_types: Array, mask: Array, which: Array
) -> tuple[Array, tuple]:
    """The scores z (M, V) of each token at M of the N positions, for tokens (B, T); and what the backward needs.

    which (M,) holds the positions. token_types (B, T), mask (B, T).
    """
    B, T = tokens.shape
    rows, pos, types = tokens.reshape(-1), np.tile(np.arange(T), B), token_types.reshape(-1)  # (N,) each
    x = embedding(rows, params[WORD]) + embedding(pos, params[POSITION]) + embedding(types, params[TYPE])  # (N, C)
    w, b = params["bert.embeddings.LayerNorm.weight"], params["bert.embeddings.LayerNorm.bias"]  # (C,), (C,)
    x, norm0 = layernorm(x, w, b, config.layer_norm_eps)  # (N, C)
    blocks = []
    for i in range(config.num_hidden_layers):
        x, kept = block(x, mask, block_weights(params, i), config)  # (N, C)
        blocks.append(kept)
    h = x[which]  # (M, C): the other positions need no scores
    u = linear(h, params[HEAD + "dense.weight"], params[HEAD + "dense.bias"])  # (M, C)
    g, phi = gelu(u)  # (M, C)
    w, b = params[HEAD + "LayerNorm.weight"], params[HEAD + "LayerNorm.bias"]  # (C,), (C,)
    y, norm1 = layernorm(g, w, b, config.layer_norm_eps)  # (M, C)
    z = linear(y, params[WORD], params["cls.predictions.bias"])  # (M, V)
    return z, (rows, pos, types, norm0, blocks, x, which, h, u, phi, norm1, y)


def logits_backward(dz: Array, params: Params, config: Config, kept: tuple) -> Params:
    """The gradient of every parameter. The word embedding is used twice, at the top and at the bottom."""
    rows, pos, types, norm0, blocks, x, which, h, u, phi, norm1, y = kept
    d: Params = {}
    dy, d[WORD], d["cls.predictions.bias"] = linear_backward(dz, y, params[WORD])  # (M, C)
    dg, d[HEAD + "LayerNorm.weight"], d[HEAD + "LayerNorm.bias"] = layernorm_backward(
        dy, params[HEAD + "LayerNorm.weight"], *norm1
    )  # (M, C)
    du = gelu_backward(dg, u, phi)  # (M, C)
    dh, d[HEAD + "dense.weight"], d[HEAD + "dense.bias"] = linear_backward(du, h, params[HEAD + "dense.weight"])  # (M, C)
    dx = np.zeros_like(x)  # (N, C): zero at the positions without scores
    dx[which] = dh  # (M, C)
    for i in reversed(range(config.num_hidden_layers)):
        dx, d_block = block_backward(dx, block_weights(params, i), blocks[i], config)  # (N, C)
        d |= {f"bert.encoder.layer.{i}.{name}": dw for name, dw in d_block.items()}
    dx, d["bert.embeddings.LayerNorm.weight"], d["bert.embeddings.LayerNorm.bias"] = layernorm_backward(
        dx, params["bert.embeddings.LayerNorm.weight"], *norm0
    )  # (N, C): the sum of three embeddings passes it to each of them
    d[TYPE] = embedding_backward(dx, types, params[TYPE])  # (2, C)
    d[POSITION] = embedding_backward(dx, pos, params[POSITION])  # (the longest T, C)
    d[WORD] = d[WORD] + embedding_backward(dx, rows, params[WORD])  # (V, C): two uses, so two terms
    return d


def forward(
    params: Params, config: Config, tokens: Array, targets: Array,
    token_types: Array | None = None, attention_mask: Array | None = None,
) -> tuple[float, tuple]:  # fmt: skip
    """The mean cross-entropy of the targets (B, T) that are not -100, for tokens (B, T), and what the backward needs.

    token_types (B, T): 0 in the first sentence, 1 in the second. attention_mask (B, T): true where a token is real.
    Padding gets no gradient: no query sees it, and it has no target.
    """
    token_types = np.zeros_like(tokens) if token_types is None else token_types  # (B, T)
    mask = np.ones(tokens.shape, bool) if attention_mask is None else attention_mask.astype(bool)  # (B, T)
    which = np.flatnonzero(targets != -100)  # (M,): the positions that count
    z, kept = logits(params, config, tokens, token_types, mask, which)  # (M, V)
    loss, logp = cross_entropy(z, targets.reshape(-1)[which])
    return loss, (kept, logp, targets.reshape(-1)[which])


def backward(params: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to each parameter, under the parameter's name."""
    kept, logp, targets = kept
    dz = cross_entropy_backward(logp, targets)  # (M, V)
    grads = logits_backward(dz, params, config, kept)
    return grads | {name: grads[first] for name, first in TIED.items()}


def init(config: Config, seed: int = 0) -> Params:
    """Fresh parameters: the weights of norms are 1, biases are 0, matrices are random normal numbers."""
    C, F, V = config.hidden_size, config.intermediate_size, config.vocab_size
    tables = {"word": V, "position": config.max_position_embeddings, "token_type": config.type_vocab_size}
    shapes = {f"bert.embeddings.{name}_embeddings.weight": (rows, C) for name, rows in tables.items()}
    layers = {"bert.embeddings.LayerNorm": (C,)}  # a weight of this shape, and a bias
    for i in range(config.num_hidden_layers):
        in_block = {
            "attention.self.query": (C, C), "attention.self.key": (C, C), "attention.self.value": (C, C),
            "attention.output.dense": (C, C), "attention.output.LayerNorm": (C,),
            "intermediate.dense": (F, C), "output.dense": (C, F), "output.LayerNorm": (C,),
        }  # fmt: skip
        layers |= {f"bert.encoder.layer.{i}.{name}": shape for name, shape in in_block.items()}
    layers |= {"cls.predictions.transform.dense": (C, C), "cls.predictions.transform.LayerNorm": (C,)}
    for name, shape in layers.items():
        shapes |= {name + ".weight": shape, name + ".bias": shape[:1]}
    shapes["cls.predictions.bias"] = (V,)
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        fresh = config.initializer_range * rng.standard_normal(shape, np.float32)
        params[name] = fresh if len(shape) == 2 else np.full(shape, name.endswith("weight"), np.float32)
    return params | {name: params[first] for name, first in TIED.items()}


# Training -------------------------------------------------------------------------------------------------------------


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


def hide(tokens: Array, mask_id: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Choose 15 % of the tokens (B, T) as targets. Show 80 % of these as [MASK], 10 % as a random token, 10 % unchanged."""
    chosen, kind = rng.random(tokens.shape) < 0.15, rng.random(tokens.shape)  # (B, T), (B, T)
    shown = np.where(chosen & (kind < 0.8), mask_id, tokens)  # (B, T)
    shown = np.where(chosen & (kind >= 0.9), rng.integers(0, mask_id, tokens.shape), shown)  # (B, T)
    return shown, np.where(chosen, tokens, -100)  # (B, T), (B, T)


def fill(params: Params, config: Config, tokens: Array, mask_id: int) -> Array:
    """The probability (M, V) of each token at the M positions of tokens (1, T) that hold [MASK]."""
    which = np.flatnonzero(tokens == mask_id)  # (M,)
    z, _ = logits(params, config, tokens, np.zeros_like(tokens), np.ones(tokens.shape, bool), which)  # (M, V)
    return softmax(z)  # (M, V)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a small BERT on a text file, then fill gaps in pieces of it.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("text", help="Text file in UTF-8 to train on. Its characters are the vocabulary.")
    parser.add_argument("--steps", type=int, default=1000, help="Number of training steps.")
    parser.add_argument("--batch-size", type=int, default=48, help="Number of pieces of the text in each step.")
    parser.add_argument("--lr", type=float, default=3e-3, help="Largest learning rate, reached after 50 steps.")
    parser.add_argument("--gaps", type=int, default=8, help="Number of gaps to fill after training.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed for the weights, the data order and the gaps.")
    options = parser.parse_args(argv)

    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read '{options.text}': {error}. Pass the path of a text file in UTF-8.") from None
    characters = sorted(set(text))
    mask_id = len(characters)  # [MASK] is the last token
    config, rng = Config(vocab_size=mask_id + 1), np.random.default_rng(options.seed)
    T = config.max_position_embeddings
    if len(text) < 20 * T:
        raise SystemExit(f"'{options.text}' has {len(text)} characters, fewer than {20 * T}. Pass a longer text.")
    number = {c: i for i, c in enumerate(characters)}
    tokens = np.array([number[c] for c in text])  # (len(text),)
    train, held_out = np.split(tokens, [len(tokens) * 9 // 10])

    params = init(config, options.seed)
    m, v = ({name: np.zeros_like(w) for name, w in params.items() if name not in TIED} for _ in "mv")
    for step in range(1, options.steps + 1):
        starts = rng.integers(0, len(train) - T + 1, options.batch_size)  # (B,)
        shown, targets = hide(train[starts[:, None] + np.arange(T)], mask_id, rng)  # (B, T), (B, T)
        loss, kept = forward(params, config, shown, targets)
        grads = backward(params, config, kept)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / options.steps)  # from 1 to 0.1
        adam(params, grads, m, v, step, options.lr * min(1, step / 50) * cosine)
        if step % 20 == 0 or step in (1, options.steps):
            print(f"step {step:4d}  loss {loss:.4f}", flush=True)

    print("\nHeld-out pieces of text with one character hidden, and the most probable characters there (what it was)")
    for start in rng.integers(0, len(held_out) - T + 1, options.gaps):
        piece = held_out[start : start + T]  # (T,)
        gap = int(rng.integers(T))
        p = fill(params, config, np.where(np.arange(T) == gap, mask_id, piece)[None], mask_id)[0]  # (V,)
        line = "".join("[MASK]" if i == gap else characters[piece[i]] for i in range(T))
        best = ", ".join(f"{characters[i]!r} {p[i]:.0%}" for i in np.argsort(-p[:mask_id])[:4])
        print(f"{line!r:40} {best}  ({characters[piece[gap]]!r})")


if __name__ == "__main__":
    main()
