"""The test part: every task has it, it is measured once, with the best model, and nothing else reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import cli, kernels, metrics
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.data import DataError
from tinyllm.tasks import KINDS
from tinyllm.training.data import Data
from tinyllm.training.final import TEST
from tinyllm.training.run import Run
from tinyllm.training.trainer import Interrupted, Watcher

BERT = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 8, "batch_size": 4}
BERT |= {"max_position_embeddings": 48, "tokenizer": "wordpiece:200"}
GPT = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 48, "batch_size": 4, "tokenizer": "bpe:300"}
T5 = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8, "num_layers": 1, "batch_size": 4, "tokenizer": "unigram:200"}
PAIRS = {"eval_texts": 3, "beams": 2}
RUN = {"steps": 2, "eval_every": 1, "warmup": 0}

WORDS = ("red", "green", "blue", "white", "black", "brown", "grey", "pink", "gold", "cyan")
SENTENCES = [f"The {a} cat met the {b} dog in the {a} house." for a in WORDS for b in WORDS]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def data_for(task, folder):
    """A file to learn from and another to test on; they share a row."""
    few = SENTENCES[::2]
    rows = {
        None: None,
        "classification": [{"text": s, "label": "ny"[i % 2]} for i, s in enumerate(few)],
        "tagging": [{"tokens": s.split(), "tags": [["O", "B-A"][w in WORDS] for w in s.split()]} for s in few],
        "qa": [
            {"id": f"{i}", "question": "Which cat?", "context": s, "answers": {"text": [s.split()[1]], "answer_start": [4]}}
            for i, s in enumerate(few)
        ],
        "chat": [{"question": s, "answer": s.split()[1]} for s in few],
        "completion": [{"source": s, "target": s.split()[1]} for s in few],
    }
    rows |= dict.fromkeys(("translation", "summarization", "text2text"), rows["completion"])
    if task is None:
        paths = [folder / "text.txt", folder / "test.txt"]
        for path, several in zip(paths, (SENTENCES * 4, SENTENCES[::3])):
            path.write_text("\n".join(several) + "\n", encoding="utf-8")
        return paths
    return written(folder / "data.jsonl", rows[task][:-6]), written(folder / "test.jsonl", rows[task][-7:])


OPTIONS = {
    ("gpt", None): {**GPT, "sample_tokens": 0},
    ("bert", None): BERT,
    ("t5", None): {**T5, "length": 24, "noise": 0.2},
    ("bert", "classification"): BERT,
    ("bert", "tagging"): BERT,
    ("bert", "qa"): {**BERT, "length": 40},
    ("gpt", "classification"): GPT,
    ("gpt", "chat"): {**GPT, "max_reply": 3, "eval_texts": 2},
    ("gpt", "completion"): {**GPT, "max_source": 24, "max_target": 6, **PAIRS},
    ("t5", "translation"): {**T5, "max_target": 6, **PAIRS},
    ("t5", "summarization"): {**T5, "max_target": 6, **PAIRS},
    ("t5", "text2text"): {**T5, "max_target": 6, **PAIRS},
}


@pytest.fixture(autouse=True)
def in_numpy(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    with kernels.use("reference"):
        yield


class Says(Watcher):
    def __init__(self):
        self.said, self.results = [], []

    def say(self, text):
        self.said.append(text)

    def tested(self, result):
        self.results.append(result)


def test_no_task_is_left_out():
    assert {task for _, task in OPTIONS} == {None}.union(*(kind.tasks for kind in KINDS.values()))


@pytest.mark.parametrize("source", ["file", "fraction"])
@pytest.mark.parametrize(("kind", "task"), OPTIONS)
def test_every_task_has_it(kind, task, source, tmp_path):
    data, test = data_for(task, tmp_path)
    watcher = Says()
    options = {**OPTIONS[kind, task], **RUN, "data": data, "watcher": watcher}
    options |= {"test_data": test} if source == "file" else {"test_fraction": 0.2}
    trained = tinyllm.train(kind, task, out=tmp_path / "run", **options)
    kept = json.loads((tmp_path / "run" / TEST).read_text(encoding="utf-8"))
    assert {name: measure["value"] for name, measure in kept["measures"].items()} == trained.test
    assert trained.test.keys() == trained.metrics.keys() - {"objective"} and kept["step"] == trained.best_step
    assert [str(result) for result in watcher.results] == [str(watcher.results[0])]
    if task is not None:
        shared = "Left out of the data to learn from, because the test data have the same: 1 of 44."
        assert any(shared in text for text in watcher.said) == (source == "file")
        examples = {"tagging": 7 * len(SENTENCES[0].split()), "chat": 7}.get(task, 7) if source == "file" else None
        assert examples in (None, kept["n"]) and kept["unit"] in ("text", "word", "question", "dialogue")


ROWS = [{"text": s, "label": "ny"["red" in s]} for s in SENTENCES]


def test_it_is_measured_with_the_best_model(tmp_path, monkeypatch):
    """With a learning rate that spoils the model later on, in a run and in memory, and with an average of weights."""
    asked = []
    monkeypatch.setattr(Data, "on_test", lambda self, real=Data.on_test: asked.append(self) or real(self))
    options = {**BERT, "data": ROWS, "test_fraction": 0.3, "val_fraction": 0.2, "steps": 8, "eval_every": 1, "lr": 0.3}
    options |= {"watcher": Watcher(), "warmup": 0, "patience": 0, "schedule": "constant", "clip": 0.0, "epochs": 0.0}
    for average in ("none", "last:2"):
        out = tmp_path / average.replace(":", "-")
        trained = tinyllm.train("bert", "classification", out=out, average=average, **options)
        in_memory = tinyllm.train("bert", "classification", average=average, **options)
        assert len(asked) == 2 and trained.best_step < 8
        assert trained.test == in_memory.test
        model, tokenizer = tinyllm.load(out)
        task = KINDS["bert"].tasks["classification"](**Run.open(out).config["task"])
        test = task.divided.test
        said = tinyllm.classify(model, tokenizer, test.texts).argmax(1)
        assert trained.test["accuracy"] == metrics.accuracy(said, test.labels)
        again = tinyllm.resume(out, watcher=Watcher())
        assert again.test == trained.test and len(asked) == 2  # it is not read again
        np.testing.assert_array_equal(again.model.flat.data, trained.model.flat.data)
        asked.clear()


def test_a_run_that_goes_on_says_that_the_test_was_seen(tmp_path):
    options = {**GPT, **RUN, "tokenizer": "char", "sample_tokens": 0, "lr": 1e-2, "test_fraction": 0.2}
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    tinyllm.train("gpt", data=tmp_path / "text.txt", out=tmp_path / "run", watcher=Watcher(), **options)
    trained = tinyllm.resume(tmp_path / "run", steps=6, watcher=(watcher := Says()))
    assert trained.best_step > 2 and any("was measured before, with the model of step" in text for text in watcher.said)
    assert json.loads((tmp_path / "run" / TEST).read_text(encoding="utf-8"))["step"] == trained.best_step


def test_interrupted_in_the_test_and_damaged_results(tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    options = {**BERT, **RUN, "data": ROWS, "test_fraction": 0.2, "watcher": Watcher(), "out": tmp_path / "run"}
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Data, "on_test", interrupted)
        tinyllm.train("bert", "classification", **options)
    assert not (tmp_path / "run" / TEST).exists()
    trained = tinyllm.resume(tmp_path / "run", watcher=Watcher())
    assert 0 <= trained.test["accuracy"] <= 1
    path = tmp_path / "run" / TEST
    whole = json.loads(path.read_text(encoding="utf-8"))
    for wrong in ({"n": -1}, {"step": "x"}, {"measures": {"loss": {}}}, {"measures": {"loss": {"value": "x"}}}):
        path.write_text(json.dumps({**whole, **wrong}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=TEST):
            tinyllm.resume(tmp_path / "run", watcher=Watcher())


def test_parts_of_several_data_share_no_text(tmp_path):
    """Two languages of the same sentences, and copies of their parts: a source is in one part of all."""
    rows = [{"en": s, "de": s.upper(), "fr": s.lower()} for s in SENTENCES]
    one, other = written(tmp_path / "one.jsonl", rows), written(tmp_path / "other.jsonl", rows[::-1] + rows[:5])
    task = KINDS["t5"].tasks["text2text"](
        data=[str(one), str(other)], source=["en"], target=["de", "fr"], prefix=["a: ", "b: "], test_fraction=0.2
    )
    parts = [
        {key for pairs in part.data for key in pairs.keys()}
        for part in (task.divided.learned, task.divided.validation, task.divided.test)
    ]
    assert [len(part) for part in parts] == [70, 10, 20] and len(set.union(*parts)) == 100


def test_without_it_nothing_is_tested(tmp_path):
    trained = tinyllm.train("bert", "classification", data=ROWS, out=tmp_path / "run", watcher=Says(), **BERT, **RUN)
    assert trained.test is None and not (tmp_path / "run" / TEST).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fraction": 1.0}, "test_fraction is 1.0, and must be at least 0 and below 1"),
        ({"test_fraction": 0.6, "val_fraction": 0.4}, "their sum must be below 1"),
        ({"test_fraction": 0.1, "test_data": ROWS}, "test_data and test_fraction are both given"),
        ({"test_data": ROWS}, "all of the data to learn from are also in the test data"),
        ({"test_data": "missing.csv"}, "missing.csv does not exist"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises((ValueError, DataError), match=message):
        tinyllm.train("bert", "classification", data=ROWS, watcher=Watcher(), **BERT, **RUN, **options)


def test_on_the_command_line(tmp_path):
    data, test = data_for("classification", tmp_path)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**BERT, **RUN}.items()]
    arguments = ["finetune", "bert", "--task", "classification", "--data", data, "--test-data", test, *flags]
    result = CliRunner().invoke(cli.cli, [*map(str, arguments), "--out", str(tmp_path / "run"), "--average", "ema:0.9"])
    assert result.exit_code == 0, result.output
    assert "test part, 7 texts, the model of step" in result.output
    result = CliRunner().invoke(cli.cli, [*map(str, arguments), "--out", str(tmp_path / "no"), "--average", "mean"])
    assert result.exit_code and "average" in result.output and "give ema:DECAY" in " ".join(result.output.split())


@pytest.mark.parametrize(("kind", "tokenizer"), [("gpt", "bpe:300"), ("bert", "wordpiece:120"), ("t5", "unigram:160")])
def test_tokenizers_do_not_learn_from_the_test_part(kind, tokenizer, tmp_path):
    whole = " ".join(SENTENCES) + "zyxwvu tsrqpo " * 300
    beginning = whole[: int(0.7 * len(whole))]
    assert beginning.endswith(tuple("zyxwvu tsrqpo"))

    def made(text, **options):
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        return KINDS[kind].task(data=[str(tmp_path / "text.txt")], tokenizer=tokenizer, **options).make_tokenizer()

    with_test, of_beginning = made(whole, test_fraction=0.3), made(beginning)
    assert with_test.encode(whole) == of_beginning.encode(whole)
    assert len(with_test.encode(SENTENCES[0])) <= len(made(whole).encode(SENTENCES[0]))
