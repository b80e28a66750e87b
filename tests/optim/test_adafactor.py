"""Adafactor: equal to PyTorch's and transformers', few numbers kept, matrices and vectors alike."""

from __future__ import annotations

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.kernels.reference.optimizer import root_mean_square
from tinyllm.optim import Adafactor


def arrays(shape, seed=0, dtype="float64"):
    random = np.random.default_rng(seed)
    p = random.standard_normal(shape).astype(dtype)
    return p, [(random.standard_normal(shape) * 10.0 ** random.integers(-3, 3)).astype(dtype) for _ in range(5)]


def ours(p, gradients, **options):
    """p after a step for each gradient."""
    p, v = p.copy(), [np.zeros(n, p.dtype) for n in p.shape]
    for step, g in enumerate(gradients, 1):
        kernels.adafactor_step(p, g, v, step, **options)
    return p


@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (6, 1), (9,)])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("clip", [1.0, 0.3, 100.0])
def test_equal_to_transformers(shape, relative, clip):
    torch = pytest.importorskip("torch", reason="the peer")
    optimization = pytest.importorskip("transformers.optimization", reason="the peer")
    p, gradients = arrays(shape)
    theirs = torch.nn.Parameter(torch.from_numpy(p.copy()))
    options = {"lr": 0.01, "relative_step": False, "scale_parameter": relative, "clip_threshold": clip}
    optimizer = optimization.Adafactor([theirs], **options)
    for g in gradients:
        theirs.grad = torch.from_numpy(g.copy())
        optimizer.step()
    made = ours(p, gradients, lr=0.01, clip=clip, relative=1e-3 if relative else None)
    np.testing.assert_allclose(made, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(7, 5), (9,)])
def test_equal_to_pytorch_with_weight_decay(shape):
    torch = pytest.importorskip("torch", reason="the peer")
    p, gradients = arrays(shape)
    theirs = torch.nn.Parameter(torch.from_numpy(p.copy()))
    optimizer = torch.optim.Adafactor([theirs], lr=0.02, eps=(1e-30, 1e-3), weight_decay=0.1)
    for g in gradients:
        theirs.grad = torch.from_numpy(g.copy())
        optimizer.step()
    made = ours(p, gradients, lr=0.02, weight_decay=0.1)
    np.testing.assert_allclose(made, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(7, 5), (9,)])
def test_a_step_with_a_factor_is_scaling_and_then_a_step(shape):
    p, gradients = arrays(shape)
    before = [g.copy() for g in gradients]
    made = ours(p, gradients, lr=0.02, factor=0.03)
    np.testing.assert_allclose(made, ours(p, [0.03 * g for g in gradients], lr=0.02), rtol=1e-12, atol=1e-14)
    assert all(np.array_equal(g, b) for g, b in zip(gradients, before))


def test_the_step_without_lr_is_transformers():
    torch = pytest.importorskip("torch", reason="the peer")
    optimization = pytest.importorskip("transformers.optimization", reason="the peer")
    model = tinyllm.T5.tiny()
    optimizer = Adafactor(model)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in model.parameters()]
    peer = optimization.Adafactor(theirs)  # relative steps of min(1e-2, 1 / sqrt(steps))
    random = np.random.default_rng(0)
    for _ in range(3):
        for p, other in zip(model.parameters(), theirs):
            p.grad = random.standard_normal(p.shape)
            other.grad = torch.from_numpy(p.grad.copy())
        optimizer.step()
        peer.step()
    for p, other in zip(model.parameters(), theirs):
        np.testing.assert_allclose(p.data, other.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_step_is_relative_to_the_parameter_and_at_least_to_the_smallest():
    g = np.ones((4, 3))
    for size in (1e-6, 1e-2, 10.0):
        p = np.full((4, 3), size)
        moved = p - ours(p, [g], lr=0.1)
        assert root_mean_square(moved) == pytest.approx(0.1 * max(1e-3, size))


def test_rows_without_gradient_stay_finite_and_where_they_are():
    """As the rows of an embedding whose tokens have not come yet."""
    p, gradients = arrays((6, 4), dtype="float32")
    for g in gradients:
        g[2:] = 0
    made = ours(p, gradients, lr=0.1)
    assert made.dtype == np.float32 and np.isfinite(made).all()
    assert np.array_equal(made[2:], p[2:]) and not np.array_equal(made[:2], p[:2])


def test_it_keeps_little_and_can_be_put_back():
    model = tinyllm.T5.tiny()
    optimizer = Adafactor(model, lr=1e-2)
    matrices = [p for p in model.parameters() if len(p.shape) == 2]
    vectors = [p for p in model.parameters() if len(p.shape) == 1]
    kept = sum(array.size for array in optimizer.moments().values())
    assert kept == sum(sum(p.shape) for p in matrices) + sum(p.size for p in vectors) < model.n_parameters
    assert {"rows.tokens.w", "columns.tokens.w", "v.encoder.norm.w"} <= set(optimizer.moments())

    def steps(optimizer, model, seeds):
        for seed in seeds:
            model.flat.grad[...] = np.random.default_rng(seed).standard_normal(model.flat.size)
            optimizer.step()
        return model.flat.data.copy()

    whole = steps(Adafactor(other := tinyllm.T5.tiny(), lr=1e-2), other, [1, 2, 3])
    steps(optimizer, model, [1, 2])
    again = Adafactor(model, lr=1e-2)
    for name, array in again.moments().items():
        array[...] = optimizer.moments()[name]
    again.steps = optimizer.steps
    np.testing.assert_array_equal(steps(again, model, [3]), whole)
