"""Runs that are broken off, killed, damaged or taken up by two: what was saved is whole, and they go on bit for bit."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import TEXT, TINY, Fixed, small, uneven_batches

import tinyllm
from tinyllm import tasks
from tinyllm.checkpoints import files, native
from tinyllm.data import full_pass
from tinyllm.training.data import Data
from tinyllm.training.run import Run
from tinyllm.training.trainer import Interrupted, Trainer, Watcher


def timeless(run: Path) -> list[dict]:
    """A run's metrics without what the clock decides."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in records]


def assert_same(one: Path, other: Path) -> None:
    """Two runs gave the same, to the last bit: the log, and each file of each checkpoint but for the clock."""
    assert timeless(one) == timeless(other)
    names = [sorted(str(file.relative_to(run)) for file in run.rglob("checkpoints/*/*")) for run in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith("state.json"):
            states = [json.loads((run / name).read_text(encoding="utf-8")) for run in (one, other)]
            assert states[0] | {"seconds": 0} == states[1] | {"seconds": 0}
        elif not name.endswith("SHA256SUMS"):  # which has the sum of state.json
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


class InterruptAt(Watcher):
    """Presses Ctrl-C after the given steps."""

    def __init__(self, *steps: int, number: int = signal.SIGINT):
        self.steps, self.number = steps, number

    def trained(self, record: dict) -> None:
        if record["step"] in self.steps:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(text: Path, tmp_path: Path, number: int) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no signals that a process can send itself and survive")
    options = {**TINY, "data": text, "steps": 13, "eval_every": 5, "accumulate": 2}
    tinyllm.train("gpt", out=tmp_path / "whole", **options)
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted):
        tinyllm.train("gpt", out=tmp_path / "cut", watcher=InterruptAt(3, number=number), **options)
    assert signal.getsignal(number) == handler
    assert files.read_json(Run.open(tmp_path / "cut").last() / "state.json")["step"] == 3
    for step in (5, 8, 13):  # 5 and 13: before their evaluations
        with pytest.raises(Interrupted):
            tinyllm.resume(tmp_path / "cut", watcher=InterruptAt(step, number=number))
    model, _ = tinyllm.resume(tmp_path / "cut")
    assert_same(tmp_path / "whole", tmp_path / "cut")
    np.testing.assert_array_equal(tinyllm.resume(tmp_path / "whole")[0].flat.data, model.flat.data)  # nothing left to do


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a process can send itself and survive")
def test_interrupted_in_an_evaluation(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**TINY, "data": text, "steps": 6, "eval_every": 3}
    tinyllm.train("gpt", out=tmp_path / "whole", **options)
    passes = itertools.count()

    def interrupted_pass(*args):
        for i, batch in enumerate(full_pass(*args)):
            if i == 4 and next(passes) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(tasks.text, "full_pass", interrupted_pass)
    with pytest.raises(Interrupted):
        tinyllm.train("gpt", out=tmp_path / "cut", **options)
    assert files.read_json(Run.open(tmp_path / "cut").last() / "state.json")["evaluated"] is False
    tinyllm.resume(tmp_path / "cut")
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_what_a_kill_left_behind_is_cleared_up(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=4, eval_every=4, **TINY)
    checkpoints = tmp_path / "run" / "checkpoints"
    last = Run.open(tmp_path / "run").last()
    for name in ("step-00000002", ".step-00000003.tmp", ".step-00000001.before"):
        shutil.copytree(last, checkpoints / name)
    tinyllm.resume(tmp_path / "run")
    assert [path.name for path in checkpoints.iterdir()] == [last.name]


def test_weights_that_are_not_finite_are_never_saved(text: Path, tmp_path: Path) -> None:
    batch = uneven_batches(2)[0]
    run = Run.create(tmp_path / "run", {"kind": None})
    trainer = Trainer(small(), Data(Fixed([batch]), lambda: [batch]), run=run)
    trainer.save()
    trainer.train_step()
    trainer.model.blocks[1].norm2.b.data[0] = np.inf
    with pytest.raises(FloatingPointError, match="blocks.1.norm2.b"):
        trainer.save()
    assert run.last().name == "step-00000000"


def test_a_run_can_be_longer_than_planned(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=4, **TINY)
    tinyllm.resume(tmp_path / "run", steps=6, lr=1e-4)
    run = Run.open(tmp_path / "run")
    assert [record["step"] for record in run.metrics if "loss" in record] == [1, 2, 3, 4, 5, 6]
    assert run.config["train"]["steps"] == 6 and run.metrics[-2]["lr"] <= 1e-4


LIFE = "import sys, tinyllm; tinyllm.resume(sys.argv[1])"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_at_any_moment(text: Path, tmp_path: Path) -> None:
    """SIGKILL again and again while each step is saved, until the run is done: the same as never killed."""
    options = {**TINY, "data": text, "steps": 9, "eval_every": 1, "eval_batches": 1}
    with tinyllm.kernels.use("reference"):
        tinyllm.train("gpt", out=tmp_path / "whole", **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    (tmp_path / "killed" / "metrics.jsonl").unlink()

    draw = random.Random(0)
    environment = {**os.environ, "TINYLLM_KERNELS": "reference"}
    for kills in itertools.count():
        before = newest_step(tmp_path / "killed")
        life = subprocess.Popen([sys.executable, "-c", LIFE, str(tmp_path / "killed")], env=environment)
        if draw.random() < 0.2:
            time.sleep(draw.uniform(0, 0.5))  # while it starts
        else:
            while life.poll() is None and newest_step(tmp_path / "killed") <= before:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.03))
        life.kill()
        if life.wait() == 0:
            break
        assert life.returncode == -signal.SIGKILL and kills < 30
    assert kills > 1
    assert_same(tmp_path / "whole", tmp_path / "killed")


def newest_step(run: Path) -> int:
    return max((int(path.name[5:]) for path in run.glob("checkpoints/step-*")), default=-1)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("again", [False, True], ids=["the next step", "the same step"])
def test_killed_at_every_point_of_saving(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """Every call that changes the disk in turn is the last one: what is there can be resumed from."""
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=2, **TINY)
    for n in itertools.count():
        path = tmp_path / f"copy-{n}"
        shutil.copytree(tmp_path / "run", path)
        run = Run.open(path)
        last = run.last()
        model, tokenizer = native.read_model(last), native.read_tokenizer(last)
        optimizer = tinyllm.Adam(model)
        state = native.read_training(last, optimizer) | {"step": 2 if again else 3, "best_step": None}
        with monkeypatch.context() as patched:
            die_at(n, patched)
            try:
                run.save(model, tokenizer, optimizer, state)
                survived = True
            except Killed:
                survived = False
        last = Run.open(path).last()
        files.verify(last)
        model = tinyllm.load(path)[0]
        assert np.isfinite(model.flat.data).all()
        step = native.read_training(last, tinyllm.Adam(model))["step"]
        assert step == state["step"] if survived else step in (2, state["step"])
        assert not list(path.glob("checkpoints/.*"))
        if survived:
            assert n > 8
            return


def die_at(n: int, patched: pytest.MonkeyPatch) -> None:
    """The n-th call that changes the disk is not made, nor is any after it."""
    calls = itertools.count()

    def deadly(original):
        def call(*args, **options):
            if next(calls) >= n:
                raise Killed
            return original(*args, **options)

        return call

    for owner, name in [(os, "fsync"), (shutil, "rmtree"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text")]:
        patched.setattr(owner, name, deadly(getattr(owner, name)))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_told(text: Path, tmp_path: Path, name: str) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=2, **TINY)
    file = Run.open(tmp_path / "run").last() / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        tinyllm.resume(tmp_path / "run", steps=3)


def test_one_process_at_a_time_trains_in_a_run(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        tinyllm.train("gpt", out=out, watcher=InterruptAt(3), **TINY, data=text, steps=6)
    held = (
        "import sys; from tinyllm.training import Run\n"
        "with Run.open(sys.argv[1]).alone(): print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", held, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin and other.stdout
    other.stdout.readline()
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.raises(files.CheckpointError, match="another process is training in .*run: wait until it ends"):
        tinyllm.resume(out)
    assert (out / "metrics.jsonl").read_bytes() == before
    other.kill()  # which frees the run
    other.communicate()
    tinyllm.resume(out)
    assert Run.open(out).metrics[-1]["step"] == 6


def test_other_data_is_told(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=2, **TINY)
    text.write_text(TEXT.replace("times", "semit"), encoding="utf-8")
    with pytest.raises(ValueError, match="the data"):
        tinyllm.resume(tmp_path / "run", steps=3)
