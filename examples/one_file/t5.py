"""T5 in one file of NumPy: the loss, every gradient by hand, Adam, training on a text file, and greedy decoding.

    python examples/one_file/t5.py text.txt --steps 1000

It learns to put the vowels back into a text that has lost them: a sequence for a sequence. T5 itself was trained to put back
longer pieces of text, which takes far more steps.

Each function that computes something has its backward directly below it. The backward takes dy, the gradient of the loss
with respect to the function's output, and returns the gradients with respect to its inputs. blogs/t5.md and blogs/gpt.md
derive each of them. The parameters have the names and layouts of Hugging Face's T5ForConditionalGeneration, for version 1.0
of T5 (ReLU, tied embeddings). All arithmetic stays in the parameters' dtype: float32 for training, float64 to check
gradients. There is no dropout.

B batch, T time (queries), S source or key positions, C channels, H heads, D head size (H D need not be C), F feed-forward,
V vocabulary, N = B T rows. x input, y output, w weight, dy dx dw gradients, s scores, p probabilities, f residual branch,
pos positions, m memory (what the encoder hands to the decoder).

Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (T5). Vaswani et al.
2017, Attention Is All You Need. Zhang & Sennrich 2019, Root Mean Square Layer Normalization. Press & Wolf 2017, Using the
Output Embedding to Improve Language Models (tying). Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization (AdamW).
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
    """The fields of Hugging Face's T5Config. The defaults train in less than a minute; T5-small is in the comments."""

    vocab_size: int  # V, 32128
    d_model: int = 64  # C, 512
    d_kv: int = 16  # D, 64
    d_ff: int = 128  # F, 2048
    num_layers: int = 2  # 6, the same number in the encoder and in the decoder
    num_heads: int = 4  # H, 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128  # farther keys share a bucket
    layer_norm_epsilon: float = 1e-6


TIED = {"lm_head.weight": "shared.weight"}  # one array under two names. The forward reads the second
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"  # follows "encoder." or "decoder."
PAD, END = 0, 1  # token ids, as in T5's vocabulary. The decoder starts with PAD


# The operations, each above its backward ------------------------------------------------------------------------------


def embedding(rows: Array, w: Array) -> Array:
    """y = w[rows]: one row of the table for each index."""
    return w[rows]  # (N,), (V, C) -> (N, C)


def embedding_backward(dy: Array, rows: Array, w: Array) -> Array:
    """dw[r] = the sum of dy over all n with rows[n] = r. `dw[rows] += dy` would lose all but one of them."""
    dw = np.zeros_like(w)  # (V, C)
    np.add.at(dw, rows, dy)  # (N,), (N, C) added into (V, C)
    return dw


def linear(x: Array, w: Array) -> Array:
    """y = x w^T. T5 stores w as (outputs, inputs). It has no biases."""
    return x @ w.T  # (N, C), (F, C) -> (N, F)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """dx = dy w,  dw = dy^T x."""
    dx = dy @ w  # (N, F), (F, C) -> (N, C)
    dw = dy.T @ x  # (F, N), (N, C) -> (F, C)
    return dx, dw


def rmsnorm(x: Array, w: Array, eps: float) -> tuple[Array, tuple[Array, Array]]:
    """y = n w with n = x rstd and rstd = 1 / sqrt(mean(x^2) + eps), over the C channels of each row."""
    rstd = 1 / np.sqrt((x * x).mean(1, keepdims=True) + eps)  # (N, 1)
    n = x * rstd  # (N, C)
    return n * w, (n, rstd)  # (N, C)


def rmsnorm_backward(dy: Array, w: Array, n: Array, rstd: Array) -> tuple[Array, Array]:
    """dw = sum_N dy n,  and with dn = dy w:  dx = rstd (dn - n mean_C(dn n))."""
    dw = (dy * n).sum(0)  # (C,)
    dn = dy * w  # (N, C)
    dx = rstd * (dn - n * (dn * n).mean(1, keepdims=True))  # (N, C)
    return dx, dw


def relu(x: Array) -> Array:
    """y = max(x, 0)."""
    return np.maximum(x, 0)  # (N, F)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, and 0 elsewhere."""
    return dy * (y > 0)  # (N, F)


def buckets(T: int, S: int, both_ways: bool, config: Config) -> Array:
    """The bucket (T, S) of the distance from each query to each key, in [0, relative_attention_num_buckets).

    both_ways (the encoder): the upper half of the buckets is for keys after the query. Else all are for keys before it.
    The nearest distances have one bucket each. Farther ones share buckets, in logarithmic steps up to the maximum distance.
    """
    n = config.relative_attention_num_buckets // (2 if both_ways else 1)
    ahead = np.arange(S) - np.arange(T)[:, None]  # (T, S): how many positions the key is after the query
    distance = np.abs(ahead) if both_ways else np.maximum(-ahead, 0)  # (T, S)
    exact = n // 2  # distances below this have one bucket each
    ratio = np.maximum(distance, exact).astype(np.float32) / np.float32(exact)  # T5 was trained with float32's roundings
    steps = np.log(ratio) / np.float32(math.log(config.relative_attention_max_distance / exact)) * np.float32(n - exact)
    bucket = np.where(distance < exact, distance, np.minimum(exact + steps.astype(int), n - 1))  # (T, S)
    return bucket + n * (ahead > 0) if both_ways else bucket  # (T, S)


def relative_bias(w: Array, bucket: Array) -> Array:
    """bias[h, t, s] = w[bucket[t, s], h]: one number for each head and bucket, added to the scores."""
    return w[bucket].transpose(2, 0, 1)  # (buckets, H), (T, S) -> (T, S, H) -> (H, T, S)


def relative_bias_backward(dbias: Array, w: Array, bucket: Array) -> Array:
    """dw[b, h] = the sum of dbias[h, t, s] over all pairs (t, s) in bucket b."""
    dw = np.zeros_like(w)  # (buckets, H)
    np.add.at(dw, bucket, dbias.transpose(1, 2, 0))  # (T, S), (T, S, H) added into (buckets, H)
    return dw


def softmax(x: Array) -> Array:
    """y = exp(x) / sum exp(x) over the last axis. Subtracting the maximum avoids overflow and changes nothing else."""
    e = np.exp(x - x.max(-1, keepdims=True))  # (..., S)
    return e / e.sum(-1, keepdims=True)  # (..., S)


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx = y (dy - sum(dy y)). Where y = 0, as for masked keys, dx is 0 too."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))  # (..., S)


def attention(q: Array, k: Array, v: Array, bias: Array | float, mask: Array) -> tuple[Array, Array]:
    """s = q k^T + bias,  p = softmax(s) over the keys where the mask is true,  y = p v. T5 does not divide s by sqrt(D)."""
    s = q @ k.swapaxes(2, 3) + bias  # (B, H, T, D), (B, H, D, S), (H, T, S) -> (B, H, T, S)
    s = np.where(mask, s, -np.inf)  # (B, 1, T or 1, S) masks (B, H, T, S)
    p = softmax(s)  # (B, H, T, S)
    return p @ v, p  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)


def attention_backward(dy: Array, q: Array, k: Array, v: Array, p: Array) -> tuple[Array, Array, Array, Array]:
    """dv = p^T dy,  dp = dy v^T,  ds = softmax_backward(dp),  dq = ds k,  dk = ds^T q,  dbias = sum_B ds."""
    dv = p.swapaxes(2, 3) @ dy  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dp = dy @ v.swapaxes(2, 3)  # (B, H, T, D), (B, H, D, S) -> (B, H, T, S)
    ds = softmax_backward(dp, p)  # (B, H, T, S)
    dq = ds @ k  # (B, H, T, S), (B, H, S, D) -> (B, H, T, D)
    dk = ds.swapaxes(2, 3) @ q  # (B, H, S, T), (B, H, T, D) -> (B, H, S, D)
    dbias = ds.sum(0)  # (H, T, S): all texts of the batch share the bias
    return dq, dk, dv, dbias


def split_heads(x: Array, B: int, H: int) -> Array:
    """Cut each row into H heads, and put the heads before time. merge_heads is the inverse, and so the backward."""
    return x.reshape(B, -1, H, x.shape[1] // H).swapaxes(1, 2)  # (N, C) -> (B, T, H, D) -> (B, H, T, D)


def merge_heads(x: Array) -> Array:
    """Put the heads of each row side by side again. split_heads is the inverse, and so the backward."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B * T, H * D)  # (B, H, T, D) -> (B, T, H, D) -> (N, C)


def cross_entropy(z: Array, targets: Array) -> tuple[float, Array]:
    """loss = -mean log p[target] with log p = z - log sum_V exp(z). Rows whose target is -100 do not count."""
    rows = np.flatnonzero(targets != -100)  # (M,): the rows that count
    z = z - z.max(1, keepdims=True)  # (N, V)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))  # (N, V)
    return -float(logp[rows, targets[rows]].sum()) / max(1, len(rows)), logp


def cross_entropy_backward(logp: Array, targets: Array) -> Array:
    """dz = (p - onehot(target)) / M in the M rows that count, and 0 in the others."""
    rows = np.flatnonzero(targets != -100)  # (M,)
    dz = np.zeros_like(logp)  # (N, V)
    dz[rows] = np.exp(logp[rows])  # (M, V)
    dz[rows, targets[rows]] -= 1  # (M,)
    return dz / max(1, len(rows))  # (N, V)


# The layers of a block. w holds the weights of one layer by their names in it, d the gradients by the same names --------


def attention_layer(
    x: Array, m: Array | None, w: Params, bias: Array | float, mask: Array, config: Config
) -> tuple[Array, tuple]:
    """x = x + f. Queries come from h = norm(x). Keys and values come from the memory m, or from h if m is None.

    bias (H, T, S), or 0. mask (B, 1, 1 or T, S): true where a query may see a key.
    """
    B, H, n = len(mask), config.num_heads, "SelfAttention." if m is None else "EncDecAttention."
    h, norm = rmsnorm(x, w["layer_norm.weight"], config.layer_norm_epsilon)  # (N, C)
    seen = h if m is None else m  # (B S, C)
    q = split_heads(linear(h, w[n + "q.weight"]), B, H)  # (B, H, T, D)
    k = split_heads(linear(seen, w[n + "k.weight"]), B, H)  # (B, H, S, D)
    v = split_heads(linear(seen, w[n + "v.weight"]), B, H)  # (B, H, S, D)
    y, p = attention(q, k, v, bias, mask)  # (B, H, T, D), (B, H, T, S)
    a = merge_heads(y)  # (N, H D)
    f = linear(a, w[n + "o.weight"])  # (N, C)
    return x + f, (n, norm, h, seen, q, k, v, p, a)


def attention_layer_backward(dx: Array, w: Params, kept: tuple) -> tuple[Array, Array, Array, Params]:
    """Return dx, dm, dbias and d. In self attention keys and values come from h, so dm is a part of dh."""
    n, norm, h, seen, q, k, v, p, a = kept
    B, H, d = len(q), q.shape[1], {}
    da, d[n + "o.weight"] = linear_backward(dx, a, w[n + "o.weight"])  # (N, H D)
    dq, dk, dv, dbias = attention_backward(split_heads(da, B, H), q, k, v, p)  # (B, H, T or S, D), and (H, T, S)
    dm_v, d[n + "v.weight"] = linear_backward(merge_heads(dv), seen, w[n + "v.weight"])  # (B S, C)
    dm_k, d[n + "k.weight"] = linear_backward(merge_heads(dk), seen, w[n + "k.weight"])  # (B S, C)
    dh, d[n + "q.weight"] = linear_backward(merge_heads(dq), h, w[n + "q.weight"])  # (N, C)
    dm = dm_k + dm_v  # (B S, C)
    dh = dh + dm if n == "SelfAttention." else dh  # (N, C)
    branch, d["layer_norm.weight"] = rmsnorm_backward(dh, w["layer_norm.weight"], *norm)  # (N, C)
    return dx + branch, dm, dbias, d  # (N, C), (B S, C), (H, T, S)


def feed_forward_layer(x: Array, w: Params, config: Config) -> tuple[Array, tuple]:
    """x = x + relu(h wi^T) wo^T with h = norm(x)."""
    h, norm = rmsnorm(x, w["layer_norm.weight"], config.layer_norm_epsilon)  # (N, C)
    y = relu(linear(h, w["DenseReluDense.wi.weight"]))  # (N, F)
    f = linear(y, w["DenseReluDense.wo.weight"])  # (N, C)
    return x + f, (norm, h, y)


def feed_forward_layer_backward(dx: Array, w: Params, kept: tuple) -> tuple[Array, Params]:
    """At x + f the gradient goes to both: df = dx, and what comes back through the branch adds to dx."""
    (norm, h, y), d = kept, {}
    dy, d["DenseReluDense.wo.weight"] = linear_backward(dx, y, w["DenseReluDense.wo.weight"])  # (N, F)
    dh, d["DenseReluDense.wi.weight"] = linear_backward(relu_backward(dy, y), h, w["DenseReluDense.wi.weight"])  # (N, C)
    branch, d["layer_norm.weight"] = rmsnorm_backward(dh, w["layer_norm.weight"], *norm)  # (N, C)
    return dx + branch, d


def inside(params: Params, prefix: str) -> Params:
    """The parameters whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): w for name, w in params.items() if name.startswith(prefix)}


def outside(d: Params, prefix: str) -> Params:
    """The inverse of inside: the gradients with the prefix before their names."""
    return {prefix + name: dw for name, dw in d.items()}


# The model ------------------------------------------------------------------------------------------------------------


def encoder(params: Params, config: Config, source: Array, mask: Array) -> tuple[Array, tuple]:
    """The memory m (B S, C) of the source (B, S). Each position sees all real positions. mask (B, 1, 1, S)."""
    S, rows = source.shape[1], source.reshape(-1)  # (B S,)
    bucket = buckets(S, S, True, config)  # (S, S)
    bias = relative_bias(params["encoder." + BIAS], bucket)  # (H, S, S): all blocks share it
    x = embedding(rows, params["shared.weight"])  # (B S, C)
    blocks = []
    for i in range(config.num_layers):
        n = f"encoder.block.{i}.layer."
        x, kept_0 = attention_layer(x, None, inside(params, n + "0."), bias, mask, config)  # (B S, C)
        x, kept_1 = feed_forward_layer(x, inside(params, n + "1."), config)  # (B S, C)
        blocks.append((kept_0, kept_1))
    m, norm = rmsnorm(x, params["encoder.final_layer_norm.weight"], config.layer_norm_epsilon)  # (B S, C)
    return m, (rows, bucket, blocks, norm)


def encoder_backward(dm: Array, params: Params, config: Config, kept: tuple) -> Params:
    """The encoder read from the bottom up. The blocks share the bias, so dbias is the sum over the blocks."""
    rows, bucket, blocks, norm = kept
    grads: Params = {}
    dx, grads["encoder.final_layer_norm.weight"] = rmsnorm_backward(dm, params["encoder.final_layer_norm.weight"], *norm)
    dbias = np.zeros((config.num_heads, *bucket.shape), dm.dtype)  # (H, S, S)
    for i in reversed(range(config.num_layers)):
        n, (kept_0, kept_1) = f"encoder.block.{i}.layer.", blocks[i]
        dx, d_1 = feed_forward_layer_backward(dx, inside(params, n + "1."), kept_1)  # (B S, C)
        dx, _, db, d_0 = attention_layer_backward(dx, inside(params, n + "0."), kept_0)  # (B S, C), (H, S, S)
        dbias += db
        grads |= outside(d_0, n + "0.") | outside(d_1, n + "1.")
    grads["shared.weight"] = embedding_backward(dx, rows, params["shared.weight"])  # (V, C)
    grads["encoder." + BIAS] = relative_bias_backward(dbias, params["encoder." + BIAS], bucket)  # (buckets, H)
    return grads


def decoder(params: Params, config: Config, target_in: Array, m: Array, mask: Array) -> tuple[Array, tuple]:
    """The last hidden state h (N, C) of target_in (B, T). Each position sees those up to its own, and the memory m."""
    (B, T), rows = target_in.shape, target_in.reshape(-1)  # (N,)
    causal = np.tri(T, dtype=bool)[None, None].repeat(B, 0)  # (B, 1, T, T)
    bucket = buckets(T, T, False, config)  # (T, T)
    bias = relative_bias(params["decoder." + BIAS], bucket)  # (H, T, T)
    x = embedding(rows, params["shared.weight"])  # (N, C)
    blocks = []
    for i in range(config.num_layers):
        n = f"decoder.block.{i}.layer."
        x, kept_0 = attention_layer(x, None, inside(params, n + "0."), bias, causal, config)  # (N, C)
        x, kept_1 = attention_layer(x, m, inside(params, n + "1."), 0.0, mask, config)  # (N, C)
        x, kept_2 = feed_forward_layer(x, inside(params, n + "2."), config)  # (N, C)
        blocks.append((kept_0, kept_1, kept_2))
    h, norm = rmsnorm(x, params["decoder.final_layer_norm.weight"], config.layer_norm_epsilon)  # (N, C)
    return h, (rows, bucket, blocks, norm, m)


def decoder_backward(dh: Array, params: Params, config: Config, kept: tuple) -> tuple[Array, Params]:
    """Return dm and the gradients. All blocks read the same memory, so dm is the sum over their cross attentions."""
    rows, bucket, blocks, norm, m = kept
    grads: Params = {}
    dx, grads["decoder.final_layer_norm.weight"] = rmsnorm_backward(dh, params["decoder.final_layer_norm.weight"], *norm)
    dbias = np.zeros((config.num_heads, *bucket.shape), dh.dtype)  # (H, T, T)
    dm = np.zeros_like(m)  # (B S, C)
    for i in reversed(range(config.num_layers)):
        n, (kept_0, kept_1, kept_2) = f"decoder.block.{i}.layer.", blocks[i]
        dx, d_2 = feed_forward_layer_backward(dx, inside(params, n + "2."), kept_2)  # (N, C)
        dx, dm_i, _, d_1 = attention_layer_backward(dx, inside(params, n + "1."), kept_1)  # (N, C), (B S, C)
        dx, _, db, d_0 = attention_layer_backward(dx, inside(params, n + "0."), kept_0)  # (N, C), (H, T, T)
        dm += dm_i
        dbias += db
        grads |= outside(d_0, n + "0.") | outside(d_1, n + "1.") | outside(d_2, n + "2.")
    grads["shared.weight"] = embedding_backward(dx, rows, params["shared.weight"])  # (V, C)
    grads["decoder." + BIAS] = relative_bias_backward(dbias, params["decoder." + BIAS], bucket)  # (buckets, H)
    return dm, grads


def forward(
    params: Params, config: Config, source: Array, target_in: Array, targets: Array, source_mask: Array | None = None
) -> tuple[float, tuple]:
    """The mean cross-entropy of the targets (B, T) that are not -100, and what the backward needs.

    source (B, S). source_mask (B, S): true where a token is real. target_in (B, T): a start token, then the targets without
    the last one. Padding at the end of target_in needs no mask, because no earlier position sees it.
    """
    mask = np.ones(source.shape, bool) if source_mask is None else source_mask.astype(bool)
    mask = mask[:, None, None, :]  # (B, 1, 1, S)
    m, kept_encoder = encoder(params, config, source, mask)  # (B S, C)
    h, kept_decoder = decoder(params, config, target_in, m, mask)  # (N, C)
    h = h * config.d_model**-0.5  # (N, C): keeps z of order 1, because the embedding's numbers are of order 1
    z = linear(h, params["shared.weight"])  # (N, V)
    loss, logp = cross_entropy(z, targets.reshape(-1))
    return loss, (kept_encoder, kept_decoder, h, logp, targets.reshape(-1))


def backward(params: Params, config: Config, kept: tuple) -> Params:
    """The gradient of the loss with respect to each parameter, under the parameter's name."""
    kept_encoder, kept_decoder, h, logp, targets = kept
    dz = cross_entropy_backward(logp, targets)  # (N, V)
    dh, dw = linear_backward(dz, h, params["shared.weight"])  # (N, C), (V, C)
    dh = dh * config.d_model**-0.5  # (N, C)
    dm, grads_decoder = decoder_backward(dh, params, config, kept_decoder)  # (B S, C)
    grads_encoder = encoder_backward(dm, params, config, kept_encoder)
    dw = dw + grads_decoder["shared.weight"] + grads_encoder["shared.weight"]  # (V, C): three uses, so three terms
    return grads_encoder | grads_decoder | {"shared.weight": dw, "lm_head.weight": dw}


def init(config: Config, seed: int = 0) -> Params:
    """Fresh parameters: norms are 1. Standard deviations of matrices are chosen to keep the size of activations.

    The weights of the queries are smaller by sqrt(D). This replaces the division of the scores by sqrt(D).
    """
    C, H, D, F = config.d_model, config.num_heads, config.d_kv, config.d_ff
    kinds = {  # shape and standard deviation
        "shared": ((config.vocab_size, C), 1.0),
        "relative_attention_bias": ((config.relative_attention_num_buckets, H), C**-0.5),
        "q": ((H * D, C), (C * D) ** -0.5), "k": ((H * D, C), C**-0.5), "v": ((H * D, C), C**-0.5),
        "o": ((C, H * D), (H * D) ** -0.5), "wi": ((F, C), C**-0.5), "wo": ((C, F), F**-0.5),
    }  # fmt: skip
    names = ["shared.weight"]
    for stack, layers in (("encoder", ("SelfAttention", "")), ("decoder", ("SelfAttention", "EncDecAttention", ""))):
        names.append(f"{stack}.{BIAS}")
        for i in range(config.num_layers):
            for j, layer in enumerate(layers):
                n = f"{stack}.block.{i}.layer.{j}."
                inner = [f"{layer}.{x}" for x in "qkvo"] if layer else ["DenseReluDense.wi", "DenseReluDense.wo"]
                names += [n + "layer_norm.weight", *(f"{n}{x}.weight" for x in inner)]
        names.append(f"{stack}.final_layer_norm.weight")
    rng, params = np.random.default_rng(seed), {}
    for name in names:
        shape, std = kinds.get(name.split(".")[-2], ((C,), None))
        params[name] = np.ones(shape, np.float32) if std is None else std * rng.standard_normal(shape, np.float32)
    return params | {"lm_head.weight": params["shared.weight"]}


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


def generate(params: Params, config: Config, source: Array, n: int) -> list[int]:
    """Write the target for one source (S,): append the most probable token, until that is END or there are n."""
    mask = np.ones((1, 1, 1, len(source)), bool)  # (1, 1, 1, S)
    m, _ = encoder(params, config, source[None], mask)  # (S, C): the encoder runs once
    tokens = [PAD]  # what the decoder starts with
    while len(tokens) <= n:
        h, _ = decoder(params, config, np.array([tokens]), m, mask)  # (T, C)
        z = linear(h[-1:] * config.d_model**-0.5, params["shared.weight"])  # (1, V)
        tokens.append(int(z.argmax()))
        if tokens[-1] == END:
            return tokens[1:-1]
    return tokens[1:]


def without_vowels(text: str) -> str:
    """The task: the source is the text without its vowels, the target is the text."""
    return "".join(c for c in text if c.lower() not in "aeiou")


def batch(texts: list[str], number: dict[str, int]) -> tuple[Array, Array, Array, Array]:
    """source (B, S), target_in (B, T), targets (B, T) and source_mask (B, S) of B texts, padded to the longest."""
    sources = [[number[c] for c in without_vowels(text)] + [END] for text in texts]
    targets = [[number[c] for c in text] + [END] for text in texts]
    S, T = max(map(len, sources)), max(map(len, targets))
    source = np.array([row + [PAD] * (S - len(row)) for row in sources])  # (B, S)
    target_in = np.array([[PAD] + row[:-1] + [PAD] * (T - len(row)) for row in targets])  # (B, T): one position later
    target = np.array([row + [-100] * (T - len(row)) for row in targets])  # (B, T)
    return source, target_in, target, source != PAD


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a small T5 to put the vowels back into the words of a text file.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("text", help="Text file in UTF-8 to train on. Its characters are the vocabulary.")
    parser.add_argument("--steps", type=int, default=1000, help="Number of training steps.")
    parser.add_argument("--batch-size", type=int, default=32, help="Number of texts in each step.")
    parser.add_argument("--words", type=int, default=3, help="Number of words in each text.")
    parser.add_argument("--lr", type=float, default=5e-3, help="Largest learning rate, reached after 20 steps.")
    parser.add_argument("--samples", type=int, default=8, help="Number of texts to write after training.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed for the weights, the data order and the samples.")
    options = parser.parse_args(argv)

    try:
        text = Path(options.text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot read '{options.text}': {error}. Pass the path of a text file in UTF-8.") from None
    words = text.split()
    if len(words) < 10 * options.words:
        raise SystemExit(f"'{options.text}' has {len(words)} words, fewer than {10 * options.words}. Pass a longer text.")
    texts = [" ".join(words[i : i + options.words]) for i in range(len(words) - options.words + 1)]
    cut = len(texts) * 9 // 10
    train, held_out = texts[: cut - options.words], texts[cut:]  # a gap, because neighbours overlap
    characters = sorted(set(text) | {" "})
    number = {c: i + 2 for i, c in enumerate(characters)}  # 0 is PAD and 1 is END
    config, rng = Config(vocab_size=len(characters) + 2), np.random.default_rng(options.seed)

    params = init(config, options.seed)
    m, v = ({name: np.zeros_like(w) for name, w in params.items() if name not in TIED} for _ in "mv")
    for step in range(1, options.steps + 1):
        source, target_in, targets, mask = batch([train[i] for i in rng.integers(0, len(train), options.batch_size)], number)
        loss, kept = forward(params, config, source, target_in, targets, mask)
        grads = backward(params, config, kept)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / options.steps)  # from 1 to 0.1
        adam(params, grads, m, v, step, options.lr * min(1, step / 20) * cosine)
        if step % 20 == 0 or step in (1, options.steps):
            print(f"step {step:4d}  loss {loss:.4f}", flush=True)

    print("\nHeld-out texts without their vowels -> what the model writes (what was in the file)")
    for i in rng.integers(0, len(held_out), options.samples):
        short = without_vowels(held_out[i])
        source = np.array([number[c] for c in short] + [END])  # (S,)
        written = generate(params, config, source, 3 * len(source))
        print(f"{short} -> {''.join(characters[token - 2] for token in written if token != PAD)}  ({held_out[i]})")


if __name__ == "__main__":
    main()
