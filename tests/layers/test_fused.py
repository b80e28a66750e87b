"""The fused blocks compute what the plain ones do, and one place chooses between them."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.layers import (
    MLP,
    Attention,
    Context,
    CrossAttention,
    CrossBlock,
    GatedMLP,
    LayerNorm,
    PostNormBlock,
    PreNormBlock,
    Recompute,
    RMSNorm,
    Shared,
    assembled,
)
from tinyllm.layers.fused import FUSED

B, T, S, C = 2, 5, 3, 8
RANDOM = np.random.default_rng(0)
X, DY = RANDOM.standard_normal((2, B, T, C))
SOURCE = RANDOM.standard_normal((B, S, C))
DROPOUT = {"dropout": 0.2, "residual_dropout": 0.3}


def pre_norm():
    return PreNormBlock(
        LayerNorm(C), Attention(C, 2, **DROPOUT), LayerNorm(C, affine=False), MLP(C, 12, "gelu", residual_dropout=0.3)
    )


def cross():
    return CrossBlock(
        RMSNorm(C), Attention(C, 2, **DROPOUT), LayerNorm(C, bias=False), CrossAttention(C, 2, **DROPOUT), RMSNorm(C),
        GatedMLP(C, 6, "silu", residual_dropout=0.3),
    )  # fmt: skip


def post_norm():
    return PostNormBlock(Attention(C, 2, **DROPOUT), LayerNorm(C), MLP(C, 12, "relu", residual_dropout=0.3), RMSNorm(C))


BLOCKS = {"pre-norm": pre_norm, "cross": cross, "post-norm": post_norm}


def passes(block, training, dtype):
    """y, dx, the gradients of the parameters, and of the source."""
    block.initialize(dtype=dtype)
    block.mode.training = training
    for parameter in block.parameters():
        parameter.data = np.random.default_rng(1).standard_normal(parameter.shape)
    context = Context(source=Shared(SOURCE.astype(dtype)))
    y = block(X.astype(dtype), context)
    dx = block.backward(DY.astype(dtype))
    return y, dx, block.flat.grad, context.source.grad


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", BLOCKS)
def test_fused_equals_plain(name, kernel_set, training, dtype):
    plain, fused = BLOCKS[name](), assembled(BLOCKS[name]())
    assert type(fused) is FUSED[type(plain)] and isinstance(fused, type(plain))
    with kernels.use(kernel_set):
        for a, b in zip(passes(plain, training, dtype), passes(fused, training, dtype), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(a).max() if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_of_fused_blocks(name):
    block = assembled(BLOCKS[name]()).initialize()
    block.mode.training = True
    for check in tinyllm.gradcheck(block, X, Context(source=Shared(SOURCE))):
        if ".kv." not in check.name:  # whose context is another one for each call
            assert check.error < 1e-7, check


def test_a_model_of_the_reference_set_has_plain_blocks():
    with kernels.use("reference"):
        assert type(tinyllm.GPT.tiny().blocks[0]) is PreNormBlock
        assert type(assembled(post_norm(), recompute=True)) is Recompute
    assert type(tinyllm.GPT.tiny().blocks[0]) is FUSED[PreNormBlock]
