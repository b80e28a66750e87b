"""A model of ours beside the same model in PyTorch: logits, loss, and the gradient of every parameter by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels

TOLERANCE = {"float64": 1e-9, "float32": 5e-5}
KERNEL_SETS = ("reference", "cpu")


def peers() -> tuple[Any, Any]:
    """torch and transformers, quiet and offline; skips where they are not installed."""
    reason = "compares with PyTorch and transformers: pip install 'tinyllm-numpy[peers]'"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        torch = pytest.importorskip("torch", reason=reason)
        transformers = pytest.importorskip("transformers", reason=reason)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def order_one(theirs: Any, seed: int = 0) -> Any:
    """Their model with new random values in every parameter: as they are initialised, zeros and ones would hide errors."""
    torch, _ = peers()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            one_dimensional = parameter.ndim < 2
            parameter.copy_(0.2 * values + (parameter.double() if one_dimensional else 0))
    return theirs.eval()


def batch(padded: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """tokens below 43, targets, attention_mask (B, T): rows padded on the left, on the right, and not at all."""
    tokens, targets = np.random.default_rng(1).integers(0, 43, (2, 3, 12))
    mask = np.ones(tokens.shape, bool)
    if padded:
        mask[0, :4] = mask[1, -3:] = False
    targets[2, 3] = -100
    targets[~mask] = -100
    return tokens, targets, mask


def relative_error(ours: np.ndarray, theirs: Any, floor: float = 0.0) -> float:
    """|ours - theirs| / |theirs|, Euclidean; the denominator is at least `floor`."""
    theirs = np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), floor, 1e-300))


def their_loss(logits: Any, targets: np.ndarray) -> Any:
    """Mean cross-entropy of targets (B, T), -100 ignored, in PyTorch."""
    torch, _ = peers()
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), torch.tensor(targets).flatten(), ignore_index=-100)


def their_logits(output: Any) -> Any:
    return output.logits


def assert_parity(
    ours: Any, theirs: Any, inputs: tuple[np.ndarray, ...], targets: np.ndarray, options: dict[str, np.ndarray],
    kernel_set: str, floor: float = 0.0, counted: np.ndarray | None = None, logits_of: Callable[[Any], Any] = their_logits,
    loss_of: Callable[[Any, np.ndarray], float] | None = None, more: dict[str, np.ndarray] | None = None,
    **their_inputs: np.ndarray,
) -> None:  # fmt: skip
    """ours(*inputs, **options) is theirs(**their_inputs): logits at each target that counts, loss, every gradient.

    counted: where logits are compared, if not at the targets; logits_of, loss_of: what their output holds, if it is not
    `logits` and the mean cross-entropy of the targets; more: options of our loss alone.

    floor: a gradient smaller than this share of the whole one is measured against that share of it; for what is zero but
    for rounding, such as the gradient of a key's bias.
    """
    torch, _ = peers()
    tolerance = TOLERANCE[str(ours.dtype)]
    theirs.zero_grad()
    output = theirs(**{name: torch.tensor(value) for name, value in their_inputs.items()})
    expected = logits_of(output)
    loss = loss_of(output, targets) if loss_of else their_loss(expected, targets)
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}

    with kernels.use(kernel_set):
        logits = ours(*inputs, **options)
        ours.zero_grad()
        our_loss = ours.loss(*inputs, targets, **options, **(more or {}))
        ours.backward()
    assert logits.dtype == ours.dtype
    counted = targets != -100 if counted is None else counted
    assert relative_error(logits[counted], expected.detach().numpy()[counted]) <= tolerance
    assert isinstance(our_loss, float)
    assert abs(our_loss - loss.item()) <= tolerance * abs(loss.item())
    our_gradients = tinyllm.huggingface.state_dict(ours, grads=True)
    assert set(gradients) <= set(our_gradients)
    whole = np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in gradients.values()))
    errors = {name: relative_error(our_gradients[name], g, floor * whole) for name, g in gradients.items()}
    assert {name: error for name, error in errors.items() if not error <= tolerance} == {}
