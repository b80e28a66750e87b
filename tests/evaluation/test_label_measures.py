"""Classification and tagging: every number equals scikit-learn's or seqeval's on the same predictions."""

import json

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.evaluation.labels import calibration, class_measures
from tinyllm.models import BERTConfig, BERTForSequenceClassification, BERTForTokenClassification
from tinyllm.tokenizers import WordPieceTokenizer

WORDS = ("prize", "cash", "lunch", "home", "mother", "free", "later")
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
SIZES |= {"max_position_embeddings": 32, "initializer_range": 2.0}


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


def bert(cls, labels, texts):
    tokenizer = WordPieceTokenizer.train(texts, 120)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, id2label=dict(enumerate(labels)), next_sentence=False,
        pad_token_id=tokenizer.pad_id, **SIZES,
    )  # fmt: skip
    return cls(config, seed=7), tokenizer


def messages(path, labels, count=60):
    rows = [(labels[i * i % len(labels)], f"the {WORDS[i % 7]} and {WORDS[i // 7 % 7]} now {i}") for i in range(count)]
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return [text for _, text in rows]


@pytest.mark.parametrize("labels", [("ham", "spam"), ("bad", "good", "never seen", "so-so")])
def test_classification_is_scikit_learns(labels, tmp_path):
    sklearn = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    seen = [label for label in labels if label != "never seen"]
    texts = messages(tmp_path / "m.tsv", seen)
    model, tokenizer = bert(BERTForSequenceClassification, labels, texts)
    found = tinyllm.evaluate((model, tokenizer), tmp_path / "m.tsv", batch_size=7)
    true, said = ([getattr(one, name) for one in found.predictions] for name in ("reference", "prediction"))
    assert len(set(said)) > 1 and [one.input for one in found.predictions] == texts
    got = {name: one.value for name, one in found.measures.items()}
    assert (found.task, found.n) == ("classification", 60)
    assert got["accuracy"] == sklearn.accuracy_score(true, said)
    assert got["macro_f1"] == pytest.approx(sklearn.f1_score(true, said, average="macro"))
    positive = {"average": "binary", "pos_label": labels[1]} if len(labels) == 2 else {"average": "macro"}
    assert got["f1"] == pytest.approx(sklearn.f1_score(true, said, **positive))
    each = sklearn.f1_score(true, said, average=None, labels=labels, zero_division=0)
    assert [got[f"f1:{label}"] for label in labels] == pytest.approx(list(each))
    assert found.notes["confusion"] == sklearn.confusion_matrix(true, said, labels=labels).tolist()
    p = tinyllm.classify(model, tokenizer, texts).astype(np.float64)
    numbers = [labels.index(label) for label in true]
    assert got["loss"] == pytest.approx(
        sklearn.log_loss(numbers, p / p.sum(1, keepdims=True), labels=range(len(labels))), rel=1e-6
    )
    counts = {label: true.count(label) for label in seen}
    assert found.baseline["accuracy"].value == max(counts.values()) / 60
    assert found.baseline_name == f"always {max(counts, key=counts.get)}"


def test_the_calibration_error_by_hand():
    confidence, right = np.array([0.95, 0.95, 0.55, 0.6, 1.0]), np.array([True, True, True, True, False])
    # bins of 1/15: 0.95 twice and 1.0 are in the last one, 0.55 and 0.6 (which ends it) in the ninth
    expected = abs(2 / 3 - (0.95 + 0.95 + 1.0) / 3) * 3 / 5 + abs(1 - 0.575) * 2 / 5
    assert calibration(confidence, right).result == pytest.approx(expected)
    certain = class_measures(np.eye(3), np.arange(3), ["a", "b", "c"])
    assert certain["calibration_error"].result == 0 and certain["loss"].result == 0


def test_a_label_that_nobody_names_does_not_count():
    measured = class_measures(np.eye(3)[[0, 0, 1]], np.array([0, 1, 1]), ["a", "b", "c"])
    assert measured["macro_f1"].result == pytest.approx(2 / 3) and measured["f1:c"].result == 0


def test_labels_by_other_names(tmp_path):
    texts = messages(tmp_path / "m.tsv", ("ham", "spam"))
    model = bert(BERTForSequenceClassification, ("LABEL_0", "LABEL_1"), texts)
    with pytest.raises(ValueError, match="The model has the labels LABEL_0, LABEL_1: where the file"):
        tinyllm.evaluate(model, tmp_path / "m.tsv")
    named = tinyllm.evaluate(model, tmp_path / "m.tsv", labels=["ham", "spam"])
    rows = [{"text": one.input, "label": ["ham", "spam"].index(one.reference)} for one in named.predictions]
    numbered = tinyllm.evaluate(model, rows)  # a list of dicts, labels as numbers
    assert numbered.measures["accuracy"] == named.measures["accuracy"]
    with pytest.raises(ValueError, match="labels has 1 names, and the model has 2"):
        tinyllm.evaluate(model, tmp_path / "m.tsv", labels=["ham"])


@pytest.mark.parametrize("labels", [("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), ("O", "B-X", "I-X", "E-X", "S-X")])
def test_tagging_is_seqevals(labels, tmp_path):
    seqeval = pytest.importorskip("seqeval.metrics", reason="compares with seqeval")
    random = np.random.default_rng(0)
    rows = [
        {
            "tokens": [str(w) for w in random.choice(WORDS, n)],
            "tags": [str(t) for t in random.choice([*labels, labels[-1], labels[-1]], n)],
        }
        for n in random.integers(2, 9, 30)
    ]
    path = tmp_path / "tags.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = bert(BERTForTokenClassification, labels, [" ".join(row["tokens"]) for row in rows])
    found = tinyllm.evaluate(model, path)
    true, said = ([getattr(one, name) for one in found.predictions] for name in ("reference", "prediction"))
    scheme = {}
    if "S-X" in labels:
        from seqeval.scheme import IOBES

        scheme = {"mode": "strict", "scheme": IOBES}
    got = {name: one.value for name, one in found.measures.items()}
    assert (found.task, found.n) == ("tagging", 30)
    assert got["f1"] == pytest.approx(seqeval.f1_score(true, said, **scheme)) and got["f1"] > 0
    report = seqeval.classification_report(true, said, output_dict=True, **scheme)
    assert got["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    for kind in {label[2:] for label in labels if label != "O"}:
        assert got[f"f1:{kind}"] == pytest.approx(report[kind]["f1-score"])
    assert got["accuracy"] == pytest.approx(seqeval.accuracy_score(true, said))
