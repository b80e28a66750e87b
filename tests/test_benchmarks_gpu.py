"""The script for a day with a GPU runs, so far as it can without one: small, in the emulator."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from on_cuda import require_bfloat16, require_cuda

from tinyllm.kernels.cuda import device


@pytest.fixture
def gpu(monkeypatch):
    require_bfloat16()
    require_cuda()
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import cuda_kernels
    import gpu

    monkeypatch.setattr(cuda_kernels, "TIMINGS", 1)
    return gpu


def test_bandwidth_and_training_give_rows(gpu):
    rows = list(gpu.bandwidth_rows(tiny=True))
    assert {row["dtype"] for row in rows} == {"float32", "bfloat16"}
    assert all(row["GB/s"] > 0 for row in rows) and len(rows) == 2 * 17 + 1
    rows = [row for row in gpu.training_rows(tiny=True) if row["name"].startswith("tinyllm") and "tokens/s" in row]
    assert [row["name"] for row in rows] == ["tinyllm float32", "tinyllm bfloat16"]
    assert all(row["last loss"] < row["first loss"] for row in rows)


def test_generation_by_graphs_and_without(gpu):
    rows = list(gpu.generation_rows(tiny=True))
    names = ["tinyllm float32", "tinyllm float32, no graph", "tinyllm bfloat16", "tinyllm bfloat16, no graph"]
    assert [row["name"] for row in rows[:8]] == [names[i] for i in (0, 1, 0, 1, 2, 3, 2, 3)]
    assert [row["rows"] for row in rows[:8]] == [1, 1, 8, 8] * 2
    assert all(row["same tokens"] for row in rows if "same tokens" in row) and all(row["tokens/s"] > 0 for row in rows)


def test_a_part_that_fails_is_told_and_the_others_go_on(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.shutil, "which", lambda name, path=None: None)
    file = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu.py", "sanitizer", "training", "decoding", "--tiny", "--json", str(file)])
    assert gpu.main() == 1
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["training"]["ok"] and found["training"]["rows"][0]["tokens/s"] > 0
    assert found["decoding"]["ok"] and found["decoding"]["rows"][0]["S"] == 200
    assert not found["sanitizer"]["ok"] and "not installed" in found["sanitizer"]["said"]
    assert "mean nothing" in found["machine"]["card"] or not device.emulated()


def test_a_command_that_fails_or_does_not_end(gpu):
    failed = gpu.run([sys.executable, "-c", "print('why'); raise SystemExit(3)"], 20, {})
    assert not failed["ok"] and failed["said"] == "why\n"
    sleeping = (
        "import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', 'while True: pass'])"
    )
    endless = gpu.run([sys.executable, "-c", sleeping], 1, {})  # what it has started ends too
    assert not endless["ok"] and endless["said"].startswith("begun") and "not ended after 1 seconds" in endless["said"]
    assert endless["seconds"] < 5


def test_rows_measured_before_a_failure_are_kept(gpu, monkeypatch):
    def begun(command, limit, environment):
        Path(command[command.index("--json") + 1]).write_text('{"size": 1}\n{"size": 2}\n', encoding="utf-8")
        return {"ok": False, "seconds": 1.0, "said": "out of memory"}

    monkeypatch.setattr(gpu, "run", begun)
    found = gpu.run_part("matmul", 10, True)
    assert not found["ok"] and [row["size"] for row in found["rows"]] == [1, 2]


def test_all_parts_end_in_ten_minutes(gpu):
    assert gpu.LIMITS.keys() == {"tests", "sanitizer", *gpu.MEASURED}
    assert len(gpu.tests(tiny=False)) > 10


def test_without_a_gpu_it_says_so(gpu, monkeypatch, capsys):
    def nothing():
        raise RuntimeError("CUDA needs an NVIDIA GPU")

    monkeypatch.setattr(gpu, "on_gpu", lambda: True)
    monkeypatch.setattr(device, "cupy", nothing)
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert gpu.main() == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
