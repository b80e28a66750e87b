"""--average in a run: what is evaluated, saved and returned is the mean; what is trained, and resumed, are the weights."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from test_resume import InterruptAt, assert_same
from tiny_runs import TINY, Fixed, small, uneven_batches

import tinyllm
from tinyllm.checkpoints import files, native
from tinyllm.checkpoints.runs import checkpoint_path
from tinyllm.optim import average_named
from tinyllm.training.config import TrainConfig
from tinyllm.training.data import Data
from tinyllm.training.run import Run
from tinyllm.training.trainer import Interrupted, Trainer, Watcher

AVERAGES = ["ema:0.7", "last:2"]


class Weights(Watcher):
    """Keeps the raw weights after each step, and those that are evaluated."""

    def __init__(self):
        self.raw, self.evaluated_weights, self.said = [], {}, []

    def say(self, text):
        self.said.append(text)

    def begun(self, trainer):
        self.trainer = trainer

    def trained(self, record):
        self.raw.append(self.trainer.model.flat.data.copy())

    def evaluated(self, record):
        self.evaluated_weights[record["step"]] = self.trainer.model.flat.data.copy()


def expected(average: str, raw: list, every: int) -> dict[int, np.ndarray]:
    """The mean at each evaluation, in float64 and by its definition."""
    made = {}
    for step in range(every, len(raw) + 1, every):
        if average.startswith("ema"):
            shares = 0.7 ** np.arange(step - 1, -1, -1.0)
            made[step] = np.average(np.float64(raw[:step]), axis=0, weights=shares)
        else:
            made[step] = np.mean(np.float64(raw[every - 1 : step : every][-2:]), axis=0)
    return made


@pytest.mark.parametrize("average", AVERAGES)
def test_the_mean_is_evaluated_saved_and_returned(text: Path, tmp_path: Path, average: str) -> None:
    options = {**TINY, "data": text, "steps": 9, "eval_every": 3, "lr": 1e-2, "warmup": 0}
    plain, averaged = Weights(), Weights()
    tinyllm.train("gpt", watcher=plain, **options)
    model, tokenizer = tinyllm.train("gpt", out=tmp_path / "run", watcher=averaged, average=average, **options)
    np.testing.assert_array_equal(averaged.raw, plain.raw)  # training goes on with the weights themselves
    means = expected(average, plain.raw, every=3)
    for step, mean in means.items():
        np.testing.assert_allclose(averaged.evaluated_weights[step], mean, rtol=1e-5, atol=1e-7)
        assert not np.allclose(mean, plain.raw[step - 1], atol=1e-4) or (average, step) == ("last:2", 3)
    np.testing.assert_allclose(model.flat.data, means[9], rtol=1e-5, atol=1e-7)
    last = Run.open(tmp_path / "run").last()
    np.testing.assert_array_equal(native.read_model(last).flat.data, averaged.evaluated_weights[9])
    assert "average.safetensors" in (last / files.SUMS).read_text(encoding="utf-8")
    run = Run.open(tmp_path / "run")
    best = json.loads((last / files.STATE).read_text(encoding="utf-8"))["best_step"]
    loaded, _ = tinyllm.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.flat.data, averaged.evaluated_weights[best])
    data = tinyllm.tasks.TextTask(**run.config["task"]).open(loaded, tokenizer, TrainConfig(batch_size=3))
    measured = {record["step"]: record["val_loss"] for record in run.metrics if "val_loss" in record}
    batches = list(data.held_out())[:20]
    assert data.evaluate(loaded, batches)["loss"] == pytest.approx(measured[best], rel=1e-6)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a process can send itself and survive")
@pytest.mark.parametrize("average", AVERAGES)
def test_an_interrupted_run_has_the_same_mean(text: Path, tmp_path: Path, average: str) -> None:
    options = {**TINY, "data": text, "steps": 8, "eval_every": 3, "average": average}
    whole = tinyllm.train("gpt", out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        tinyllm.train("gpt", out=tmp_path / "cut", watcher=InterruptAt(2, number=signal.SIGINT), **options)
    last = Run.open(tmp_path / "cut").last()
    saved, resumed = native.read_model(last), native.read_model(last)
    native.read_training(last, tinyllm.Adam(resumed), mean := average_named(average, resumed))
    np.testing.assert_array_equal(saved.flat.data, mean.mean())  # between evaluations too
    for step in (3, 5, 8):  # 3 and 8: before their evaluations
        with pytest.raises(Interrupted):
            tinyllm.resume(tmp_path / "cut", watcher=InterruptAt(step))
    cut = tinyllm.resume(tmp_path / "cut", watcher=Watcher())
    assert_same(tmp_path / "whole", tmp_path / "cut")
    np.testing.assert_array_equal(whole.model.flat.data, cut.model.flat.data)
    again = tinyllm.resume(tmp_path / "cut", watcher=Watcher())  # nothing is left to do
    np.testing.assert_array_equal(again.model.flat.data, cut.model.flat.data)


def test_adapters_are_averaged_and_resumed(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "base", steps=2, watcher=Watcher(), **TINY)
    options = {"init": tmp_path / "base", "data": text, "lora_r": 2, "average": "ema:0.5", "sample_tokens": 0}
    options |= {"batch_size": 3, "eval_every": 2, "schedule": "constant", "warmup": 0, "watcher": Watcher()}
    whole = tinyllm.train("gpt", out=tmp_path / "whole", steps=4, **options)
    tinyllm.train("gpt", out=tmp_path / "cut", steps=2, **options)
    cut = tinyllm.resume(tmp_path / "cut", steps=4, watcher=Watcher())
    np.testing.assert_array_equal(whole.model.flat.data, cut.model.flat.data)
    loaded, _ = tinyllm.load(tmp_path / "cut")
    assert loaded.lora is not None


def test_an_average_can_be_begun_changed_and_ended(text: Path, tmp_path: Path) -> None:
    """The weights themselves go on as if it had been so from the beginning."""
    options = {**TINY, "data": text, "eval_every": 2, "schedule": "constant"}
    tinyllm.train("gpt", steps=8, watcher=(plain := Weights()), **options)
    tinyllm.train("gpt", out=tmp_path / "run", steps=2, watcher=(first := Weights()), **options)
    seen = list(first.raw)
    for steps, average in ((4, "ema:0.7"), (6, "last:2"), (8, "none")):
        trained = tinyllm.resume(tmp_path / "run", steps=steps, average=average, watcher=(watcher := Weights()))
        seen += watcher.raw
        assert any(f"and is {average} from step {steps - 2} on" in said for said in watcher.said)
    np.testing.assert_array_equal(seen, plain.raw)
    np.testing.assert_array_equal(trained.model.flat.data, plain.raw[-1])
    last = Run.open(tmp_path / "run").last()
    assert not (last / files.AVERAGE).exists()


def test_a_damaged_average_is_found(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=2, average="ema:0.9", watcher=Watcher(), **TINY)
    last = checkpoint_path(tmp_path / "run", 2)
    damaged = bytearray((last / files.AVERAGE).read_bytes())
    damaged[-5] ^= 16
    (last / files.AVERAGE).write_bytes(damaged)
    with pytest.raises(files.CheckpointError, match="average.safetensors"):
        tinyllm.resume(tmp_path / "run", steps=4, watcher=Watcher())


def test_a_trainer_of_ones_own(tmp_path: Path) -> None:
    batches = uneven_batches(3)[:2]
    config = TrainConfig(steps=4, eval_every=2, average="ema:0.5", lr=0.1, warmup=0)
    trainer = Trainer(small(), Data(Fixed(batches), lambda: batches), config)
    trainer.train()
    raw = trainer.model.flat.data.copy()
    trainer.average.apply()
    assert not np.array_equal(trainer.model.flat.data, raw)
    trainer.average.restore()
    np.testing.assert_array_equal(trainer.model.flat.data, raw)
