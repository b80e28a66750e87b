"""T5's tasks from the data to the command: pretraining on spans, translation, summaries, several tasks; resumed exactly."""

from __future__ import annotations

import itertools
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import metrics
from tinyllm.cli import cli
from tinyllm.data import DataError, made
from tinyllm.pipelines.text2text import Use, answers, use_of
from tinyllm.tasks.pairs import Summarization, TextToText, Translation
from tinyllm.training.trainer import Interrupted, Watcher

SMALL = {"d_model": 16, "d_kv": 4, "num_heads": 2, "d_ff": 16, "num_layers": 1, "dropout_rate": 0.1, "batch_size": 4}
SMALL |= {"preset": "quick", "tokenizer": "unigram:300", "steps": 4, "eval_every": 2, "warmup": 1}
PAIRS = SMALL | {"eval_texts": 3, "max_target": 12}


class Quiet(Watcher):
    """Keeps the evaluations, and interrupts a training after so many steps."""

    def __init__(self, stop_after=None):
        self.stop_after, self.evaluations = stop_after, []

    def trained(self, record):
        if record["step"] == self.stop_after:
            raise Interrupted

    def evaluated(self, record):
        self.evaluations.append(record)


@pytest.fixture(autouse=True)
def plain_kernels(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    with tinyllm.kernels.use("reference"):
        yield


@pytest.fixture
def pairs(tmp_path):
    """A table in which each target is its source in capitals."""
    words = ["dog", "cat", "bird", "house", "tree", "runs", "sees", "likes"]
    lines = [f"the {a} {b} {c}" for a in words for b in words for c in words]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{line}\t{line.upper()}\n" for line in lines[::2]), encoding="utf-8")
    return path


# Training --------------------------------------------------------------------------------------------------------------


def test_spans(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{a} times {b} is {a * b}.\n" for a in range(20) for b in range(20)), encoding="utf-8")
    watcher = Quiet()
    model, tokenizer = tinyllm.train("t5", data=[str(text)], length=20, watcher=watcher, **SMALL)
    assert isinstance(model, tinyllm.T5) and model.config.vocab_size == tokenizer.vocab_size
    assert model.config.decoder_start_token_id == tokenizer.pad_id != tokenizer.eos_id == model.config.eos_token_id
    first, *_, last = watcher.evaluations
    assert last["val_loss"] < first["val_loss"]
    assert " | " in last["sample"] and "times" in last["sample"]  # a gap: what was written, and what was taken out


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(tmp_path, pairs, optimizer):
    options = {**PAIRS, "data": [str(pairs)], "optimizer": optimizer, "label_smoothing": 0.1, "eval_every": 1}
    whole, _ = tinyllm.train("t5", "translation", watcher=Quiet(), **options)
    with pytest.raises(Interrupted):
        tinyllm.train("t5", "translation", out=tmp_path / "run", watcher=Quiet(stop_after=3), **options)
    again, _ = tinyllm.resume(tmp_path / "run", watcher=Quiet())
    np.testing.assert_array_equal(again.flat.data, whole.flat.data)


def test_a_trained_model_goes_on_with_a_task(tmp_path, pairs):
    text = tmp_path / "text.txt"
    text.write_text(pairs.read_text(encoding="utf-8").replace("\t", "\n"), encoding="utf-8")
    tinyllm.train("t5", data=[str(text)], length=16, out=tmp_path / "spans", watcher=Quiet(), **SMALL)
    before, _ = tinyllm.load(tmp_path / "spans")
    given = {"data": [str(pairs)], "steps": 1, "eval_texts": 3, "lr": 1e-9, "warmup": 0, "batch_size": 2}
    after, tokenizer = tinyllm.train("t5", "summarization", init=tmp_path / "spans", watcher=Quiet(), **given)
    np.testing.assert_allclose(after.flat.data, before.flat.data, atol=1e-7)
    assert use_of(after, "summar").prefix == "summarize: " and tokenizer.token_to_id("<extra_id_99>") is not None


def test_it_learns_and_is_measured_by_what_it_writes(tmp_path, pairs):
    """Enough steps to write something: the measures are those of the texts in held_out.tsv."""
    watcher = Quiet()
    options = {**PAIRS, "steps": 30, "eval_every": 30, "lr": 1e-2, "eval_texts": 20, "beams": 1, "dropout_rate": 0.0}
    tinyllm.train("t5", "translation", data=[str(pairs)], out=tmp_path / "run", watcher=watcher, **options)
    first, last = watcher.evaluations
    assert last["val_loss"] < first["val_loss"]
    header, *rows = (tmp_path / "run" / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    assert header == "source\twritten\ttarget" and len(rows) == 20
    sources, written, targets = zip(*(row.split("\t") for row in rows))
    assert [source.upper() for source in sources] == list(targets)
    best = max(watcher.evaluations, key=lambda record: record["val_bleu"])
    assert metrics.chrf(written, targets) == pytest.approx(best["val_chrf"])
    assert "translate: the " in last["sample"]


def test_several_tasks_in_one_model(pairs):
    watcher = Quiet()
    options = {**PAIRS, "data": ["dates", str(pairs)], "prefix": ["", "shout: "], "source": ["en", ""], "target": ["de", ""]}
    model, _ = tinyllm.train("t5", "text2text", cap=50, watcher=watcher, **options)
    assert {"val_exact", "val_chrf", "val_chrf_1", "val_chrf_2"} < set(watcher.evaluations[-1])
    params = model.config.task_specific_params
    assert {name: use["prefix"] for name, use in params.items()} == {
        "translation_en_to_de": "translate English to German: ",
        "shout": "shout: ",
    }
    assert use_of(model, "transl").max_length == 12


def test_what_the_options_mean(tmp_path, monkeypatch):
    assert Translation(data=["dates"], target=["fr"]).prefix_of(0) == "translate English to French: "
    assert Translation(data=["dates"], source=["de"], target=["fr"]).name_of(0) == "translation_de_to_fr"
    assert Translation(data=["pairs.tsv"]).prefix_of(0) == "translate: "
    assert Summarization().use_for(0) == Use("summarize: ", 256, 64, 4, 1.0, 3)
    mixed = TextToText()
    assert [mixed.name_of(i) for i in range(3)] == ["translation_en_to_de", "translation_en_to_fr", "summarization"]
    with pytest.raises(DataError, match="prefix of its own"):
        TextToText(data=["a.tsv", "b.tsv"])
    with pytest.raises(DataError, match="prefix is given 3 times for 2 data"):
        TextToText(data=["a.tsv", "b.tsv"], prefix=["a", "b", "c"])
    with pytest.raises(DataError, match="val is given 1 times for 2 data"):
        TextToText(data=["a.tsv", "b.tsv"], prefix=["a", "b"], val=["c.tsv"])
    monkeypatch.chdir(tmp_path)
    for side in ("en", "de"):
        (tmp_path / f"train.{side}").write_text("x\n", encoding="utf-8")
    assert Translation(data=["train"], source=["en"], target=["de"]).data == [str(tmp_path / "train")]
    assert Translation(data="train", source="en", target="de").name_of(0) == "translation_en_to_de"
    assert Translation(data=["train.en"]).data == [str(tmp_path / "train.en")] and Translation().data == ["dates"]
    with pytest.raises(DataError, match="max_target must be at least 2, and is 1"):
        Translation(max_target=1)


# Using it --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of two tasks, saved; it writes nonsense that differs by text and by prefix."""
    with tinyllm.kernels.use("reference"):
        path = tmp_path_factory.mktemp("runs") / "two"
        options = {**PAIRS, "source": ["en"], "target": ["de", "fr"], "data": ["dates", "dates"], "steps": 6, "lr": 1e-2}
        tinyllm.train("t5", "text2text", out=path, watcher=Quiet(), **options)
    return path


def called(*arguments, input=None, fails=False):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
    assert (result.exit_code != 0) == fails, result.output
    return result


def test_answers_are_those_of_each_text_alone(run):
    model, tokenizer = tinyllm.load(run, dtype="float64")
    texts = ["March 8, 2070", "Friday, November 18, 1983", "May 1, 1999", ""]
    for use in (Use("translate English to German: ", 20, 6), Use("", 20, 6, num_beams=3, no_repeat_ngram_size=2)):
        together = answers(model, tokenizer, texts, use, batch_size=3)
        assert together == [answers(model, tokenizer, [text], use)[0] for text in texts]
        ids = [tokenizer.encode(use.prefix + texts[1])[:19] + [tokenizer.eos_id]]
        expected = tinyllm.generate(
            model, ids, 6, num_beams=use.num_beams, no_repeat_ngram_size=use.no_repeat_ngram_size
        )  # fmt: skip
        assert together[1] == tokenizer.decode(expected[0], skip_special_tokens=True).strip()
    assert answers(model, tokenizer, []) == []


def test_translate(run, tmp_path):
    model, tokenizer = tinyllm.load(run)
    texts = ["March 8, 2070", "Friday, November 18, 1983"]
    german = use_of(model, "transl", "translation_en_to_de")
    expected = answers(model, tokenizer, texts, german)
    task = ("--task", "translation_en_to_de")
    assert called("translate", run, *texts, *task).stdout.splitlines() == expected
    assert called("translate", run, *task, input="\n".join(texts) + "\n").stdout.splitlines() == expected
    (tmp_path / "dates.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "right.txt").write_text("\n".join(expected) + "\n", encoding="utf-8")
    done = called("translate", run, "--file", tmp_path / "dates.txt", "--references", tmp_path / "right.txt", *task)
    assert done.stdout.splitlines() == expected and "bleu" in done.stderr and "chrf 100" in done.stderr
    greedy = called("translate", run, *texts, *task, "--num-beams", 1, "--max-length", 3).stdout.splitlines()
    assert greedy == answers(model, tokenizer, texts, Use(german.prefix, german.max_source_length, 3))


def test_summarize_takes_a_file_as_one_text(run, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("March 8, 2070\nMay 1, 1999\n", encoding="utf-8")
    assert len(called("summarize", run, "--file", path).stdout.splitlines()) == 1
    assert len(called("summarize", run, "--file", path, "--lines").stdout.splitlines()) == 2


def test_mistakes_are_one_line(run, tmp_path):
    assert (
        "choose one with --task, of translation_en_to_de, translation_en_to_fr"
        in called("translate", run, "x", fails=True).stderr
    )
    assert "knows no task 'nl'" in called("translate", run, "x", "--task", "nl", fails=True).stderr
    tinyllm.save(tmp_path / "bert", tinyllm.BERT.tiny())
    assert "BERT writes no texts" in called("translate", tmp_path / "bert", "x", fails=True).stderr
    both = called("translate", run, "x", "--file", "y", "--task", "translation_en_to_de", fails=True)
    assert "not both" in both.stderr


def test_a_hugging_face_model_brings_its_own_prefix(tmp_path):
    model = tinyllm.T5.tiny(vocab_size=300)
    tinyllm.huggingface.save(tmp_path / "t5", model, None)
    config = json.loads((tmp_path / "t5" / "config.json").read_text(encoding="utf-8"))
    config["task_specific_params"] = {
        "summarization": {"prefix": "summarize: ", "max_length": 200, "num_beams": 4, "length_penalty": 2.0}
    }
    (tmp_path / "t5" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded, _ = tinyllm.load(tmp_path / "t5")
    assert use_of(loaded, "summar") == Use("summarize: ", 512, 200, 4, 2.0)
    assert use_of(loaded, "transl") == Use()
    tinyllm.huggingface.save(tmp_path / "again", loaded, None)
    again, _ = tinyllm.load(tmp_path / "again")
    assert again.config == loaded.config


# The commands ----------------------------------------------------------------------------------------------------------


def test_the_commands_show_their_options():
    for arguments in (
        ("train", "t5"),
        ("finetune", "t5", "--task", "translation"),
        ("finetune", "t5", "--task", "text2text"),
    ):
        text = called(*arguments, "--help").output
        assert "--optimizer" in text and "--d-model" in text and "task-specific" not in text
        assert ("--label-smoothing" in text) == (arguments[0] == "finetune")
    assert "translation" in called("finetune", "t5", "--help").output


def test_finetune_from_the_command_line(pairs, tmp_path):
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in PAIRS.items()]
    done = called("finetune", "t5", "--task", "translation", "--data", pairs, "--out", tmp_path / "run", *sizes)
    assert f"tinyllm translate {tmp_path / 'run'}" in done.output.replace("\n", "")
    assert called("translate", tmp_path / "run", "the dog runs").exit_code == 0


EXAMPLES = ["translate.py", "summarize.py", "several_tasks.py"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path, monkeypatch, capsys):
    few = list(itertools.islice(made.stdlib_functions(), 1500))  # a vocabulary of fewer words is learned faster
    monkeypatch.setattr(made, "stdlib_functions", lambda: few)
    path = Path(__file__).resolve().parents[2] / "examples" / name
    tiny = ["--steps", "2", "--d-model", "16", "--eval-texts", "2", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [str(path), *tiny])
    runpy.run_path(str(path), run_name="__main__")
    assert "->" in capsys.readouterr().out
