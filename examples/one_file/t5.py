"""T5 in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and greedy decoding.

    python examples/one_file/t5.py text.txt --steps 1000

T5 writes one text from another. Here it learns to put the vowels back into words that have lost them. Each operation has its
backward directly below it. The backward takes dy, the gradient of the loss with respect to the output y. It returns dx for
the input x, and puts the gradients of the parameters into g under their names, which are those of Hugging Face's
T5ForConditionalGeneration (version 1.0: ReLU, tied embeddings). blogs/t5.md and blogs/gpt.md derive the formulas.
Sizes: B batch, T time, S source or key positions, N = B T rows, C channels, H heads, D head size (H D need not be C),
F inner, V vocabulary. Arrays: x input, y output, w weights, dy dx dw gradients, s scores, p probabilities, z logits,
memory the encoder's output, which the decoder reads.
Papers: Raffel et al. 2020 (T5), Vaswani et al. 2017 (attention), Zhang & Sennrich 2019 (RMS norm), Press & Wolf 2017 (one
table for input and output), Loshchilov & Hutter 2019 (AdamW).
"""

import math
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Array = np.ndarray
Params = dict[str, np.ndarray]  # the parameters w or their gradients g, by name
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"  # follows "encoder." or "decoder."
TIED = {"lm_head.weight": "shared.weight"}  # second name of the same array
PAD, END = 0, 1  # the first two tokens. The decoder starts with PAD


@dataclass(frozen=True)
class Config:
    """Fields as in Hugging Face's T5Config. The defaults train in a minute. The comments give T5-small's values."""

    vocab_size: int  # 32128: V
    d_model: int = 64  # 512: C
    d_kv: int = 16  # 64: D
    d_ff: int = 128  # 2048: F
    num_layers: int = 2  # 6: blocks of the encoder, and as many of the decoder
    num_heads: int = 4  # 8: H
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128  # farther keys share a bucket
    layer_norm_epsilon: float = 1e-6


# The operations ---------------------------------------------------------------------------------------------------------
def linear(x: Array, w: Params, name: str) -> Array:
    """y = x w^T. PyTorch stores w as (outputs, inputs). T5 has no biases."""
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


def buckets(T: int, both_ways: bool, config: Config) -> Array:
    """The bucket (T, S) of the distance from each query to each key. Large distances share buckets, in logarithmic steps."""
    n = config.relative_attention_num_buckets // (2 if both_ways else 1)  # both ways: half of them are for later keys
    ahead = np.arange(T) - np.arange(T)[:, None]  # (T, S): how many positions the key is after the query
    distance = np.abs(ahead) if both_ways else np.maximum(-ahead, 0)  # (T, S)
    exact = n // 2  # distances below this have one bucket each
    ratio = np.maximum(distance, exact).astype(np.float32) / exact  # (T, S): in float32, as T5 was trained
    steps = np.log(ratio) / math.log(config.relative_attention_max_distance / exact) * (n - exact)  # (T, S)
    bucket = np.where(distance < exact, distance, np.minimum(exact + steps.astype(int), n - 1))  # (T, S)
    return bucket + n * (ahead > 0) if both_ways else bucket  # (T, S)


def relative_bias(w: Array, bucket: Array) -> Array:
    """bias[h, t, s] = w[bucket[t, s], h]: one number for each bucket and head, which is added to the scores."""
    return w[bucket].transpose(2, 0, 1)  # (buckets, H), (T, S) -> (T, S, H) -> (H, T, S)


def relative_bias_backward(dbias: Array, w: Array, bucket: Array) -> Array:
    """dw[b, h] = the sum of dbias[h, t, s] over all pairs (t, s) in bucket b."""
    dw = np.zeros_like(w)  # (buckets, H)
    np.add.at(dw, bucket, dbias.transpose(1, 2, 0))  # (H, T, S) -> (T, S, H) into (buckets, H)
    return dw


def attention(q: Array, k: Array, v: Array, bias: Array | float, mask: Array, H: int) -> tuple[Array, tuple]:
    """In each head:  s = q k^T + bias,  p = softmax(s) over the keys where the mask is true,  y = p v.  No 1 / sqrt(D)."""
    B, D = len(mask), q.shape[1] // H
    q, k, v = (x.reshape(B, -1, H, D).swapaxes(1, 2) for x in (q, k, v))  # (N, H D) -> (B, H, T or S, D) each
    s = q @ k.swapaxes(2, 3) + bias  # (B, H, T, D), (B, H, D, S), (H, T, S) -> (B, H, T, S)
    s = np.where(mask[:, None], s, -np.inf)  # (B, 1, 1 or T, S), (B, H, T, S): hidden keys get p = 0
    e = np.exp(s - s.max(3, keepdims=True))  # (B, H, T, S): the maximum cancels in p, and prevents overflow
    p = e / e.sum(3, keepdims=True)  # (B, H, T, S)
    y = (p @ v).swapaxes(1, 2).reshape(-1, H * D)  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D) -> (N, H D)
    return y, (q, k, v, p)


def attention_backward(dy: Array, q: Array, k: Array, v: Array, p: Array) -> tuple[Array, ...]:
    """dv = p^T dy,  dp = dy v^T,  ds = p (dp - sum_S(dp p)),  dq = ds k,  dk = ds^T q,  dbias = sum_B ds."""
    B, H, T, D = q.shape
    dy = dy.reshape(B, T, H, D).swapaxes(1, 2)  # (N, H D) -> (B, H, T, D)
    dv = p.swapaxes(2, 3) @ dy  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dp = dy @ v.swapaxes(2, 3)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    ds = p * (dp - (dp * p).sum(3, keepdims=True))  # (B, H, T, S): 0 at the hidden keys, where p = 0
    dq = ds @ k  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)
    dk = ds.swapaxes(2, 3) @ q  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dq, dk, dv = (dx.swapaxes(1, 2).reshape(-1, H * D) for dx in (dq, dk, dv))  # (N, H D), (B S, H D), (B S, H D)
    dbias = ds.sum(0)  # (B, H, T, S) -> (H, T, S): all texts of the batch share the bias
    return dq, dk, dv, dbias


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
def attention_layer(x: Array, w: Params, at: str, config: Config, mask: Array, bias=0.0, memory=None) -> tuple[Array, tuple]:
    """y = x + attention(norm(x)). Keys and values come from the memory (B S, C), or from norm(x) if there is none."""
    name = f"{at}.SelfAttention" if memory is None else f"{at}.EncDecAttention"
    h, norm = rmsnorm(x, w, f"{at}.layer_norm", config.layer_norm_epsilon)  # (N, C)
    seen = h if memory is None else memory  # (B S, C)
    q = linear(h, w, f"{name}.q")  # (N, C) -> (N, H D)
    k = linear(seen, w, f"{name}.k")  # (B S, C) -> (B S, H D)
    v = linear(seen, w, f"{name}.v")  # (B S, C) -> (B S, H D)
    a, heads = attention(q, k, v, bias, mask, config.num_heads)  # (N, H D)
    return x + linear(a, w, f"{name}.o"), (name, norm, h, seen, heads, a)  # (N, H D) -> (N, C)


def attention_layer_backward(dy: Array, w: Params, at: str, kept: tuple, g: Params) -> tuple[Array, Array, Array]:
    """Return dx, dmemory and dbias. The sum passes dy on to both of its terms, and the branch adds its own part to dx."""
    name, norm, h, seen, heads, a = kept
    da = linear_backward(dy, a, w, f"{name}.o", g)  # (N, C) -> (N, H D)
    dq, dk, dv, dbias = attention_backward(da, *heads)  # (N, H D), (B S, H D), (B S, H D), (H, T, S)
    dh = linear_backward(dq, h, w, f"{name}.q", g)  # (N, H D) -> (N, C)
    dseen = linear_backward(dk, seen, w, f"{name}.k", g)  # (B S, H D) -> (B S, C)
    dseen += linear_backward(dv, seen, w, f"{name}.v", g)  # (B S, C): every use adds to the gradient
    dh = dh + dseen if seen is h else dh  # (N, C): self-attention uses h three times
    return dy + rmsnorm_backward(dh, *norm, w, f"{at}.layer_norm", g), dseen, dbias  # (N, C), (B S, C), (H, T, S)


def mlp_layer(x: Array, w: Params, at: str, config: Config) -> tuple[Array, tuple]:
    """y = x + mlp(norm(x)),  mlp(h) = m wo^T,  m = relu(h wi^T)."""
    h, norm = rmsnorm(x, w, f"{at}.layer_norm", config.layer_norm_epsilon)  # (N, C)
    m = np.maximum(linear(h, w, f"{at}.DenseReluDense.wi"), 0)  # (N, C) -> (N, F): relu
    return x + linear(m, w, f"{at}.DenseReluDense.wo"), (norm, h, m)  # (N, F) -> (N, C)


def mlp_layer_backward(dy: Array, w: Params, at: str, kept: tuple, g: Params) -> Array:
    """The layer read from the bottom up. relu passes the gradient on where m > 0."""
    norm, h, m = kept
    dm = linear_backward(dy, m, w, f"{at}.DenseReluDense.wo", g)  # (N, C) -> (N, F)
    dh = linear_backward(dm * (m > 0), h, w, f"{at}.DenseReluDense.wi", g)  # (N, F) -> (N, C)
    return dy + rmsnorm_backward(dh, *norm, w, f"{at}.layer_norm", g)  # (N, C)


def stack(w: Params, name: str, config: Config, tokens: Array, mask: Array, memory=None) -> tuple[Array, tuple]:
    """The "encoder", or the "decoder" if there is a memory. It returns h (N, C) for tokens (B, T)."""
    (B, T), blocks = tokens.shape, []
    visible = mask if memory is None else np.tri(T, dtype=bool)[None].repeat(B, 0)  # (B, 1 or T, S): the decoder is causal
    bucket = buckets(T, memory is None, config)  # (T, S)
    bias = relative_bias(w[f"{name}.{BIAS}"], bucket)  # (H, T, S): all blocks share it
    x = w["shared.weight"][tokens.reshape(-1)]  # (V, C), (N,) -> (N, C)
    for i in range(config.num_layers):
        at, cross = f"{name}.block.{i}.layer", None
        x, attended = attention_layer(x, w, f"{at}.0", config, visible, bias)  # (N, C)
        if memory is not None:
            x, cross = attention_layer(x, w, f"{at}.1", config, mask, memory=memory)  # (N, C)
        x, mlp = mlp_layer(x, w, f"{at}.{1 if memory is None else 2}", config)  # (N, C)
        blocks.append((attended, cross, mlp))
    h, norm = rmsnorm(x, w, f"{name}.final_layer_norm", config.layer_norm_epsilon)  # (N, C)
    return h, (tokens, bucket, blocks, norm)


def stack_backward(dh: Array, w: Params, name: str, kept: tuple, g: Params) -> Array | float:
    """Return dmemory. The blocks share the bias and the memory, so their gradients are sums over the blocks."""
    tokens, bucket, blocks, norm = kept
    dmemory, dbias = 0.0, 0.0  # dmemory stays 0 in the encoder
    dx = rmsnorm_backward(dh, *norm, w, f"{name}.final_layer_norm", g)  # (N, C)
    for i in reversed(range(len(blocks))):
        at, (attended, cross, mlp) = f"{name}.block.{i}.layer", blocks[i]
        dx = mlp_layer_backward(dx, w, f"{at}.{1 if cross is None else 2}", mlp, g)  # (N, C)
        if cross is not None:
            dx, dm, _ = attention_layer_backward(dx, w, f"{at}.1", cross, g)  # (N, C), (B S, C)
            dmemory = dmemory + dm  # (B S, C)
        dx, _, db = attention_layer_backward(dx, w, f"{at}.0", attended, g)  # (N, C), (H, T, S)
        dbias = dbias + db  # (H, T, S)
    g[f"{name}.{BIAS}"] = relative_bias_backward(dbias, w[f"{name}.{BIAS}"], bucket)  # (buckets, H)
    np.add.at(g["shared.weight"], tokens.reshape(-1), dx)  # (N, C) into (V, C). += would count a repeated token only once
    return dmemory


def logits(w: Params, config: Config, source: Array, target_in: Array, mask=None) -> tuple[Array, tuple]:
    """z (N, V), whose softmax is the probability of each next token, for source (B, S) and target_in (B, T)."""
    mask = np.ones(source.shape, bool) if mask is None else mask.astype(bool)  # (B, S): true where the source is not padding
    memory, encoder = stack(w, "encoder", config, source, mask[:, None])  # (B, S), (B, 1, S) -> (B S, C)
    h, decoder = stack(w, "decoder", config, target_in, mask[:, None], memory)  # (B, T), (B, 1, S), (B S, C) -> (N, C)
    h = h * config.d_model**-0.5  # (N, C): keeps z of order 1, because the numbers in the table are of order 1
    return h @ w["shared.weight"].T, (encoder, decoder, h)  # (N, C), (C, V) -> (N, V)


def forward(w: Params, config: Config, source: Array, target_in: Array, targets: Array, mask=None) -> tuple[float, tuple]:
    """The mean cross-entropy of targets (B, T). target_in (B, T) is a start token and the targets without the last one."""
    z, kept = logits(w, config, source, target_in, mask)  # (N, V)
    loss, logp = cross_entropy(z, targets.reshape(-1))  # a number, (N, V)
    return loss, (*kept, logp, targets.reshape(-1))


def backward(w: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to every parameter, by the parameter's name."""
    encoder, decoder, h, logp, targets = kept
    dz = cross_entropy_backward(logp, targets)  # (N, V)
    g: Params = {"shared.weight": dz.T @ h}  # (V, N), (N, C) -> (V, C): one table, used three times. The stacks add to it
    dh = dz @ w["shared.weight"] * config.d_model**-0.5  # (N, V), (V, C) -> (N, C)
    dmemory = stack_backward(dh, w, "decoder", decoder, g)  # (B S, C)
    stack_backward(dmemory, w, "encoder", encoder, g)
    return g | {"lm_head.weight": g["shared.weight"]}


# Training and writing ---------------------------------------------------------------------------------------------------
def init(config: Config, seed: int) -> Params:
    """Fresh float32 parameters: matrices from normal distributions that keep numbers of order 1, the norms' weights 1."""
    C, F, H, D = config.d_model, config.d_ff, config.num_heads, config.d_kv
    maps = {"q": (H * D, C), "k": (H * D, C), "v": (H * D, C), "o": (C, H * D)}
    layers = {"SelfAttention": maps, "EncDecAttention": maps, "DenseReluDense": {"wi": (F, C), "wo": (C, F)}}
    shapes = {"shared.weight": (config.vocab_size, C)}
    for part, names in {"encoder": ["SelfAttention", "DenseReluDense"], "decoder": list(layers)}.items():
        shapes[f"{part}.{BIAS}"] = (config.relative_attention_num_buckets, H)
        shapes[f"{part}.final_layer_norm.weight"] = (C,)
        for i in range(config.num_layers):
            for j, layer in enumerate(names):
                at = f"{part}.block.{i}.layer.{j}"
                shapes[f"{at}.layer_norm.weight"] = (C,)
                shapes |= {f"{at}.{layer}.{x}.weight": shape for x, shape in layers[layer].items()}
    special = {"shared": 1.0, "relative_attention_bias": C**-0.5, "q": (C * D) ** -0.5}  # 1 / sqrt(D) of s is in q
    rng, params = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        std = special.get(name.split(".")[-2], shape[-1] ** -0.5)  # one over the square root of the inputs
        params[name] = std * rng.standard_normal(shape, np.float32) if len(shape) == 2 else np.ones(shape, np.float32)
    return params | {"lm_head.weight": params["shared.weight"]}


def adam(params: Params, grads: Params, m: Params, v: Params, step: int, lr: float) -> None:
    """Update the parameters in place. m and v are moving means of each gradient and of its square."""
    norm = math.sqrt(sum(float((grads[name] ** 2).sum()) for name in m))  # of all gradients together
    for name in m:
        w, g = params[name], grads[name] / max(1.0, norm)  # a norm above 1 is scaled down to 1
        m[name] = 0.9 * m[name] + 0.1 * g
        v[name] = 0.99 * v[name] + 0.01 * g * g
        mean, square = m[name] / (1 - 0.9**step), v[name] / (1 - 0.99**step)  # corrected for their start at 0
        w -= lr * (mean / (np.sqrt(square) + 1e-8) + (0.1 * w if w.ndim == 2 else 0))  # only matrices decay


def generate(w: Params, config: Config, source: Array, n: int) -> list[int]:
    """Write the target for one source (S,): append the most probable token until it is END, or n times."""
    tokens = [PAD]
    while len(tokens) <= n and tokens[-1] != END:
        z, _ = logits(w, config, source[None], np.array([tokens]))  # (T, V)
        tokens.append(int(z[-1].argmax()))
    return [token for token in tokens[1:] if token != END]


def without_vowels(text: str) -> str:
    """The task: the source is the text without its vowels, the target is the text."""
    return "".join(c for c in text if c.lower() not in "aeiou")


def batch(texts: list[str], number: dict[str, int]) -> tuple[Array, Array, Array, Array]:
    """source (B, S), target_in (B, T), targets (B, T) and mask (B, S) of B texts, padded at the end to the longest."""
    sources = [[number[c] for c in without_vowels(text)] + [END] for text in texts]
    targets = [[number[c] for c in text] + [END] for text in texts]
    S, T = max(map(len, sources)), max(map(len, targets))
    source = np.array([row + [PAD] * (S - len(row)) for row in sources])  # (B, S)
    target_in = np.array([[PAD] + row[:-1] + [PAD] * (T - len(row)) for row in targets])  # (B, T): one position later
    target = np.array([row + [-100] * (T - len(row)) for row in targets])  # (B, T)
    return source, target_in, target, source != PAD


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Train a small T5 on a text file.", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("text", help="Text file in UTF-8 to train on. Its characters are the vocabulary.")
    parser.add_argument("--steps", type=int, default=1000, help="Number of training steps.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed for the weights, the data order and the samples.")
    options = parser.parse_args(argv)
    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read '{options.text}': {error}. Pass the path of a text file in UTF-8.") from None
    words, B, L = text.split(), 32, 3  # each step trains on B texts of L words
    if len(words) < 10 * L:
        raise SystemExit(f"'{options.text}' has {len(words)} words, fewer than {10 * L}. Pass a longer text.")
    texts = [" ".join(words[i : i + L]) for i in range(len(words) - L + 1)]
    cut = len(texts) * 9 // 10
    train, held_out = texts[: cut - L], texts[cut:]  # a gap, because neighbours overlap
    vocabulary = ["[PAD]", "[END]", *sorted(set(" ".join(words)))]
    number = {c: i for i, c in enumerate(vocabulary)}
    config, rng = Config(vocab_size=len(vocabulary)), np.random.default_rng(options.seed)

    params = init(config, options.seed)
    m = {name: np.zeros_like(w) for name, w in params.items() if name not in TIED}  # Adam updates a shared array once
    v = {name: np.zeros_like(w) for name, w in m.items()}
    for step in range(1, options.steps + 1):
        examples = batch([train[i] for i in rng.integers(0, len(train), B)], number)
        loss, kept = forward(params, config, *examples)
        grads = backward(params, config, kept)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / options.steps)  # from 1 to 0.1
        adam(params, grads, m, v, step, 5e-3 * min(1, step / 20) * cosine)  # the first 20 steps are shorter
        if step % 20 == 0 or step in (1, options.steps):
            print(f"step {step:4d}  loss {loss:.4f}", flush=True)

    print("\nHeld-out texts without their vowels -> what the model writes (what was in the file)")
    for i in rng.integers(0, len(held_out), 8):
        short = without_vowels(held_out[i])
        source = np.array([number[c] for c in short] + [END])  # (S,)
        written = generate(params, config, source, 3 * len(source))
        print(f"{short} -> {''.join(vocabulary[token] for token in written)}  ({held_out[i]})")


if __name__ == "__main__":
    main()
