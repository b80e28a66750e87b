"""What all tests share: hypothesis profiles and the folder of shared data.

HYPOTHESIS_PROFILE=thorough draws ten times as many examples, new ones in each run. There is no __init__.py under tests/:
a folder named like another package (tokenizers, kernels) must not hide it.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

# Before NumPy and Numba start their threads. Tests share their processors with others: a thread that waits shall sleep, not
# spin, and NumPy's matrix products shall not compete with the kernels for the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TINYLLM_DEVICE", "emulated")  # CUDA kernels run on the CPU; with "gpu" these tests run on the GPU

import pytest
from hypothesis import HealthCheck, settings
from tiny_runs import TEXT

# deadline=None: the first example of a kernel may have to compile it
settings.register_profile(
    "ci", derandomize=True, database=None, max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough", max_examples=300, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", settings.get_profile("ci"), max_examples=5)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data sets, beside the checkout or where TINYLLM_SHARED_DATA says; skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("TINYLLM_SHARED_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"the shared data sets are not at {path}; set TINYLLM_SHARED_DATA to their folder")
    return path


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text to train on, in a file; what is kept of it (encoded, say) goes into a cache of the test's own."""
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def in_float64_throughout(monkeypatch):
    """transformers computes norms, angles and softmax in float32 whatever the model is in: after this call, in float64."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'tinyllm-numpy[peers]'")
    default = torch.get_default_dtype()
    importlib.import_module("safetensors.torch")  # makes its table of dtypes

    def patch():
        for name in ("float", "float32"):
            monkeypatch.setattr(torch, name, torch.float64)
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)

    yield patch
    torch.set_default_dtype(default)
