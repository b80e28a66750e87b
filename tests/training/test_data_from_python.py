"""train and finetune take a DataFrame, a list of dicts or a Dataset, and return how it went beside the model."""

import dataclasses
import datetime
import shutil

import numpy as np
import pytest

import tinyllm
from tinyllm.data import DataError
from tinyllm.data.in_memory import rows_of
from tinyllm.training.run import Run
from tinyllm.training.trainer import Watcher

BERT = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 8, "batch_size": 4}
BERT |= {"max_position_embeddings": 32, "tokenizer": "wordpiece:120", "steps": 2, "eval_every": 1, "watcher": Watcher()}
GPT = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 16, "batch_size": 2, "steps": 1, "watcher": Watcher()}
ROWS = [{"text": f"{'good' if i % 2 else 'bad'} film {i}", "label": "ny"[i % 2], "id": i} for i in range(24)]


@dataclasses.dataclass
class Label:
    """What a Hugging Face Dataset keeps of a column of labels."""

    names: list


@dataclasses.dataclass
class Inside:
    feature: Label


class Dataset:
    """What is used of a Hugging Face Dataset: its rows and its features."""

    def __init__(self, rows, features=None):
        self.rows, self.features = rows, features or {}

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)


def frame(rows):
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'tinyllm-numpy[peers]'")
    return pandas.DataFrame(rows)


FORMS = {"frame": frame, "list": list, "dataset": Dataset}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_as_a_file_does(form, tmp_path):
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in ROWS), encoding="utf-8"
    )
    from_file, _ = tinyllm.train("bert", "classification", data=tmp_path / "rows.csv", **BERT)
    trained = tinyllm.finetune("bert", "classification", data=FORMS[form](ROWS), **BERT)
    model, tokenizer = trained
    np.testing.assert_array_equal(model.flat.data, from_file.flat.data)
    assert (trained.model, trained.tokenizer) == (trained[0], trained[1]) == (model, tokenizer) and len(trained) == 2
    assert trained.path is None and {"loss", "accuracy", "f1"} <= trained.metrics.keys()
    evaluated = {record["step"]: record for record in trained.history if "val_loss" in record}
    assert sorted(evaluated) == [0, 1, 2] and [record["step"] for record in trained.history if "lr" in record] == [1, 2]
    assert trained.metrics["accuracy"] == evaluated[trained.best_step]["val_accuracy"]
    assert trained.metrics["accuracy"] == max(record["val_accuracy"] for record in evaluated.values())


def test_a_run_keeps_its_table_and_can_be_resumed(tmp_path):
    out = tmp_path / "run"
    trained = tinyllm.train("bert", "classification", data=ROWS, val_data=ROWS[:6], out=out, **BERT)
    assert trained.path == out and trained.history == Run.open(out).metrics
    assert sorted(path.name for path in (out / "data").iterdir()) == ["data.jsonl", "val_data.jsonl"]
    longer = tinyllm.resume(out, steps=3, watcher=Watcher())
    whole = tinyllm.train(
        "bert", "classification", data=ROWS, val_data=ROWS[:6], **{**BERT, "steps": 3, "schedule": "linear"}
    )
    assert longer.history[-1]["step"] == 3 and longer.path == out and set(longer.metrics) == set(whole.metrics)
    shutil.rmtree(out / "data")
    with pytest.raises(DataError, match="does not exist"):
        tinyllm.resume(out, steps=4, watcher=Watcher())


def test_tasks_of_every_kind(tmp_path):
    words = [{"tokens": ["Meet", f"Anna{i}"], "ner_tags": [0, 1]} for i in range(12)]
    names = {"ner_tags": Inside(Label(["O", "B-PER"]))}
    trained = tinyllm.finetune("bert", "tagging", data=Dataset(words, names), **BERT)
    assert list(trained.model.config.id2label.values()) == ["O", "B-PER"]
    asked = [
        {"id": i, "question": "Who?", "context": f"Anna {i} is here", "answers": {"text": ["Anna"], "answer_start": [0]}}
        for i in range(12)
    ]
    assert tinyllm.finetune("bert", "qa", data=asked, **BERT).metrics["f1"] >= 0
    talk = [
        {"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": "Yes"}]} for i in range(24)
    ]
    options = {**GPT, "tokenizer": "bytes", "n_positions": 64}
    assert tinyllm.finetune("gpt", "chat", data=talk, val_data=talk[:3], **options).metrics["perplexity"] > 0
    trained = tinyllm.train("gpt", data=[ROWS, ROWS], tokenizer="char", sample_tokens=2, **GPT)  # texts are documents
    assert set(trained.tokenizer.characters) == set("".join(row["text"] for row in ROWS))


def test_a_text_without_line_ends(tmp_path):
    (tmp_path / "dna.txt").write_text("ACGT" * 200, encoding="utf-8")
    trained = tinyllm.train("gpt", data=tmp_path / "dna.txt", tokenizer="char", sample_tokens=5, **GPT)
    samples = [record["sample"] for record in trained.history if "sample" in record]
    lines = [line for sample in samples for line in sample.split("\n")[1::3]]  # under a heading each
    assert lines and all(len(line) == 15 and set(line) <= set("ACGT") for line in lines)
    assert tinyllm.complete(trained.model, trained.tokenizer, [""], max_new_tokens=2)[0]
    with pytest.raises(ValueError, match="not among the 4 characters"):
        tinyllm.train("gpt", data=tmp_path / "dna.txt", tokenizer="char", sample_prompt="x", **GPT)


def test_a_folder_says_what_it_reads(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello world\n" * 20, encoding="utf-8")
    (tmp_path / "texts" / "b.png").write_bytes(b"\x89PNG\0")
    said = []

    class Listener(Watcher):
        def say(self, text):
            said.append(text)

    tinyllm.train("gpt", data=tmp_path / "texts", tokenizer="char", sample_tokens=0, **{**GPT, "watcher": Listener()})
    (note,) = [text for text in said if "passed over" in text]
    assert "1 file, 1 passed over" in note and "read: a.txt" in note and "b.png (is not UTF-8 text (byte 0x89" in note


# Values ----------------------------------------------------------------------------------------------------------------


def test_values_become_those_of_json():
    day = datetime.date(2020, 2, 3)
    values = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": np.array([1, 2]),
        "d": np.bool_(True),
        "e": float("nan"),
        "f": None,
    }
    values |= {"g": day, "h": ("x", np.str_("y")), "i": {"j": np.arange(2)}}
    (row,) = rows_of([values], "data")
    expected = {"a": 3, "b": 0.5, "c": [1, 2], "d": True, "g": "2020-02-03", "h": ["x", "y"], "i": {"j": [0, 1]}}
    assert row == expected
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'tinyllm-numpy[peers]'")
    table = pandas.DataFrame({"text": ["a", None, pandas.NA], "when": [pandas.NaT, pandas.Timestamp(day), pandas.NaT]})
    assert rows_of(table, "data") == [{"text": "a"}, {"when": "2020-02-03T00:00:00"}, {}]
    assert rows_of(pandas.DataFrame({"x": pandas.Categorical(["b", "a"])}), "data") == [{"x": "b"}, {"x": "a"}]


def test_a_run_names_its_rows_by_their_number():
    said = []
    watcher = Watcher()
    watcher.say = said.append
    tinyllm.train("bert", "classification", data=ROWS, **BERT | {"watcher": watcher})
    assert "Given: data (24 rows)," in said[0]


def test_names_of_labels_come_with_a_dataset():
    rows = rows_of(Dataset([{"label": 1}, {"label": -1}], {"label": Label(["no", "yes"])}), "data")
    assert rows == [{"label": "yes"}, {}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"text": "a", "label": "x"}, {"text": None, "label": "y"}], "data, row 2, has no text"),
        ([{"text": "a", "label": float("inf")}], "data, row 1, label is inf"),
        ([{"text": object()}], "data, row 1, text is a object: it should be a text"),
        ({"train": ROWS}, r'data is a dict: give one of its parts, such as data\["train"\]'),
        ([{"text": "a", "label": ["x"]}, {"text": "b", "label": "y"}], "data, row 1, label is a list"),
        ([{"text": "a"}, 3], "data, row 2, is a int"),
        (7, "data is a int: give a pandas DataFrame"),
        ([], "data is .., and holds no rows: give a pandas DataFrame"),
        (None, "data is None, and holds no rows"),
        ([{"text": "half of \ud83d", "label": "x"}], r"data, row 1: a text has \\ud83d"),
    ],
)
def test_refusals_name_the_row(data, message, tmp_path):
    with pytest.raises(DataError, match=message):
        tinyllm.train("bert", "classification", data=data, out=tmp_path / "run", **BERT)
    assert not (tmp_path / "run").exists()
