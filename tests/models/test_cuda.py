"""Whole models on the cuda set, emulated: they learn as on the cpu set."""

from __future__ import annotations

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.kernels.cuda import device
from tinyllm.kernels.cuda.emulator.loader import require_compiler

if not device.emulated():
    pytest.skip("these tests are for the emulator", allow_module_level=True)
try:
    require_compiler()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

TINY = {
    "GPT": lambda: tinyllm.GPT.tiny(),
    "BERT": lambda: tinyllm.BERT.tiny(),
    "T5": lambda: tinyllm.T5.tiny(),
    "Llama": lambda: tinyllm.Llama.tiny(),
    "OPT": lambda: tinyllm.OPT.tiny(),
}


def losses(model, steps=3):
    """Of a few steps, dropout, clipping and weight decay included."""
    batch = model.example(np.random.default_rng(5))
    optimizer = tinyllm.Adam(model, lr=1e-2, weight_decay=0.1)
    model.train()
    result = []
    for _ in range(steps):
        model.zero_grad()
        result.append(model.loss(*batch))
        model.backward()
        tinyllm.clip_grad_norm(model, 0.5)
        optimizer.step()
    return result


@pytest.mark.parametrize("name", TINY)
def test_learns_as_on_the_cpu(name):
    expected = losses(TINY[name]())
    with kernels.use("cuda"):
        found = losses(TINY[name]())
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert expected[-1] < expected[0]
