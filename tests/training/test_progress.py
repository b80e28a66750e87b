"""What a training shows: a bar that fits, samples that are not cut, the model's whole size, and a curve in a notebook."""

from __future__ import annotations

import io
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_runs import TEXT, TINY, Fixed, small, uneven_batches

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.quantization import quantize
from tinyllm.training import notebook, progress
from tinyllm.training.config import TrainConfig
from tinyllm.training.data import Data
from tinyllm.training.plots import axis_name, plot_loss, smoothed
from tinyllm.training.trainer import Trainer


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_bar_keeps_the_time_left(width: int) -> None:
    """At every width, also with many steps and large numbers; what is less important is left out."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    terminal = progress.Terminal(console)
    batch = uneven_batches(2)[0]
    trainer = Trainer(small(), Data(Fixed([batch]), lambda: [batch]), TrainConfig(steps=600_000))
    terminal.begun(trainer)
    with terminal:
        for step in (1, 123_456):
            terminal.trained({"step": step, "loss": 10.98, "lr": 6e-4, "grad_norm": 123.45, "tokens_per_second": 1e6,
                              "seconds": 3e5})  # fmt: skip
        console.file.seek(0)  # type: ignore[attr-defined]
        terminal.bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    lines = [line.strip() for line in re.split(r"[\r\n]", shown) if "step 123,456" in line]
    assert lines and all(re.search(r"\d+:\d\d:\d\d left$", line) for line in lines), shown
    assert all(len(line) <= width and "…" not in line for line in lines)
    assert ("loss" in lines[-1]) == (width >= 60) and ("|g|" in lines[-1]) == (width >= 120)


def test_a_part_that_does_not_fit_is_left_out_whole() -> None:
    parts = ["loss 3.123", "1,000 tokens/s", "lr 1e-3"]
    assert [progress.fitted(parts, room) for room in (5, 10, 25, 26, 35)] == [
        "", "loss 3.123", "loss 3.123", "loss 3.123  1,000 tokens/s", "loss 3.123  1,000 tokens/s  lr 1e-3",
    ]  # fmt: skip


def test_a_dialogue_is_not_cut() -> None:
    dialogues = ["> Who?\nI am.\nStill.", "> Where?\nHere.", "> When?\nNow.\nThen.\nSoon."]
    assert progress.excerpt("\n".join(dialogues)) == "\n".join(dialogues[:2])
    long = "> Why?\n" + "Because.\n" * 20
    assert progress.excerpt(long + dialogues[0]) == long.strip()
    pairs = ["summarize: a\n  -> b   [c]", "summarize: d\n  -> e   [f]", "x\n  -> y   [z]", "1\n  -> 2   [3]"]
    assert progress.excerpt("\n".join(pairs)) == "\n".join(pairs[:3])
    assert progress.excerpt("one\n\ntwo\nthree\nfour") == "one\ntwo\nthree"
    assert progress.excerpt("text\n> quoted\nmore\nlast") == "text\n> quoted\nmore"


def test_the_size_of_a_model_is_that_of_all_its_parameters() -> None:
    model = small("float32")
    whole = model.n_parameters
    assert progress.size_of(model) == f"GPT with {whole:,} parameters"
    lora.add(model, lora.LoRAConfig(r=1))
    assert progress.size_of(model) == (
        f"GPT with {whole + model.n_parameters:,} parameters, of which {model.n_parameters:,} are trained"
    )
    sizes = {"vocab_size": 64, "n_positions": 8, "n_layer": 1, "n_head": 1, "n_embd": 64}
    model = tinyllm.GPT(tinyllm.GPTConfig(**sizes, tie_word_embeddings=False), seed=0)
    whole = model.n_parameters
    quantize(model, 4)
    assert progress.size_of(model).startswith(f"GPT with {whole:,} parameters")


def test_the_tokens_that_are_read() -> None:
    """Not the labels: a classifier has one for a text. Padding is not read, and an encoder-decoder reads both texts."""
    tokens, labels = np.ones((2, 5), int), np.zeros(2, int)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
    data = Data(Fixed([]), lambda: [])
    assert data.read((tokens, labels, mask)) == 7 and data.count((tokens, labels, mask)) == 2
    assert data.read((tokens, tokens)) == 10
    assert data.read((tokens, tokens, np.ones((2, 5, 5), bool))) == 10  # a mask for packed rows
    assert Data(Fixed([]), lambda: [], targets=2).read((tokens, tokens[:, :3], tokens[:, :3], mask)) == 13


def test_the_held_out_loss_of_the_same_kind_as_in_training() -> None:
    batches = uneven_batches(4)
    model = small()
    data = Data(Fixed(batches), lambda: batches, loss_options={"label_smoothing": 0.3})
    records: list[dict[str, Any]] = []
    trainer = Trainer(model, data, TrainConfig(steps=1, eval_every=1, lr=1e-30, weight_decay=0.0))
    trainer.train()
    records = [record for record in trainer.metrics if "val_loss" in record]
    large = tuple(np.concatenate(arrays) for arrays in zip(*batches))
    assert records[0]["val_objective"] == pytest.approx(model.loss(*large, label_smoothing=0.3), rel=1e-9)
    assert records[0]["val_loss"] == pytest.approx(model.loss(*large), rel=1e-9)
    assert Data(Fixed([]), lambda: [], loss_options={"class_weight": np.ones(2)}).trains_another_loss
    for options in ({}, {"label_smoothing": 0.0}):
        trainer = Trainer(small(), Data(Fixed(batches), lambda: batches, loss_options=options), TrainConfig(steps=1))
        trainer.train()
        assert not any("val_objective" in record for record in trainer.metrics)


# Pictures --------------------------------------------------------------------------------------------------------------


def test_the_smoothed_line_ends_straight() -> None:
    """At both ends it goes on as a straight line, and is no noisier than within."""
    noise = np.random.default_rng(0).standard_normal(1000)
    line = smoothed(list(5 - 0.001 * np.arange(1000) + noise))
    for end in (line[:11], line[-11:]):
        np.testing.assert_allclose(np.diff(end, 2), 0, atol=1e-9)
    exact = 5 - 0.001 * np.arange(1000)
    assert abs(line[-1] - exact[-1]) < 1.2  # one value alone is as far as 3
    slopes = [np.linalg.lstsq(np.c_[np.ones(21), np.arange(-10, 11)], noise[-21:], rcond=None)[0]]
    assert line[-1] == pytest.approx(exact[-1] + slopes[0][0] + 10 * slopes[0][1])


def metrics(**measures: float) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for step in range(1, 301):
        records.append({"step": step, "loss": 1 + 1 / step})
        if step % 100 == 0:
            records.append({"step": step, "val_loss": 1.2, **{f"val_{name}": value for name, value in measures.items()}})
    return records


def drawn(monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]], **options: Any) -> Any:
    """The figure of a picture."""
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    from matplotlib.figure import Figure

    figures: list[Any] = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **named: (figures.append(self), original(self, *args, **named))
    )
    plot_loss(io.BytesIO(), records, **options)
    return figures[0]


def test_axes_have_names_and_units(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, metrics(accuracy=0.5, f1=0.25), best="f1", unit="text")
    loss, measure = figure.axes
    assert loss.get_ylabel() == "loss (nats per text)" and measure.get_ylabel() == "F1 (0 to 1)\non held-out data"
    assert measure.get_xlabel().startswith("step") and measure.lines[0].get_ydata()[0] == 0.25
    assert axis_name("f1", [88.0]) == "F1 (0 to 100)" and axis_name("bleu", [0.1]) == "BLEU (0 to 100)"
    assert axis_name("rougeL", [0.3]) == "ROUGE-L (0 to 1)" and axis_name("next_sentence", [1]) == "next sentence"
    assert len(drawn(monkeypatch, metrics()).axes) == 1


@pytest.mark.parametrize("measures", [{}, {"accuracy": 0.5}, {"objective": 1.5, "bleu": 3.0}])
def test_the_legend_covers_nothing(monkeypatch: pytest.MonkeyPatch, measures: dict[str, float]) -> None:
    figure = drawn(monkeypatch, metrics(**measures))
    legend = figure.legends[0].get_window_extent()
    assert all(not legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert figure.bbox.x0 <= legend.x0 and legend.x1 <= figure.bbox.x1
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("held-out data, the same loss" in names) == ("objective" in measures)


# In a notebook ---------------------------------------------------------------------------------------------------------


def test_a_notebook_shows_a_bar_and_a_curve(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    shown: list[tuple[str, Any]] = []

    class Handle:
        def update(self, what: Any) -> None:
            shown.append(what)

    def display(what: Any, display_id: bool) -> Handle:
        assert display_id
        shown.append(what)
        return Handle()

    module: Any = types.ModuleType("IPython.display")
    module.HTML, module.Image, module.display = (lambda data: ("bar", data)), (lambda data: ("curve", data)), display
    ipython: Any = types.ModuleType("IPython")
    ipython.display = module
    for name, made in {"IPython": ipython, "IPython.display": module, "ipykernel": types.ModuleType("ipykernel")}.items():
        monkeypatch.setitem(sys.modules, name, made)
    assert notebook.in_notebook()
    monkeypatch.setattr(notebook, "SECONDS_BETWEEN_UPDATES", 0.0)
    tinyllm.train("gpt", data=text, out=tmp_path / "run", steps=4, eval_every=2, **TINY)
    kinds = [kind for kind, _ in shown]
    assert kinds == ["curve", "bar", "bar", "curve", "bar", "bar", "curve"]
    assert 'value="4" max="4"' in shown[-2][1] and "tokens/s" in shown[-2][1]
    assert shown[-1][1].startswith(b"\x89PNG") and TEXT
