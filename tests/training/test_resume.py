"""Runs that are broken off, killed, damaged or taken up by two: what was saved is whole, and they go on bit for bit."""

from __future__ import annotations

import errno
import itertools
import json
import math
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
from tinyllm.checkpoints.state import read_state
from tinyllm.data import full_pass
from tinyllm.files import naming
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


# What is around the checkpoints ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs of six steps: "whole", and "cut", which was stopped after its fourth."""
    if sys.platform == "win32":
        pytest.skip("Windows has no signals that a process can send itself and survive")
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    options = {**TINY, "data": folder / "text.txt", "steps": 6, "eval_every": 2, "sample_tokens": 5}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TINYLLM_CACHE", str(folder / "cache"))
        tinyllm.train("gpt", out=folder / "runs" / "whole", **options)
        with pytest.raises(Interrupted):
            tinyllm.train("gpt", out=folder / "runs" / "cut", watcher=InterruptAt(4), **options)
    return folder


@pytest.fixture
def cut(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run that was stopped, with the whole one beside it."""
    monkeypatch.setenv("TINYLLM_CACHE", str(both / "cache"))
    shutil.copytree(both / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "cut"


@pytest.mark.parametrize(
    "rest",
    [
        b'{"step": 5, "loss": 2.9, "sa',
        '{"step": 5, "sample": "語'.encode()[:-1],
        b"\0" * 4096,
        b"\0\n\0\n{}\n",
        b"\xff\n[1]\n",
    ],
    ids=["cut", "cut within a character", "NUL bytes", "NUL bytes on lines", "no UTF-8"],
)
def test_what_follows_the_lines_of_the_checkpoint_is_ignored(cut: Path, rest: bytes) -> None:
    with (cut / "metrics.jsonl").open("ab") as log:
        log.write(rest)
    assert [record["step"] for record in Run.open(cut).metrics] == [0, 1, 2, 2, 3, 4]
    tinyllm.resume(cut)
    assert_same(cut.parent / "whole", cut)


def test_a_log_that_is_damaged_or_lost_does_not_stop_the_run(cut: Path, capsys: pytest.CaptureFixture) -> None:
    """The weights are what they would have been; the lines that are lost stay lost, and it is said."""
    lines = (cut / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"
    (cut / "metrics.jsonl").write_bytes(b"".join(lines[:5]) + b'{"step": 9')
    tinyllm.resume(cut)
    assert "has lost 1 of its lines" in " ".join(capsys.readouterr().out.split())
    assert [record["step"] for record in Run.open(cut).metrics] == [0, 2, 2, 3, 4, 5, 6, 6]
    last, whole = Run.open(cut).last(), Run.open(cut.parent / "whole").last()
    assert (last / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_foreign_names_beside_the_checkpoints_are_ignored(cut: Path) -> None:
    checkpoints = cut / "checkpoints"
    names = ["step-00000012.bak", "step-", "step-9", "step-0x000010", "step-000000099", ".step-00000012.bak", "notes"]
    for name in names:
        shutil.copytree(Run.open(cut).last(), checkpoints / name)
    (checkpoints / "step-00000077").write_text("a file", encoding="utf-8")
    (checkpoints / "step-\N{ARABIC-INDIC DIGIT ONE}0000000").mkdir()
    tinyllm.load(cut)
    tinyllm.resume(cut)
    assert {*names, "step-00000077"} <= {path.name for path in checkpoints.iterdir()}
    for name in names:
        shutil.rmtree(checkpoints / name)
    (checkpoints / "step-\N{ARABIC-INDIC DIGIT ONE}0000000").rmdir()
    (checkpoints / "step-00000077").unlink()
    assert_same(cut.parent / "whole", cut)


def test_a_kill_before_the_configuration_has_its_name(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", kill)
        patched.setattr(os, "unlink", lambda path: None)
        with pytest.raises(Killed):
            Run.create(tmp_path / "run", {"kind": None})
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".run.json.")]
    with pytest.raises(FileNotFoundError, match="stopped before it began; begin it again in the same place"):
        tinyllm.resume(tmp_path / "run")
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=1, **TINY)
    assert not list((tmp_path / "run").glob(".run.json.*")) and Run.open(tmp_path / "run").metrics


class At(Watcher):
    """Does something after a step."""

    def __init__(self, step: int, act) -> None:
        self.step, self.act = step, act

    def trained(self, record: dict) -> None:
        if record["step"] == self.step:
            self.act()


@pytest.mark.parametrize("then", ["nothing", "another run"])
def test_a_run_that_is_removed_while_it_is_trained(text: Path, tmp_path: Path, then: str) -> None:
    out = tmp_path / "run"
    options = {**TINY, "data": text, "steps": 6, "eval_every": 2}

    def remove() -> None:
        shutil.rmtree(out)
        if then == "another run":
            Run.create(out, {"kind": None})

    with pytest.raises(FileNotFoundError, match="has been removed, renamed or replaced while it was trained"):
        tinyllm.train("gpt", out=out, watcher=At(3, remove), **options)
    assert sorted(path.name for path in out.rglob("*")) == ([] if then == "nothing" else [".lock", "run.json"])
    if then == "nothing":
        tinyllm.train("gpt", out=out, **options)


def test_a_checkpoint_without_its_run_says_what_is_left(cut: Path) -> None:
    (cut / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="it has no run.json: it was removed; the model is whole, so load it from"):
        tinyllm.resume(cut)
    with pytest.raises(ValueError, match="exists and is no training run"):
        tinyllm.train("gpt", out=cut, **TINY)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="two processes begin in the same moment by os.fork")
def test_of_two_that_create_a_run_in_the_same_moment_one_is_refused(tmp_path: Path) -> None:
    for i in range(30):
        path, start, children = tmp_path / f"race-{i}", time.time() + 0.01, []
        for k in range(2):
            if (child := os.fork()) == 0:
                while time.time() < start:
                    pass
                try:
                    Run.create(path, {"kind": None, "init": str(k)})
                    os._exit(k)
                except files.CheckpointError:
                    os._exit(2)
                finally:
                    os._exit(3)
            children.append(child)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert codes in ([0, 2], [1, 2])
        assert Run.open(path).config["init"] == str(codes[0])


def test_a_full_disk_before_a_run_has_begun(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tinyllm.files.flush_to_disk", full)
        with pytest.raises(OSError, match="run.json: No space left on device. The run has not begun"):
            Run.create(tmp_path / "run", {"kind": None})
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=1, **TINY)


@pytest.mark.parametrize("place", ["log", "checkpoint"])
def test_a_full_disk(cut: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The error names the file and what is saved, and afterwards the run goes on bit for bit."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def log(self: Run, record: dict) -> None:
        with (self.path / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 5, "lo')
        with naming(self.path / "metrics.jsonl"):
            full()

    with monkeypatch.context() as patched:
        if place == "log":
            patched.setattr(Run, "log", log)
        else:
            patched.setattr(native, "write_training", full)
        with pytest.raises(OSError) as failure:
            tinyllm.resume(cut)
    message = str(failure.value)
    assert "No space left on device. The checkpoint" in message and "step-00000004 is whole" in message
    assert message.endswith(f"tinyllm train --resume {cut}") and (place != "log" or "metrics.jsonl" in message)
    assert not list(cut.glob("checkpoints/.*"))
    tinyllm.resume(cut)
    assert_same(cut.parent / "whole", cut)


STATES = {
    "best_step": [{}, "2", -1, 2.5, True, [2]],
    "step": [None, "4", -4, 1.5, {}],
    "lines": [None, -1, "5"],
    "evaluated": [0, None, "yes"],
    "seconds": ["1", -1.0, None],
    "random": [None, [], 7],
    "data": [None, "x"],
    "fingerprint": [None, 5],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in STATES.items() for value in values])
def test_a_state_of_the_wrong_type_is_told(tmp_path: Path, field: str, value: object) -> None:
    state = {"step": 4, "tokens": 9, "seconds": 1.0, "evaluated": True, "best_step": None, "best": None, "waited": 0,
             "random": {}, "data": {}, "fingerprint": "", "lines": 3, "optimizer_steps": 4}  # fmt: skip
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert read_state(tmp_path).step == 4
    (tmp_path / "state.json").write_text(json.dumps({**state, field: value}), encoding="utf-8")
    with pytest.raises(files.CheckpointError, match=rf'state.json: "{field}" is .*, and must be '):
        read_state(tmp_path)
    del state[field]
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(files.CheckpointError, match=f'state.json: the field "{field}" is missing'):
        read_state(tmp_path)


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": 5}, '"kind" is 5, and must be a text or null'), ({"train": []}, r'"train" is \[\], and must be a JSON object'),
    ({"train": {"lr": "fast"}}, "\"lr\" is 'fast', and must be of type float"),
    ({"train": {"lr": math.nan}}, "number NaN is not finite"),
    ({"train": {"speed": 1}}, 'no field "speed"'), ({"task": {"val_fraction": None}}, '"val_fraction" is None'),
    ({"task_name": "poetry"}, "no task 'poetry'"), ({"colour": 1}, 'no field "colour"'),
    ({"lora": {"lora_r": {}}}, r'"lora_r" is \{\}'), ({"kind": None}, "from Python"), ({"kind": "mamba"}, "'mamba'"),
])  # fmt: skip
def test_a_configuration_of_the_wrong_type_is_told(cut: Path, change: dict, message: str) -> None:
    config = json.loads((cut / "run.json").read_text(encoding="utf-8"))
    (cut / "run.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        tinyllm.resume(cut)


@pytest.mark.parametrize("state", [
    {"random": {}}, {"random": {"bit_generator": "PCG64", "state": 5}}, {"data": {}}, {"data": {"epoch": "x"}},
])  # fmt: skip
def test_a_position_that_is_none_is_told(cut: Path, state: dict) -> None:
    file = Run.open(cut).last() / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | state), encoding="utf-8")
    files.write_sums(file.parent)
    with pytest.raises(ValueError, match="state.json: the state of the random|belongs to other data"):
        tinyllm.resume(cut)


def test_a_finished_run_says_so(cut: Path, capsys: pytest.CaptureFixture) -> None:
    tinyllm.resume(cut.parent / "whole")
    said = " ".join(capsys.readouterr().out.split())
    assert "The run is complete: all of its 6 steps are done. To train on: tinyllm train --resume" in said
    tinyllm.resume(cut)
    assert "is complete" not in capsys.readouterr().out


def test_other_data_is_told(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=2, **TINY)
    text.write_text(TEXT.replace("times", "semit"), encoding="utf-8")
    with pytest.raises(ValueError, match="the data"):
        tinyllm.resume(tmp_path / "run", steps=3)
