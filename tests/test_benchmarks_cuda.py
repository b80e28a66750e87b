"""The benchmark of the CUDA kernels runs, so far as it can without a GPU: small, in the emulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from on_cuda import require_bfloat16, require_cuda

from tinyllm.kernels.cuda import device


@pytest.fixture
def cuda_kernels(monkeypatch):
    require_bfloat16()
    require_cuda()
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import cuda_kernels

    monkeypatch.setattr(cuda_kernels, "TIMINGS", 1)
    return cuda_kernels


def test_every_part_gives_rows(cuda_kernels, monkeypatch, tmp_path):
    file = tmp_path / "measured.json"
    monkeypatch.setattr("sys.argv", ["cuda_kernels.py", "--tiny", "--json", str(file)])
    assert cuda_kernels.main() == 0
    measured = json.loads(file.read_text(encoding="utf-8"))
    assert {part: len(measured[part]) for part in cuda_kernels.PARTS} == {"matmul": 18, "attention": 8, "decoding": 2}
    assert all(row["TFLOP/s"] > 0 for part in ("matmul", "attention") for row in measured[part])


def test_without_a_gpu_it_says_so(cuda_kernels, monkeypatch, capsys):
    def nothing():
        raise RuntimeError("CUDA needs an NVIDIA GPU")

    monkeypatch.setattr(cuda_kernels, "on_gpu", lambda: True)
    monkeypatch.setattr(device, "cupy", nothing)
    monkeypatch.setattr("sys.argv", ["cuda_kernels.py"])
    assert cuda_kernels.main() == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err


def test_an_unknown_part_is_refused(cuda_kernels, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cuda_kernels.py", "softmax"])
    with pytest.raises(SystemExit):
        cuda_kernels.main()
    assert "'softmax' is no part; there are matmul, attention, decoding" in capsys.readouterr().err


def test_a_wrong_product_is_noticed(cuda_kernels, monkeypatch):
    right = cuda_kernels.matmul

    def wrong(a, b, c, step):
        right(a, b, c, step=step)
        if step == "shared":
            c[3, 5] += 5

    monkeypatch.setattr(cuda_kernels, "matmul", wrong)
    with pytest.raises(SystemExit, match="shared float32 64 y: the result is .* off cuBLAS's"):
        list(cuda_kernels.matmul_rows(tiny=True))
