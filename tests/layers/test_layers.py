"""Every layer's gradients by finite differences through both sets of kernels, and how layers keep and take back."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.generation import KVCache
from tinyllm.kernels.activations import ACTIVATIONS
from tinyllm.layers import (
    MLP,
    Attention,
    Context,
    Dropout,
    Embedding,
    GatedMLP,
    LayerNorm,
    Linear,
    LinearActivation,
    PositionEmbedding,
    PostNormBlock,
    PreNormBlock,
    Recompute,
    RMSNorm,
)

B, T, C = 2, 5, 8
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((B, T, C))
MASK = np.array([[False, True, True, True, True], [True] * 5])
PACKED = np.tril(np.ones((B, T, T), bool))
PACKED[0, 3:, :3] = False  # two examples in one row that do not see each other


def block(recompute=False, dropout=0.0):
    attention = Attention(C, 4, G=2, dropout=dropout, residual_dropout=dropout)
    mlp = MLP(C, 12, "gelu_new", inner_dropout=dropout, residual_dropout=dropout)
    made = PreNormBlock(LayerNorm(C), attention, RMSNorm(C), mlp)
    return Recompute(made) if recompute else made


def post_norm_block(dropout=0.0):
    attention = Attention(C, 2, dropout=dropout, residual_dropout=dropout)
    return PostNormBlock(attention, LayerNorm(C), MLP(C, 12, "gelu", residual_dropout=dropout), LayerNorm(C))


CASES = {
    "linear": (Linear(C, 3), X),
    "linear without bias": (Linear(C, 3, bias=False), X),
    **{f"linear + {name}": (LinearActivation(C, 6, name), X) for name in ACTIVATIONS},
    "layernorm": (LayerNorm(C), X),
    "layernorm without bias": (LayerNorm(C, bias=False), X),
    "rmsnorm": (RMSNorm(C), X),
    "embedding of repeated tokens": (Embedding(4, C), np.array([[1, 1, 3], [0, 1, 1]])),
    "positions": (PositionEmbedding(7, C), X, np.arange(T)),
    "positions by row": (PositionEmbedding(7, C), X, np.array([[0, 0, 1, 2, 3], [0, 1, 2, 3, 4]])),
    "dropout": (Dropout(0.4), X),
    "mlp": (MLP(C, 12, "gelu"), X),
    "gated mlp": (GatedMLP(C, 6, "silu"), X),
    "attention": (Attention(C, 2), X, Context()),
    "attention of one": (Attention(C, 2), X[:, :1], Context()),
    "attention, padded": (Attention(C, 4), X, Context(MASK)),
    "attention, packed": (Attention(C, 4), X, Context(PACKED)),
    "attention, bidirectional, grouped": (Attention(C, 4, G=2, causal=False), X, Context(MASK)),
    "attention with dropout": (Attention(C, 2, G=1, dropout=0.3, bias=False), X, Context(MASK)),
    "attention with norms of q and k": (Attention(C, 2, G=1, norm_eps=1e-6), X, Context(MASK)),
    "block": (block(), X, Context(MASK)),
    "block with dropout": (block(dropout=0.2), X, Context(MASK)),
    "post-norm block": (post_norm_block(), X, Context(MASK)),
    "post-norm block with dropout": (post_norm_block(dropout=0.2), X, Context(MASK)),
    "block, recomputed, with dropout": (block(recompute=True, dropout=0.2), X, Context(MASK)),
}


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, kernel_set):
    layer, *inputs = CASES[name]
    layer.initialize()
    layer.mode.training = True  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(layer, *inputs):
            assert check.error < 1e-7, check


def test_a_layer_that_runs_twice_is_undone_twice():
    layer = Linear(3, 3).initialize(dtype="float64")
    a, b, da, db = np.random.default_rng(0).standard_normal((4, 2, 3))
    layer(a), layer(b)
    layer.backward(db)
    layer.backward(da)
    np.testing.assert_allclose(layer.w.grad, da.T @ a + db.T @ b)


def test_backward_without_forward_says_so():
    with pytest.raises(RuntimeError, match=r"Linear.backward\(\) needs a forward pass"):
        Linear(3, 3).initialize().backward(np.zeros((2, 3), "f4"))


def test_recompute_gives_the_same_and_keeps_less():
    plain, recomputed = block(dropout=0.2).initialize(), block(recompute=True, dropout=0.2).initialize()
    assert [p.name for p in plain.parameters()] == [p.name for p in recomputed.parameters()]
    results = []
    for layer in (plain, recomputed):
        layer.mode.training = True
        y = layer(X.astype("f4"), Context())
        held = sum(a.nbytes for stack in layer.mode.kept.values() for kept in stack for a in flatten(kept))
        layer.mode.training = False  # what counts is the mode of the forward
        dx = layer.backward(np.ones_like(y))
        results.append((y, dx, layer.flat.grad.copy(), held))
    for a, b in zip(results[0][:3], results[1][:3]):
        np.testing.assert_array_equal(a, b)
    assert results[1][3] < results[0][3] / 2


def flatten(kept):
    for value in kept:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple):
            yield from flatten(value)


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
def test_cache_equals_no_cache(kernel_set):
    layer = Attention(C, 4, G=2).initialize(dtype="float64")
    with kernels.use(kernel_set), layer.without_keeping():
        whole = layer(X, Context(MASK))
        cache, parts = KVCache(), []
        for start, end in ((0, 2), (2, 3), (3, 5)):
            parts.append(layer(X[:, start:end], Context(MASK[:, :end], cache=cache)))
            cache.advance(end - start)
        np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-12)
        cache.select(np.array([1, 1]))
        cache.crop(3)
        again = layer(X[[1, 1], 3:], Context(MASK[[1, 1]], cache=cache))
        np.testing.assert_allclose(again, whole[[1, 1], 3:], atol=1e-12)


@pytest.mark.parametrize("p", [1, 1.0, -0.1, float("nan")])
def test_dropout_leaves_something(p):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        Dropout(p)
