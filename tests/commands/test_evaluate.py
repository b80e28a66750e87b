"""tinyllm evaluate: what it prints and writes, and the errors of wrong calls."""

import json

import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import kernels
from tinyllm.cli import cli
from tinyllm.models import BERTConfig, BERTForSequenceClassification
from tinyllm.tokenizers import WordPieceTokenizer
from tinyllm.training.trainer import Watcher

WORDS = ("prize", "cash", "lunch", "home", "mother", "free", "later")


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


def run(*arguments, fails=False):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture
def rows():
    return [(("ham", "spam")[i * i % 5 % 2], f"the {WORDS[i % 7]} and {WORDS[i // 7 % 7]} now {i}") for i in range(40)]


@pytest.fixture
def messages(rows, tmp_path):
    path = tmp_path / "messages.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return path


@pytest.fixture
def models(rows, tmp_path):
    tokenizer = WordPieceTokenizer.train([text for _, text in rows], 120)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, id2label={0: "ham", 1: "spam"}, next_sentence=False, hidden_size=16,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32,
        initializer_range=2.0, pad_token_id=tokenizer.pad_id,
    )  # fmt: skip
    for seed in (7, 1):
        tinyllm.save(tmp_path / f"model-{seed}", BERTForSequenceClassification(config, seed=seed), tokenizer)
    return tmp_path / "model-7", tmp_path / "model-1"


def test_the_table_and_the_predictions(models, messages, tmp_path):
    out = tmp_path / "new" / "predictions.jsonl"
    said = run("evaluate", models[0], "--data", messages, "--out", out)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 40 and all([*line] == ["input", "reference", "prediction", "score"] for line in lines)
    right = sum(line["reference"] == line["prediction"] for line in lines)
    assert "classification, 40 texts" in said and f"accuracy           {right / 40:.4f}" in said
    assert "f1:spam" in said and "calibration_error" in said and "Labels in rows" in said
    worst = said.partition("The 10 worst")[2].splitlines()[1:11]
    scores = sorted(line["score"] for line in lines)
    assert [float(line.split("\t")[0]) for line in worst] == [pytest.approx(s, abs=1e-4) for s in scores[:10]]


def test_json_is_one_object(models, messages):
    said = json.loads(run("evaluate", models[0], "--data", messages, "--json"))
    found = tinyllm.evaluate(models[0], messages)
    assert said["n"] == 40 and said["task"] == "classification"
    for part, expected in ((said["measures"], found.measures), (said["baseline"], found.baseline)):
        assert {name: (one["value"], one["low"], one["high"]) for name, one in part.items()} == {
            name: (one.value, one.low, one.high) for name, one in expected.items()
        }
    assert {"loss", "accuracy", "f1", "macro_f1", "calibration_error"} <= {*said["measures"]}
    assert all(one["low"] <= one["value"] <= one["high"] for one in said["measures"].values() if one["value"])


def test_compare_says_whether_a_difference_is_real(models, messages):
    said = json.loads(run("evaluate", models[0], "--data", messages, "--json", "--compare", models[1]))
    difference = said["difference"]["accuracy"]
    assert difference["value"] == pytest.approx(
        said["measures"]["accuracy"]["value"] - said["other"]["measures"]["accuracy"]["value"]
    )
    assert difference["real"] == (not difference["low"] <= 0 <= difference["high"])
    same = run("evaluate", models[0], "--data", messages, "--compare", models[0])
    assert "by a paired bootstrap" in same and "may be chance" in same and " real" not in same


@pytest.mark.parametrize("options,what", [
    ([], "data is missing"), (["--data", "nowhere.tsv"], "nowhere.tsv does not exist"),
    (["--batch-size", "0", "--data", "x"], "--batch-size is 0, and must be 1 or more"),
    (["--task", "tagging", "--data", "{messages}"], "can be evaluated for classification"),
    (["--text-column", "body", "--data", "{messages}"], "no column 'body'"),
])  # fmt: skip
def test_what_is_wrong_is_said(options, what, models, messages):
    options = [option.format(messages=messages) for option in options]
    assert what in run("evaluate", models[0], *options, fails=True)


def test_labelled_lines_are_for_evaluate(models, rows, tmp_path):
    """A tab makes a pair only where no part of the lines is a column of labels."""
    for name, lines in {
        "first": [f"{label}\t{text}" for label, text in rows],
        "last": [f"{text}\t{label}" for label, text in rows],
        "numbers": [f"{('ham', 'spam').index(label)}\t{text}" for label, text in rows],
        "blank": ["", *(f"{label}\t{text}" for label, text in rows), ""],
    }.items():
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        said = run("classify", models[0], "--file", path, fails=True)
        assert "label, a tab and a text" in said or "text, a tab and a label" in said
        assert f"tinyllm evaluate {models[0]} --data {path}" in said
        assert json.loads(run("evaluate", models[0], "--data", path, "--json"))["n"] == 40  # as proposed
        assert run("classify", models[0], "--file", path, "--pairs", "no").count("\n") == len(lines)
        assert run("classify", models[0], "--file", path, "--pairs", "yes").count("\n") == len(lines)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"{text}\tand {text}\n" for _, text in rows), encoding="utf-8")
    assert run("classify", models[0], "--file", pairs).count("\t") == 3 * len(rows)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_tab_makes_a_pair_for_a_run_that_learned_pairs(pairs, rows, tmp_path):
    table = tmp_path / "learned.csv"
    lines = [f"{label},{text},and {text}\n" for label, text in rows]
    table.write_text("label,text,second\n" + "".join(lines), encoding="utf-8")
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8, "intermediate_size": 8}
    second = {"second_column": "second"} if pairs else {}
    tinyllm.finetune(
        "bert", "classification", data=table, out=tmp_path / "run", steps=1, tokenizer="wordpiece:60", text_column="text",
        max_position_embeddings=64, watcher=Watcher(), **sizes, **second,
    )  # fmt: skip
    read = tmp_path / "read.txt"
    read.write_text("".join(f"{text}\tand {text}\n" for _, text in rows), encoding="utf-8")
    said = run("classify", tmp_path / "run", "--file", read).splitlines()
    assert {line.count("\t") for line in said} == {2 + pairs}
    found = tinyllm.evaluate(tmp_path / "run", table, text_column="text")
    assert found.predictions[0].input == ([rows[0][1], f"and {rows[0][1]}"] if pairs else rows[0][1])
    assert found.measures == tinyllm.evaluate(tinyllm.load(tmp_path / "run"), table, text_column="text", **second).measures


def test_train_without_steps_names_the_command(tmp_path):
    said = run("train", "gpt", "--steps", "0", "--out", tmp_path / "run", fails=True)
    assert "--steps must be at least 1, and is 0" in said and "tinyllm evaluate MODEL --data FILE" in said
    assert not (tmp_path / "run").exists()
