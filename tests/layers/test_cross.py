"""Cross attention and relative biases: what several layers share receives the sum of their gradients."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.generation import KVCache, SourceCache
from tinyllm.layers import (
    MLP,
    Attention,
    Context,
    CrossAttention,
    CrossBlock,
    GatedMLP,
    Layer,
    Recompute,
    RelativeBias,
    RMSNorm,
    Shared,
)

B, T, S, C = 2, 4, 5, 8
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((B, T, C))
SOURCE = RANDOM.standard_normal((B, S, C))
MASK = np.array([[True, True, True, False, False], [True] * 5])


class Decoder(Layer):
    """Two blocks that attend to one source and share one bias, as a layer of both x and the source."""

    def __init__(self, recompute=False, dropout=0.0):
        super().__init__()
        self.bias = RelativeBias(8, 2, bidirectional=False, max_distance=6)
        self.blocks = [
            CrossBlock(
                RMSNorm(C), Attention(C, 2, dropout=dropout, residual_dropout=dropout),
                RMSNorm(C), CrossAttention(C, 2, D=3, dropout=dropout, residual_dropout=dropout),
                RMSNorm(C), mlp(C, 6, activation, inner_dropout=dropout, residual_dropout=dropout),
            )
            for mlp, activation in ((MLP, "gelu"), (GatedMLP, "silu"))
        ]  # fmt: skip
        if recompute:
            self.blocks = [Recompute(block) for block in self.blocks]

    def forward(self, x, source):
        shared = Shared(source)
        context = Context(bias=self.bias(x.shape[1]), source=shared, source_mask=MASK)
        self.keep(shared)
        for block in self.blocks:
            x = block(x, context)
        return x

    def backward(self, dy):
        (shared,) = self.kept()
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        self.bias.backward()
        return dy, shared.grad


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"dropout": 0.3, "recompute": True}])
def test_gradients(options, kernel_set):
    decoder = Decoder(**options).initialize()
    decoder.mode.training = True  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(decoder, X, SOURCE):
            assert check.error < 1e-7, check


def test_the_source_is_seen_through_its_mask():
    layer = CrossAttention(C, 2).initialize(dtype="float64")
    y = layer(X, Context(source=Shared(SOURCE), source_mask=MASK))
    other = SOURCE.copy()
    other[0, 3:] = 99.0
    np.testing.assert_array_equal(layer(X, Context(source=Shared(other), source_mask=MASK)), y)
    assert (layer(X, Context(source=Shared(other))) != y).any()


def test_source_cache_keeps_rows_together():
    layer = CrossAttention(C, 2).initialize(dtype="float64")
    expected = layer(X, Context(source=Shared(SOURCE), source_mask=MASK))
    cache = SourceCache(MASK)
    cache.hold(layer, *layer.keys_values(SOURCE))
    assert isinstance(cache, KVCache)
    cache.select(np.array([1, 1, 0]))
    again = layer(X[[1, 1, 0]], Context(cache=cache, source_mask=cache.mask))
    np.testing.assert_allclose(again, expected[[1, 1, 0]], atol=1e-12)
