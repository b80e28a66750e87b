"""The ops against PyTorch's, outputs and gradients: that a formula is the right one, not only that its gradient fits it."""

from __future__ import annotations

import numpy as np
import pytest
from calls import SETS, error, function

torch = pytest.importorskip("torch", reason="the peer that these ops are compared to")
F = torch.nn.functional
every_set = pytest.mark.parametrize("any_set", SETS)
both_dtypes = pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])


class Pair:
    """Random arrays, each as NumPy's and as PyTorch's with a gradient."""

    def __init__(self, dtype: str):
        self.rng, self.dtype = np.random.default_rng(3), dtype

    def __call__(self, *shape: int):
        a = self.rng.standard_normal(shape).astype(self.dtype)
        return a, torch.tensor(a, requires_grad=True)


def agree(tolerance, pairs):
    for ours, theirs in pairs:
        assert error(ours, theirs.detach().numpy()) < tolerance


@every_set
@both_dtypes
@pytest.mark.parametrize("bias", [True, False])
def test_layernorm(bias, dtype, tolerance, any_set):
    new = Pair(dtype)
    (x, tx), (r, tr), (w, tw), (b, tb), (dy, tdy) = new(2, 7, 48), new(2, 7, 48), new(48), new(48), new(2, 7, 48)
    total, y, mean, rstd = function("add_layernorm_forward", any_set)(x, r, w, b if bias else None, 1e-5)
    ty = F.layer_norm(tx + tr, (48,), tw, tb if bias else None, 1e-5)
    ((ty * tdy).sum() + (tx + tr).sum()).backward()
    dw, db = np.zeros_like(w), np.zeros_like(b)
    backward, of_sum = function("add_layernorm_backward", any_set), np.ones_like(total)
    dx = backward(dy, of_sum, total, w, mean, rstd, dw, db if bias else None)
    agree(tolerance, [(total, tx + tr), (y, ty), (dx, tx.grad), (dx, tr.grad), (dw, tw.grad)])
    if bias:
        agree(tolerance, [(db, tb.grad)])


@every_set
@both_dtypes
def test_rmsnorm(dtype, tolerance, any_set):
    new = Pair(dtype)
    (x, tx), (w, tw), (dy, tdy) = new(3, 5, 48), new(48), new(3, 5, 48)
    y, rstd = function("rmsnorm_forward", any_set)(x, w, 1e-6)
    ty = F.rms_norm(tx, (48,), tw, 1e-6)
    (ty * tdy).sum().backward()
    dw = np.zeros_like(w)
    dx = function("rmsnorm_backward", any_set)(dy, x, w, rstd, dw)
    agree(tolerance, [(y, ty), (dx, tx.grad), (dw, tw.grad)])


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@every_set
@both_dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_with_activation_and_gates(activation, dtype, tolerance, any_set):
    new = Pair(dtype)
    (x, tx), (w, tw), (b, tb), (dy, tdy) = new(9, 20), new(30, 20), new(30), new(9, 15)
    y, z = function("linear_activation_forward", any_set)(x, w, b, activation)
    gated = function("gated_forward", any_set)(y, activation)
    f = ACTIVATIONS[activation]
    ty = f(F.linear(tx, tw, tb))
    tgate, tup = ty.chunk(2, dim=-1)
    tgated = f(tgate) * tup
    (tgated * tdy).sum().backward()
    dw, db = np.zeros_like(w), np.zeros_like(b)
    d = function("gated_backward", any_set)(dy, y, activation)
    dx = function("linear_activation_backward", any_set)(d, x, w, z, dw, db, activation)
    agree(tolerance, [(y, ty), (gated, tgated), (dx, tx.grad), (dw, tw.grad), (db, tb.grad)])


@every_set
@both_dtypes
@pytest.mark.parametrize(("causal", "padded", "biased"), [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)])
def test_attention(causal, padded, biased, dtype, tolerance, any_set):
    """Grouped heads, with PyTorch's additive mask holding what may not be seen."""
    new = Pair(dtype)
    B, T, H, G, D = 2, 13, 6, 2, 8
    (q, tq), (k, tk), (v, tv) = new(B, T, H, D), new(B, T, G, D), new(B, T, G, D)
    (bias, tbias), (dy, tdy) = new(H, T, T), new(B, T, H, D)
    mask = np.ones((B, T), bool)
    mask[1, 9:] = False
    options = {"mask": mask if padded else None, "causal": bool(causal), "bias": bias if biased else None}
    y, lse = function("attention_forward", any_set)(q, k, v, **options)
    dbias = np.zeros_like(bias)
    dq, dk, dv = function("attention_backward", any_set)(dy, q, k, v, y, lse, **options, dbias=dbias if biased else None)
    hidden = torch.zeros(B, 1, T, T, dtype=tq.dtype)
    if causal:
        hidden = hidden + torch.full((T, T), -torch.inf, dtype=tq.dtype).triu(1)
    if padded:
        hidden = hidden.masked_fill(~torch.tensor(mask)[:, None, None], -torch.inf)
    ty = F.scaled_dot_product_attention(
        *(t.transpose(1, 2) for t in (tq, tk, tv)), attn_mask=hidden + tbias if biased else hidden, enable_gqa=True
    ).transpose(1, 2)
    (ty * tdy).sum().backward()
    agree(tolerance, [(y, ty), (dq, tq.grad), (dk, tk.grad), (dv, tv.grad)])
    if biased:
        agree(tolerance, [(dbias, tbias.grad)])


@every_set
@both_dtypes
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing, dtype, tolerance, any_set):
    new = Pair(dtype)
    (x, tx), (w, tw), (b, tb) = new(3, 11, 16), new(37, 16), new(37)
    targets = new.rng.integers(0, 37, (3, 11))
    targets[0, :4] = -100
    loss, lse, last = function("linear_cross_entropy_forward", any_set)(x, w, b, targets, smoothing)
    dw, db = np.zeros_like(w), np.zeros_like(b)
    dx = function("linear_cross_entropy_backward", any_set)(1.5, x, w, b, targets, lse, last, dw, db, smoothing)
    tloss = F.cross_entropy(F.linear(tx, tw, tb).flatten(0, 1), torch.tensor(targets).flatten(), label_smoothing=smoothing)
    (1.5 * tloss).backward()
    agree(tolerance, [(loss, tloss), (dx, tx.grad), (dw, tw.grad), (db, tb.grad)])


@every_set
@both_dtypes
def test_weighted_cross_entropy(dtype, tolerance, any_set):
    new = Pair(dtype)
    logits, tlogits = new(8, 5)
    targets = np.array([0, 1, 2, 3, 4, -100, 0, 0])
    weight = np.array([1, 2, 0.5, 0, 3], dtype)
    loss, lse = function("cross_entropy_forward", any_set)(logits, targets, class_weight=weight)
    d = function("cross_entropy_backward", any_set)(1.0, logits, targets, lse, class_weight=weight)
    tloss = F.cross_entropy(tlogits, torch.tensor(targets), weight=torch.tensor(weight))
    tloss.backward()
    agree(tolerance, [(loss, tloss), (lse, torch.logsumexp(tlogits, -1)), (d, tlogits.grad)])


@every_set
@both_dtypes
def test_embedding(dtype, tolerance, any_set):
    new = Pair(dtype)
    (w, tw), (dy, tdy) = new(5, 24), new(3, 9, 24)
    tokens = new.rng.integers(0, 5, (3, 9))
    ty = F.embedding(torch.tensor(tokens), tw)
    (ty * tdy).sum().backward()
    dw = np.zeros_like(w)
    function("embedding_backward", any_set)(dy, tokens, dw)
    agree(tolerance, [(function("embedding_forward", any_set)(tokens, w), ty), (dw, tw.grad)])


@every_set
@both_dtypes
def test_five_steps_of_adamw(dtype, tolerance, any_set):
    new = Pair(dtype)
    p, tp = new(100)
    p = p.copy()
    m, v = np.zeros_like(p), np.zeros_like(p)
    optimizer = torch.optim.AdamW([tp], lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
    for step in range(1, 6):
        g, tg = new(100)
        tp.grad = tg.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_([tp], 1.0)
        optimizer.step()
        ours = function("global_norm", any_set)(g)
        factor = min(1.0, 1.0 / (ours + 1e-6))
        function("adam_step", any_set)(p, g, m, v, step, 0.02, 0.8, 0.95, 1e-6, 0.3, factor)
        agree(tolerance, [(ours, norm), (p, tp)])
