"""The benchmarks run, and what they compare is equal; how long anything takes is not looked at."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import peers

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
COMMON = ["--threads", "1", "--rounds", "1", "--max-foreign", "inf"]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import harness

    monkeypatch.setattr(harness, "PAUSE", 0.0)
    return harness


def result_of(script, monkeypatch, tmp_path, *arguments):
    """What a script's command writes as JSON, and its exit code."""
    path = tmp_path / "result.json"
    monkeypatch.setattr(sys, "argv", [script.__name__, *arguments, *COMMON, "--json", str(path)])
    code = script.main()
    return json.loads(path.read_text(encoding="utf-8"))["results"], code


# The harness: workers in processes of their own ------------------------------------------------------------------------

TRIAL = """
import os, time

def steady(result, threads):
    yield {"result": result, "environment": dict(os.environ), "threads": threads}
    while True:
        yield {"seconds": [0.5, 0.25, 1.0]}

def broken(threads):
    raise ValueError("no such thing")
    yield

def dying(threads):
    os._exit(3)
    yield

def talking(threads):
    print("hello")
    yield {"result": [1.0]}
    while True:
        yield {"seconds": [1.0]}
"""


@pytest.fixture
def trial(monkeypatch, tmp_path):
    (tmp_path / "trial.py").write_text(TRIAL, encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['OMP_WAIT_POLICY'] = 'passive'", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_workers_take_turns_in_a_clean_environment(trial, importable, monkeypatch):
    harness = importable
    for name in ("OPENBLAS_CORETYPE", "OMP_PROC_BIND", "TINYLLM_KERNELS"):
        monkeypatch.setenv(name, "reference")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "kept")
    contenders = [
        harness.Contender("a", "trial:steady", {"result": [2.0, 3.0]}),
        harness.Contender("b", "trial:steady", {"result": [2.0, 3.0001]}),
        harness.Contender("off", "trial:steady", {"result": [2.0, 3.1]}),
        harness.Contender("off, as it may be", "trial:steady", {"result": [2.0, 3.1]}, tolerance=None),
        harness.Contender("broken", "trial:broken"),
        harness.Contender("dying", "trial:dying"),
        harness.Contender("talking", "trial:talking", tolerance=None),
    ]
    result = harness.compare("trial", contenders, threads=3, rounds=2, max_foreign=np.inf)
    assert result.failed.keys() == {"broken", "dying"}
    assert result.failed["broken"] == "broken: ValueError: no such thing"
    assert "ended with code 3" in result.failed["dying"]
    assert result.disagreeing() == ["off"] and not result.is_good
    assert len(result.rounds) == 2 and result.seconds("a") == 0.5 and result.ratios("talking") == [2.0, 2.0]
    seen = result.facts["a"]["environment"]
    assert seen.keys().isdisjoint({"OPENBLAS_CORETYPE", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "TINYLLM_KERNELS"})
    assert seen["NUMBA_CACHE_DIR"] == "kept" and result.facts["a"]["threads"] == 3
    assert {seen[name] for name in harness.THREADS} == {"3"}
    harness.show(result)
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak of a process's memory")
def test_peak_memory_is_of_the_process_and_in_bytes(importable):
    before = importable.peak_memory()
    held = np.ones(max(before, 2**27), np.uint8)
    assert held.nbytes <= importable.peak_memory() < 2**40


def turns(harness, foreign):
    return harness.Turn({"seconds": [1.0], "result": []}, 1.0, 1.0, foreign, None)


@pytest.mark.parametrize(
    ("loads", "counted", "dropped", "disturbed"),
    [
        ([0.0, 0.05, 0.0, 0.01], 4, 0, False),
        ([0.0, 2.0, 0.05, 0.0, 0.3, 0.01], 4, 2, False),  # the busy rounds are made again
        ([None] * 4, 4, 0, False),  # where the system does not tell
        ([1.0] * 8, 8, 0, True),  # busy all the time: shown, and said so
    ],
)
def test_busy_rounds_are_dropped(importable, monkeypatch, loads, counted, dropped, disturbed):
    harness = importable
    supply = iter([None, *loads])  # the first call sets up

    class Worker(InOneProcess):
        def next(self):
            return turns(harness, next(supply))

    monkeypatch.setattr(harness, "Worker", Worker)
    result = harness.compare("", [harness.Contender("a", "trial:none")], 1, rounds=4, max_foreign=0.1)
    assert (len(result.rounds), len(result.dropped), result.disturbed) == (counted, dropped, disturbed)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells how busy the processors are")
def test_load_is_of_others_alone(importable):
    """This process keeps a processor busy, which a worker at rest sees, and its own work it does not see."""
    before, own = importable.busy_seconds(), os.times()
    while os.times().user - own.user < 0.3:
        sum(range(10000))
    assert importable.busy_seconds() - before > 0.2


def test_results_are_compared_number_by_number(importable):
    difference = importable.worst_difference
    assert difference([1.0, 2.0], [1.0, 2.0]) == 0
    assert difference([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    assert difference([0.0], [0.0]) == 0
    assert difference([1.0], [1.0, 1.0]) == difference([np.nan], [1.0]) == np.inf


# The scripts: in this process, for speed -------------------------------------------------------------------------------


class InOneProcess:
    """harness.Worker, but the contender runs here."""

    def __init__(self, contender, threads):
        module, _, function = contender.function.partition(":")
        if module != "trial":
            self.turns = getattr(importlib.import_module(module), function)(**contender.options, threads=threads)

    def next(self):
        import harness

        return harness.Turn(json.loads(json.dumps(next(self.turns))), 1.0, 1.0, 0.0, 2**20)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def in_one_process(importable, monkeypatch):
    torch, _ = peers()
    monkeypatch.setattr(importable, "Worker", InOneProcess)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_training_step_as_a_command(monkeypatch, tmp_path):
    """nano, in processes as it is measured."""
    peers()
    import training_step

    (result,), code = result_of(training_step, monkeypatch, tmp_path, "nano", "--tiny", "--against", "eager")
    assert code == 0 and result["agree"] and not result["failed"] and len(result["rounds"]) == 1
    assert {c["peak_memory"] > 2**20 for c in result["contenders"].values() if sys.platform != "win32"} <= {True}


@pytest.mark.parametrize("work", ["nano", "bert", "t5", "llama", "opt"])
def test_training_steps_have_equal_losses(work, in_one_process, monkeypatch, tmp_path):
    import training_step

    against = ["eager", "eager-bf16"] if work == "nano" else ["eager"]
    (result,), code = result_of(training_step, monkeypatch, tmp_path, work, "--tiny", "--against", *against)
    assert code == 0 and result["agree"] and not result["failed"]
    losses = result["contenders"]["tinyllm"]["facts"]["result"]
    assert len(losses) == training_step.CHECKED and len(set(losses)) > 1
    assert result["contenders"]["PyTorch eager"]["difference"] < 1e-4


@pytest.mark.parametrize("script", ["matmul", "training_step"])
def test_bfloat16_is_equal_within_its_noise(script, in_one_process, monkeypatch, tmp_path):
    from tinyllm.kernels.cpu.simd import BFLOAT16

    if not BFLOAT16:
        pytest.skip("this processor has no AVX512-BF16")
    work = ["48x64x80", "--layouts", "dw"] if script == "matmul" else ["nano", "--tiny", "--against", "eager", "eager-bf16"]
    (result,), code = result_of(importlib.import_module(script), monkeypatch, tmp_path, *work, "--dtype", "bfloat16")
    assert code == 0 and result["agree"] and not result["failed"]
    assert 1e-6 < result["contenders"]["tinyllm float32"]["difference"] < 5e-3


def test_a_wrong_training_step_is_noticed(in_one_process, monkeypatch, tmp_path):
    import torch
    import training_step

    AdamW = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, **options: AdamW(groups, lr=2 * lr, **options))
    (result,), code = result_of(training_step, monkeypatch, tmp_path, "nano", "--tiny", "--against", "eager")
    assert code == 1 and not result["agree"]


@pytest.mark.parametrize("work", ["gpt2", "llama"])
def test_decoding_gives_equal_tokens(work, in_one_process, monkeypatch, tmp_path):
    import decoding

    (result,), code = result_of(decoding, monkeypatch, tmp_path, work, "--tiny", "--new", "12")
    assert code == 0 and result["agree"] and not result["failed"]
    assert len(result["contenders"]["tinyllm"]["facts"]["result"]) == 12
    assert result["contenders"]["transformers"]["difference"] == 0
    read = {name: entry["facts"]["bytes"] for name, entry in result["contenders"].items()}
    assert read["tinyllm"] == read["transformers"] == read["reading the weights"]
    assert read["tinyllm bfloat16"] < 0.6 * read["tinyllm"] and read["tinyllm 8 bits"] < 0.4 * read["tinyllm"]


def test_tokenizers_give_equal_ids(in_one_process, monkeypatch, tmp_path):
    for package in ("tokenizers", "tiktoken"):
        pytest.importorskip(package, reason="compares with the tokenizer libraries: pip install 'tinyllm-numpy[peers]'")
    import tokenization

    text = tmp_path / "text.txt"
    text.write_text("Wo die Zitronen blühn: 12 goldne Äpfel, isn't it?\n  So it is.\n" * 20, encoding="utf-8")
    results, code = result_of(tokenization, monkeypatch, tmp_path, str(text), "--vocab-size", "300")
    learned, first, again = results
    assert code == 0 and list(learned["contenders"]) == ["tinyllm", "tokenizers"]
    for encoded in (first, again):
        assert list(encoded["contenders"]) == ["tinyllm", "tokenizers", "tiktoken"]
        assert all(entry["difference"] == 0 for entry in encoded["contenders"].values())


def test_flops_are_those_of_the_design():
    """nanoGPT's baby: 217 GFLOP a step, by hand."""
    import works

    baby = works.WORKS["baby"]
    C, N = 384, 12 * 256
    by_hand = 6 * N * (6 * 12 * C**2 + 65 * C) + 6 * 12 * N * 256 * C
    assert works.step_flops(works.fresh_model(baby), N, 256) == by_hand
    assert by_hand / 1e9 == pytest.approx(217, abs=1)


def test_shakespeare(in_one_process, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="draws: pip install 'tinyllm-numpy[plots]'")
    import shakespeare

    monkeypatch.setattr(shakespeare, "EVAL_EVERY", 4)
    text = tmp_path / "text.txt"
    text.write_text("A rose by any other name would smell as sweet.\n" * 60, encoding="utf-8")
    picture = tmp_path / "curves.png"
    arguments = [str(text), "--steps", "6", "--plot", str(picture)]
    (result,), code = result_of(shakespeare, monkeypatch, tmp_path, *arguments)
    assert code == 0 and picture.stat().st_size > 1000
    (ours,), (theirs,) = result["contenders"]["tinyllm"], result["contenders"]["PyTorch eager"]
    for run in ours, theirs:
        assert [line["step"] for line in run["log"] if "loss" in line] == [1, 2, 3, 4, 5, 6]
        assert [line["step"] for line in run["log"] if "val_loss" in line] == [0, 4, 6]
        assert run["log"][0]["val_loss"] > run["held_out_loss"] > 1
    assert ours["held_out_loss"] == pytest.approx(theirs["held_out_loss"], abs=0.3)


def test_shakespeare_from_the_same_beginning(in_one_process, monkeypatch, tmp_path):
    import shakespeare

    text = tmp_path / "text.txt"
    text.write_text("A rose by any other name would smell as sweet.\n" * 60, encoding="utf-8")
    (result,), _ = result_of(shakespeare, monkeypatch, tmp_path, str(text), "--steps", "6", "--same")
    (ours,), (theirs,) = result["contenders"]["tinyllm"], result["contenders"]["PyTorch eager"]
    losses = [[line["loss"] for line in run["log"] if "loss" in line] for run in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert ours["held_out_loss"] == pytest.approx(theirs["held_out_loss"], rel=1e-5)


def test_both_are_measured_on_every_held_out_token_once(tmp_path):
    """The loss of a model that finds all characters equally likely is log V, whatever the batches."""
    import shakespeare

    from tinyllm.data import full_pass

    seen = []
    tokens = np.arange(1000) % 7

    def loss(x, y):
        seen.extend(y[y != -100])
        return float(y[y != -100].mean())

    assert shakespeare.mean_loss(loss, full_pass(tokens, 12, 64)) == pytest.approx(tokens[1:].mean())
    np.testing.assert_array_equal(seen, tokens[1:])


def test_everything_in_one_go(in_one_process, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="draws: pip install 'tinyllm-numpy[plots]'")
    import everything

    monkeypatch.setattr(everything, "PRODUCTS", [(8, 16, 24)])
    monkeypatch.setattr("shakespeare.EVAL_EVERY", 4)
    picture, text = tmp_path / "bars.png", tmp_path / "text.txt"
    text.write_text("A rose by any other name would smell as sweet.\n" * 60, encoding="utf-8")
    arguments = ["--tiny", "--works", "nano", "t5", "--against", "eager", "--plot", str(picture), "--text", str(text)]
    results, code = result_of(everything, monkeypatch, tmp_path, *arguments)
    assert code == 0 and picture.stat().st_size > 1000
    assert [set(result["contenders"]) for result in results] == [
        {"tinyllm", "NumPy", "torch", "ceiling"},
        {"tinyllm", "PyTorch eager"},
        {"tinyllm", "PyTorch eager"},
        {"tinyllm", "tinyllm bfloat16", "tinyllm 8 bits", "transformers", "reading the weights"},
        {"tinyllm", "tokenizers"},
        {"tinyllm", "tokenizers", "tiktoken"},
        {"tinyllm", "tokenizers", "tiktoken"},
        {"tinyllm", "PyTorch eager"},
    ]


def test_versions_take_turns():
    """A tiny work, this version's plain blocks against its fused ones, with decoding."""
    script = Path(__file__).parent.parent / "benchmarks" / "versions.py"
    command = [sys.executable, str(script), "nano", "decoding", "--tiny", "--plain", "--pairs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    header, *rows = done.stdout.splitlines()
    assert header.split()[:2] == ["work", "dtype"] and [row.split()[0] for row in rows] == ["nano", "decoding"]
    assert all(float(row.split()[2]) > 0 and float(row.split()[3]) > 0 for row in rows)
    wrong = subprocess.run([sys.executable, str(script), "nanno"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "there is no work 'nanno'; pass one of nano, baby" in wrong.stderr
