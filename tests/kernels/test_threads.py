"""The number of threads: who chooses it, and that the pool has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.kernels import threads

ASK = """
import numpy as np, tinyllm
{before}
x = np.ones((8, 8), np.float32)
tinyllm.kernels.linear_forward(x, x, None)
import numba
print(numba.config.NUMBA_NUM_THREADS, numba.get_num_threads())
{after}
"""


def answer(before="", after="", **variables):
    environment = {name: value for name, value in os.environ.items() if name not in ("NUMBA_NUM_THREADS", "TINYLLM_THREADS")}
    code = ASK.format(before=before, after=after)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | variables)
    return result.stdout.split("\n")[:-1], result.stderr


def test_who_chooses():
    cores = threads.physical_cores()
    assert answer()[0] == [f"{cores} {cores}"]
    assert answer(TINYLLM_THREADS="1")[0] == ["1 1"]
    assert answer(TINYLLM_THREADS="1", NUMBA_NUM_THREADS="2")[0] == ["2 2"]
    assert answer("tinyllm.set_threads(3)", TINYLLM_THREADS="1")[0] == ["3 3"]
    out, error = answer("tinyllm.set_threads(2)", "tinyllm.set_threads(1); print(numba.get_num_threads())")
    assert out == ["2 2", "1"], error
    _, error = answer("tinyllm.set_threads(2)", "tinyllm.set_threads(9)")
    assert "9 threads were asked for, and the pool that runs already has 2" in error
    assert "TINYLLM_THREADS is 'many'" in answer(TINYLLM_THREADS="many")[1]


def test_a_core_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four logical processors on two cores, and a fifth of which the system tells nothing."""
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    monkeypatch.setattr(threads, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert threads.physical_cores() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert threads.physical_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert threads.physical_cores() == 3


def test_a_number_that_is_none():
    with pytest.raises(ValueError, match="the number of threads is 0; pass 1 or more"):
        threads.set_threads(0)
