"""Training: the right gradient, the right loss, and a run that no interruption changes."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import TEXT, TINY, Fixed, small, uneven_batches

import tinyllm
from tinyllm import cli, kernels, tasks
from tinyllm.checkpoints import native
from tinyllm.data import Batches, full_pass
from tinyllm.kernels.cpu.simd import BFLOAT16
from tinyllm.models import GPTForSequenceClassification, nonfinite
from tinyllm.optim import learning_rate
from tinyllm.tasks.labelled import LabelData
from tinyllm.training.config import TrainConfig
from tinyllm.training.data import Data
from tinyllm.training.plots import plot_loss, smoothed
from tinyllm.training.run import Run
from tinyllm.training.trainer import Trainer

# The schedule ----------------------------------------------------------------------------------------------------------


def test_learning_rate() -> None:
    cosine = [learning_rate(step, 110, 1.0, 10, "cosine", 0.2) for step in range(111)]
    assert cosine[0] == pytest.approx(1 / 11) and cosine[9] == pytest.approx(10 / 11)
    assert cosine[10] == 1 and cosine[60] == pytest.approx(0.6) and cosine[110] == pytest.approx(0.2)
    assert cosine[35] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(60, 110, 1.0, 10, "linear", 0.2) == pytest.approx(0.6)
    assert learning_rate(35, 110, 1.0, 10, "linear", 0.2) == pytest.approx(0.8)
    assert learning_rate(109, 110, 1.0, 10, "constant", 0.2) == 1
    assert learning_rate(10, 110, 1.0, 10, "rsqrt", 0.2) == 1 and learning_rate(98, 110, 1.0, 10, "rsqrt", 0.5) == 0.5
    assert learning_rate(98, 110, 1.0, 10, "rsqrt") == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="'square'"):
        learning_rate(60, 110, 1.0, 10, "square")


@given(st.integers(1, 50), st.integers(0, 60), st.sampled_from(["cosine", "linear", "constant", "rsqrt"]))
def test_learning_rate_stays_within_its_bounds_and_never_turns_up_again(steps: int, warmup: int, schedule: str) -> None:
    rates = [learning_rate(step, steps, 2.0, warmup, schedule, 0.5) for step in range(steps)]
    assert all(0 < rate <= 2 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(rate >= 0.5 for rate in rates[warmup:])


# The gradient ----------------------------------------------------------------------------------------------------------


def test_accumulated_gradient_is_that_of_the_large_batch() -> None:
    batches = uneven_batches(4)
    model = small()
    large = tuple(np.concatenate(arrays) for arrays in zip(*batches))
    expected_loss = model.loss(*large)
    model.backward()
    expected = model.flat.grad.copy()
    model.zero_grad()

    trainer = Trainer(model, Data(Fixed(batches), lambda: batches), TrainConfig(accumulate=4))
    loss, count, read = trainer._accumulate()
    assert read == large[0].size
    assert count == np.count_nonzero(large[1] != -100) and loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(model.flat.grad, expected, rtol=1e-10, atol=1e-14)


def test_accumulated_gradient_of_labels_that_count_unequally() -> None:
    draw = np.random.default_rng(0)
    batches = [(draw.integers(0, 11, (3, 6)), np.array(labels)) for labels in ([0, 0, 1], [1, 1, 1], [0, -100, 0])]
    weights = {"class_weight": [0.2, 3.0]}
    model = GPTForSequenceClassification(small().config, seed=1, dtype="float64")
    large = tuple(np.concatenate(arrays) for arrays in zip(*batches))
    expected_loss = model.loss(*large, **weights)
    model.backward()
    expected = model.flat.grad.copy()
    model.zero_grad()

    data = LabelData(Fixed(batches), lambda: batches, loss_options=weights)
    loss, count, read = Trainer(model, data, TrainConfig(accumulate=3))._accumulate()
    assert count == 8 and read == 3 * 18 and loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(model.flat.grad, expected, rtol=1e-10, atol=1e-14)


def test_a_step_drops_out_clips_and_updates() -> None:
    batch = uneven_batches(2)[0]
    one, other = small(embd_pdrop=0.3), small(embd_pdrop=0.3)
    trainer = Trainer(one, Data(Fixed([batch]), lambda: [batch]), TrainConfig(clip=0.01, warmup=1, lr=0.2, weight_decay=0.5))
    record = trainer.train_step()

    optimizer = tinyllm.Adam(other, lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)  # half of 0.2: it is warming up
    other.train()
    loss = other.loss(*batch)
    other.backward()
    norm = tinyllm.clip_grad_norm(other, 0.01)
    optimizer.step()
    assert (record["loss"], record["grad_norm"], record["lr"]) == (loss, norm, 0.1) and norm > 0.01
    np.testing.assert_allclose(one.flat.data, other.flat.data, rtol=1e-5, atol=1e-7)  # clipped on the way, or before it
    np.testing.assert_allclose(one.flat.grad * (0.01 / (norm + 1e-6)), other.flat.grad, rtol=1e-5)  # and left as it was
    other.eval()
    assert loss != other.loss(*batch)


def test_nothing_to_learn() -> None:
    tokens, targets = uneven_batches(2)[1]
    assert (targets == -100).all()
    trainer = Trainer(small(), Data(Fixed([(tokens, targets)]), lambda: [(tokens, targets)]))
    with pytest.raises(ValueError, match="step 1 has nothing to learn"):
        trainer.train_step()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        trainer.data.evaluate(trainer.model, [(tokens, targets)])


def test_evaluation_is_the_mean_over_all_targets_and_leaves_no_trace() -> None:
    model = small(embd_pdrop=0.5)
    tokens = np.random.default_rng(0).integers(0, 11, 40)
    data = Data(Batches(tokens, 2, 6), lambda: full_pass(tokens, 4, 6))
    before = model.mode.random.bit_generator.state
    measured = data.evaluate(model, data.held_out())["loss"]
    windows = [model.loss(tokens[None, i : i + 6][:, : 39 - i], tokens[None, i + 1 : i + 7]) for i in range(0, 39, 6)]
    sizes = [min(6, 39 - i) for i in range(0, 39, 6)]
    assert measured == pytest.approx(np.average(windows, weights=sizes), rel=1e-12)
    assert model.mode.random.bit_generator.state == before


def test_it_learns(text: Path) -> None:
    """The entropy of the next character of our text given the last is about 1.4 nats; ln V = 3.0."""
    options = {**TINY, "n_embd": 32, "n_positions": 16, "dropout": 0.0, "batch_size": 8}
    model, tokenizer = tinyllm.train("gpt", data=text, steps=150, lr=1e-2, warmup=10, eval_every=1000, **options)
    tokens = np.array(tokenizer.encode(TEXT))
    losses = [model.loss(*batch) for batch in full_pass(tokens[-400:], 8, 16)]
    assert np.mean(losses) < 1.3


# What is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"accumulate": 0}, "accumulate"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"lr": math.inf}, '"lr" is inf, and must be a finite number'),
        ({"epochs": math.inf}, '"epochs" is inf, and must be a finite number'),
        ({"epochs": 1e300}, r"epochs is 1e\+300, which is more than 1e\+12 steps"),
        ({"clip": math.nan}, '"clip" is nan'),
        ({"dropout": math.nan}, "dropout is nan, and must be at least 0 and below 1"),
        ({"embd_pdrop": -0.5}, "embd_pdrop is -0.5"),
        ({"val_fraction": math.nan}, "val_fraction is nan, and must be at least 0 and below 1"),
        ({"steps": "5"}, "\"steps\" is '5', and must be of type int"),
        ({"steps": 5.5}, '"steps" is 5.5'),
        ({"n_embd": [8]}, r'"n_embd" is \[8\], and must be of type int'),
        ({"seed": -1}, "seed must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"dropout": 1.5}, "^dropout is 1.5, and must be at least 0 and below 1"),
        ({"length": 0}, "length is 0, and must be at least 1"),
        ({"sample_tokens": -1}, "sample_tokens is -1"),
        ({"preset": "nan"}, "no preset 'nan': did you mean nano"),
        ({"kind": "gtp"}, "did you mean gpt"),
        ({"task": "chta"}, "no task 'chta' for this model: did you mean chat"),
        ({"dtype": "float16"}, "\"dtype\" is 'float16', and must be one of float32, bfloat16"),
        ({"n_layers": 3}, "did you mean n_layer"),
        ({"n_embd": 13}, "multiple of n_head"),
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"kind": "mamba"}, "no kind of model 'mamba'"),
        ({"tokenizer": "words"}, "'words'"),
        ({"tokenizer": "bpe:many"}, "how many tokens"),
        ({"length": 9}, "more than this model takes, 8"),
        ({"val_fraction": 1.5}, "val_fraction is 1.5, and must be at least 0 and below 1"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(text: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tinyllm.train(**{"kind": "gpt", "data": text, "out": tmp_path / "run", **TINY, **options})
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_not_free(text: Path, tmp_path: Path) -> None:
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=1, **TINY)
    with pytest.raises(ValueError, match="is a run already: go on with `tinyllm train --resume"):
        tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=1, **TINY)
    with pytest.raises(ValueError, match="is no training run"):
        tinyllm.train("gpt", data=text, out=tmp_path, steps=1, **TINY)
    with pytest.raises(FileNotFoundError, match="is no training run"):
        tinyllm.resume(tmp_path)
    with pytest.raises(ValueError, match="resuming cannot change n_embd"):
        tinyllm.resume(tmp_path / "run", n_embd=16)
    with pytest.raises(ValueError, match="did you mean steps"):
        tinyllm.resume(tmp_path / "run", step=16)


# NaN -------------------------------------------------------------------------------------------------------------------


def test_a_loss_that_explodes_names_step_and_place_and_leaves_the_checkpoint(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as error:
        tinyllm.train("gpt", data=text, out=out, lr=1e30, warmup=0, clip=0.0, steps=50, eval_every=20, **TINY)
    message = str(error.value)
    assert "step " in message and "lower lr (it is 1e+30)" in message and "\n" not in message
    assert "not finite" in message and f"--resume {out}" in message
    model, _ = tinyllm.load(out)
    assert np.isfinite(model.flat.data).all()


def test_where_it_is() -> None:
    batch = uneven_batches(2)[0]
    model = small()
    assert nonfinite.in_loss(model, batch) == "all layers' outputs are finite"
    inner = model.blocks[1].mlp.up
    kind = type(inner)
    inner.__class__ = type("Exploding", (kind,), {"forward": lambda self, x: kind.forward(self, x) * np.inf})
    with np.errstate(all="ignore"):
        assert nonfinite.in_loss(model, batch).endswith("is blocks.1.mlp.up")
    model = small()
    model.blocks[0].norm1.w.data[2] = np.nan
    assert nonfinite.in_loss(model, batch).endswith("is blocks.0.norm1.w")
    model.flat.grad.fill(0)
    model.blocks[0].norm1.w.grad[0] = model.blocks[1].attention.proj.w.grad[0, 0] = np.inf
    assert nonfinite.in_gradient(model).endswith("is that of blocks.1.attention.proj.w")
    trainer = Trainer(model, Data(Fixed([batch]), lambda: [batch]))
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan; the first parameter .* blocks.0.norm1.w"):
        trainer.train_step()


# Runs ------------------------------------------------------------------------------------------------------------------


def test_the_best_model_is_kept_and_loaded(text: Path, tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, 1.5])

    class Told(Data):
        def evaluate(self, model, batches):
            return {"loss": next(losses), "accuracy": 0.5}

    batch = uneven_batches(2)[0]
    run = Run.create(tmp_path / "run", {"kind": None})
    trainer = Trainer(small("float32"), Told(Fixed([batch]), lambda: [batch]), TrainConfig(steps=3, eval_every=1), run)
    trainer.train()
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000001", "step-00000003"]
    best, _ = tinyllm.load(tmp_path / "run")
    np.testing.assert_array_equal(
        best.flat.data, native.read_model(tmp_path / "run" / "checkpoints" / "step-00000001").flat.data
    )
    assert not np.array_equal(best.flat.data, trainer.model.flat.data)
    assert trainer.metrics[-1].items() >= {"step": 3, "val_loss": 1.5, "val_accuracy": 0.5}.items()
    with pytest.raises(ValueError, match="from Python"):
        tinyllm.resume(tmp_path / "run")
    again = Trainer(
        small("float32"), Told(Fixed([batch]), lambda: [batch]), TrainConfig(steps=3), Run.open(tmp_path / "run")
    )
    again.resume()
    np.testing.assert_array_equal(again.model.flat.data, trainer.model.flat.data)
    np.testing.assert_array_equal(again.optimizer.v, trainer.optimizer.v)
    assert (again.step, again.best_step, again.best, again.waited) == (3, 1, -1.0, 2)


def test_a_measure_decides_and_training_stops_when_it_does_not_rise() -> None:
    accuracies = iter([0.2, 0.5, 0.4, 0.5, 0.9])

    class Told(Data):
        def evaluate(self, model, batches):
            return {"loss": 1.0, "accuracy": next(accuracies)}

    batch = uneven_batches(2)[0]
    data = Told(Fixed([batch]), lambda: [batch], best="accuracy")
    trainer = Trainer(small("float32"), data, TrainConfig(steps=9, eval_every=1, patience=2))
    trainer.train()
    assert (trainer.step, trainer.best_step, trainer.best) == (3, 1, 0.5)


def test_the_untrained_model_is_never_the_best_and_patience_begins_after_a_pass() -> None:
    """F1 of a rare label is 0 at first: the loss decides between equal measures, and waiting begins when all is seen."""
    measured = iter(
        [(0.4, 2.0), (0.0, 1.9), (0.0, 1.8), (0.0, 1.9), (0.0, 1.9), (0.3, 1.0), (0.3, 1.1), (0.2, 1.0), (0.1, 1.0)]
    )

    class Told(Data):
        def evaluate(self, model, batches):
            accuracy, loss = next(measured)
            return {"loss": loss, "accuracy": accuracy}

    batch = uneven_batches(2)[0]
    batches = Fixed([batch])
    batches.count = 4 * batches.step  # a pass of four steps
    data = Told(batches, lambda: [batch], best="accuracy")
    trainer = Trainer(small("float32"), data, TrainConfig(steps=9, eval_every=1, patience=2))
    trainer.train()
    assert (trainer.step, trainer.best_step, trainer.best, trainer.start) == (7, 5, 0.3, 0.4)
    assert trainer.learned_nothing


def test_products_in_bfloat16() -> None:
    """The same training but for rounding: parameters, gradients and the optimizer stay float32."""
    if not BFLOAT16:
        pytest.skip("this processor does not multiply in bfloat16")
    losses = {}
    for dtype in ("float32", "bfloat16"):
        model, batches = small("float32"), uneven_batches(8)[:6]
        trainer = Trainer(
            model, Data(Fixed(batches), lambda batches=batches: batches), TrainConfig(steps=6, dtype=dtype, lr=1e-2)
        )
        trainer.train()
        assert model.dtype == np.float32 and kernels.autocast_dtype() == "float32"
        losses[dtype] = [record[name] for record in trainer.metrics for name in ("loss", "val_loss") if name in record]
    differences = np.abs(np.subtract(*losses.values()))
    assert len(differences) == 8 and (differences < 5e-3).all() and (differences > 0).sum() > 4


def test_a_processor_without_bfloat16_says_so_at_once(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyllm.kernels.cpu.bfloat16.BFLOAT16", False)
    with pytest.raises(ValueError, match="this processor cannot multiply in bfloat16"):
        tinyllm.train(data=[text], **TINY, dtype="bfloat16", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_epochs_say_how_many_steps_there_are(text: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 11, 100)
    batches = Batches(tokens, 2, 6)  # 15 windows
    data = Data(batches, lambda: full_pass(tokens, 4, 6))
    config = Trainer(small(), data, TrainConfig(epochs=3, accumulate=2, eval_every=0)).config
    assert (config.steps, config.eval_every) == (11, 4)
    assert Trainer(small(), data, TrainConfig(steps=7, eval_every=0)).config.steps == 7


def test_options_of_the_loss_are_for_training_alone() -> None:
    batch = uneven_batches(2)[0]
    model = small()
    data = Data(Fixed([batch]), lambda: [batch], loss_options={"label_smoothing": 0.5})
    trainer = Trainer(model, data)
    assert data.evaluate(model, [batch])["loss"] == pytest.approx(model.loss(*batch))
    assert trainer._accumulate()[0] == pytest.approx(model.loss(*batch, label_smoothing=0.5))


def test_a_task_reports_of_the_best_model(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And adapters are trained in place of the weights, resumed, and merged when the next training begins."""
    preset = {"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 8, "steps": 2, "eval_batches": 1, "eval_every": 2}

    @dataclasses.dataclass
    class Reporting(tasks.TextTask):
        values = {"sample_tokens": 0, "steps": 3, "lr": 0.1}
        note: str = "nothing"  # what is reported

        def open(self, model, tokenizer, config):
            data = super().open(model, tokenizer, config)
            report = lambda model, out: (out / "report").write_text(f"{self.note} {model.lora is not None}")  # noqa: E731
            return dataclasses.replace(data, report=report)

    kind = tasks.Kind("A model.", "GPT", tasks.TextTask, {"tiny": preset}, {}, tasks={"reporting": Reporting})
    monkeypatch.setitem(tasks.KINDS, "gpt", kind)
    quiet = {"data": str(text), "sample_tokens": 0, "warmup": 0}
    trained, _ = tinyllm.train("gpt", out=tmp_path / "one", **quiet)
    model, _ = tinyllm.train("gpt", "reporting", init=tmp_path / "one", out=tmp_path / "two", lora_r=2, note="so", **quiet)
    assert (tmp_path / "two" / "report").read_text() == "so True"
    assert model.n_parameters < trained.n_parameters and not np.array_equal(model.flat.data, 0 * model.flat.data)
    resumed, _ = tinyllm.resume(tmp_path / "two", steps=4)
    assert resumed.lora is not None
    again, _ = tinyllm.train("gpt", "reporting", init=tmp_path / "two", steps=1, **quiet)
    assert again.lora is None and again.n_parameters == trained.n_parameters
    with pytest.raises(ValueError, match="LoRA adapts a trained model"):
        tinyllm.train("gpt", "reporting", lora_r=2, **quiet)
    with pytest.raises(ValueError, match="no task 'poetry'"):
        tinyllm.train("gpt", "poetry", **quiet)
    result = CliRunner().invoke(cli.cli, ["finetune", "gpt", "--task", "reporting", "--help"])
    assert result.exit_code == 0 and "What is reported. [nothing]" in result.output and "--lora-r" in result.output
    result = CliRunner().invoke(cli.cli, ["finetune", "gpt", "--help"])
    assert result.exit_code == 0 and "reporting" in result.output
    args = ["finetune", "gpt", "--task=reporting", "--init", str(tmp_path / "one"), "--data", str(text)]
    result = CliRunner().invoke(cli.cli, [*args, "--steps", "1", "--out", str(tmp_path / "three")])
    assert result.exit_code == 0 and "Let it write: tinyllm generate" in result.output


def test_going_on_from_a_trained_model(text: Path, tmp_path: Path) -> None:
    first, _ = tinyllm.train("gpt", data=text, out=tmp_path / "first", steps=2, **TINY)
    options = {"data": text, "sample_tokens": 0, "batch_size": 2, "accumulate": 1, "length": 4, "steps": 1, "lr": 1e-30}
    second, tokenizer = tinyllm.train("gpt", init=tmp_path / "first", dropout=0.0, weight_decay=0.0, **options)
    assert second.config.embd_pdrop == 0 and second.config.n_layer == 1 and tokenizer is not None
    np.testing.assert_array_equal(second.flat.data, first.flat.data)
    with pytest.raises(ValueError, match="n_layer|blocks.1"):
        tinyllm.train("gpt", init=tmp_path / "first", n_layer=2, **options)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:270", "char"])
def test_tokenizers(text: Path, tmp_path: Path, tokenizer: str) -> None:
    tinyllm.train("gpt", data=[text, text], out=tmp_path / "run", steps=1, **{**TINY, "tokenizer": tokenizer})
    _, made = tinyllm.load(tmp_path / "run")
    assert made.decode(made.encode(TEXT)) == TEXT
    tinyllm.train("gpt", data=text, steps=1, **{**TINY, "tokenizer": str(Run.open(tmp_path / "run").last())})


# The curve -------------------------------------------------------------------------------------------------------------


def test_smoothed() -> None:
    assert smoothed([]).size == 0
    np.testing.assert_allclose(smoothed([3.0 * i for i in range(400)]), [3.0 * i for i in range(400)], atol=1e-9)
    values = np.random.default_rng(0).standard_normal(400)
    assert smoothed(list(values))[200] == pytest.approx(values[196:205].mean())


def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [{"step": i, "loss": 1 / i} for i in range(1, 20)] + [{"step": 10, "val_loss": 0.2, "val_bleu": 3.0}]
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    plot_loss(tmp_path / "loss.png", metrics, "a title")
    plain = (tmp_path / "loss.png").read_bytes()
    plot_loss(tmp_path / "loss.png", [*metrics, {"step": 19, "val_loss": 0.1, "val_bleu": 30.0}], "a title")
    assert plain.startswith(b"\x89PNG") and (tmp_path / "loss.png").read_bytes() != plain
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "tinyllm-numpy\[plots\]"'):
        plot_loss(tmp_path / "loss.png", metrics)


def test_another_kind_of_model_needs_an_entry_alone(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
    preset = {**tiny, "max_position_embeddings": 8, "steps": 2, "batch_size": 2, "sample_tokens": 5}
    llama = tasks.Kind("Llama.", "Llama", tasks.TextTask, {"tiny": preset}, {})
    monkeypatch.setitem(tasks.KINDS, "llama", llama)
    model, tokenizer = tinyllm.train("llama", data=text, out=tmp_path / "run")
    assert isinstance(model, tinyllm.Llama) and model.config.vocab_size == tokenizer.vocab_size
    again, _ = tinyllm.resume(tmp_path / "run")
    np.testing.assert_array_equal(again.flat.data, model.flat.data)
    assert isinstance(Run.open(tmp_path / "run").metrics[-1]["sample"], str)


def test_going_on_from_a_hugging_face_directory(text: Path, tmp_path: Path) -> None:
    model, tokenizer = tinyllm.train("gpt", data=text, steps=1, **{**TINY, "tokenizer": "bytes", "bias": True})
    tinyllm.huggingface.save(tmp_path / "theirs", model, tokenizer)
    options = {"data": text, "sample_tokens": 0, "accumulate": 1, "length": 8, "steps": 1, "lr": 1e-30, "weight_decay": 0.0}
    again, tokenizer = tinyllm.train("gpt", init=tmp_path / "theirs", out=tmp_path / "run", **options)
    assert tokenizer.vocab_size == 257
    np.testing.assert_array_equal(again.flat.data, model.flat.data)
