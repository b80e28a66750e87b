"""Classification from the first step to the label on the terminal: training, early stopping, report, LoRA, the command."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import kernels
from tinyllm.cli import cli
from tinyllm.data import read_labelled
from tinyllm.models import BERTConfig, BERTForSequenceClassification, LlamaForSequenceClassification
from tinyllm.pipelines.text_classification import classify, cut, labelled
from tinyllm.tokenizers import ByteTokenizer, WordPieceTokenizer
from tinyllm.training.run import Run
from tinyllm.training.trainer import Watcher

TINY = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "max_position_embeddings": 24}
TINY |= {"tokenizer": "bpe:300", "batch_size": 8, "lr": 3e-3}
SIZES = {"opt": {**TINY, "ffn_dim": 32}, "llama": {**TINY, "intermediate_size": 32, "num_key_value_heads": 1}}
SIZES["gpt"] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 24, "tokenizer": "bpe:300", "batch_size": 8}


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


@pytest.fixture
def messages(tmp_path):
    path = tmp_path / "messages.tsv"
    words = ("prize", "win", "free", "cash"), ("lunch", "home", "later", "mother")
    rows = [(words[i % 3 == 0][i // 3 % 4], f"now {i}", ("spam", "ham")[i % 3 == 0]) for i in range(90)]
    path.write_text("".join(f"{label}\tthe {word} {rest}\n" for word, rest, label in rows), encoding="utf-8")
    return path


def run(*arguments, fails=False):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.mark.parametrize("kind", SIZES)
def test_from_training_to_the_label(kind, messages, tmp_path):
    out = tmp_path / "run"
    options = {**SIZES[kind], "epochs": 6.0, "measure": "f1", "balance": True}
    tinyllm.train(kind, task="classification", data=messages, out=out, watcher=Watcher(), **options)
    measured = [record for record in Run.open(out).metrics if "val_f1" in record]
    assert measured[0]["val_f1"] < measured[-1]["val_f1"] == 1.0
    with (out / "held_out.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 9 and all(row["label"] == row["predicted"] for row in rows)
    pytest.importorskip("matplotlib", reason="the picture of the confusion needs matplotlib")
    assert (out / "confusion.png").read_bytes()[:4] == b"\x89PNG"
    text = rows[0]["text"]
    label, probability, said = run("classify", out, text).rstrip("\n").split("\t")
    assert (label, probability, said) == (rows[0]["label"], rows[0]["probability"], text)
    everything = run("classify", out, "--all", text).rstrip("\n").split("\t")
    assert {everything[0], everything[2]} == {"ham", "spam"}
    assert float(everything[1]) + float(everything[3]) == pytest.approx(1, abs=1e-3)


def test_a_pretrained_model_gets_a_head(messages, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the prize of the lunch\n" * 300, encoding="utf-8")
    pretrained, _ = tinyllm.train(
        "opt", data=text, out=tmp_path / "lm", steps=3, sample_tokens=0, watcher=Watcher(), **SIZES["opt"]
    )
    model, _ = tinyllm.train(
        "opt", task="classification", init=tmp_path / "lm", data=messages, steps=1, lr=1e-9, watcher=Watcher()
    )  # fmt: skip
    assert type(model).__name__ == "OPTForSequenceClassification" and model.config.id2label == {"0": "ham", "1": "spam"}
    np.testing.assert_allclose(model.blocks[0].mlp.up.w.data, pretrained.blocks[0].mlp.up.w.data, atol=1e-6)


def test_resuming_changes_nothing(messages, tmp_path):
    options = {**SIZES["opt"], "data": messages, "eval_every": 2, "watcher": Watcher()}
    whole, _ = tinyllm.train("opt", task="classification", steps=6, **options)
    tinyllm.train("opt", task="classification", steps=4, schedule="constant", out=tmp_path / "a", **options)
    half, _ = tinyllm.resume(tmp_path / "a", steps=6, watcher=Watcher())
    straight, _ = tinyllm.train("opt", task="classification", steps=6, schedule="constant", **options)
    np.testing.assert_array_equal(half.flat.data, straight.flat.data)
    assert whole.flat.size == half.flat.size


@pytest.fixture(scope="module")
def bert():
    tokenizer = WordPieceTokenizer.train(["the cat sat on the mat", "is it so? it is"], 60)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16, id2label={0: "no", 1: "yes", 2: "perhaps"}, initializer_range=0.5,
    )  # fmt: skip
    return BERTForSequenceClassification(config), tokenizer


def test_batches_give_what_each_text_gives_alone(bert):
    byte = LlamaForSequenceClassification.tiny(vocab_size=256, num_labels=3, initializer_range=0.3), ByteTokenizer()
    texts = ["the cat", "it is", "the mat sat on the cat on the mat on the cat", "so"]
    for model, tokenizer in (bert, byte):
        together = classify(model, tokenizer, texts, batch_size=3)
        np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)
        for text, row in zip(texts, together):
            np.testing.assert_allclose(classify(model, tokenizer, [text])[0], row, rtol=1e-4, atol=1e-6)
        assert labelled(model, tokenizer, texts)[1][1] == pytest.approx(together[1].max())


def test_pairs(bert, tmp_path):
    model, tokenizer = bert
    pair = classify(model, tokenizer, ["the cat"], ["it is"])
    ids, types = tokenizer.encode_pair("the cat", "it is")
    logits = model(np.array([ids]), token_types=np.array([types]))
    np.testing.assert_allclose(pair, np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    tinyllm.save(tmp_path / "bert", model, tokenizer)
    (tmp_path / "pairs.txt").write_text("the cat\tit is\n\nso\tis it\n", encoding="utf-8")
    rows = [line.split("\t") for line in run("classify", tmp_path / "bert", "--file", tmp_path / "pairs.txt").splitlines()]
    assert [row[2:] for row in rows] == [["the cat", "it is"], [], ["so", "is it"]]
    assert float(rows[0][1]) == pytest.approx(pair.max(), abs=1e-4)


@pytest.mark.parametrize("n, m, room", [(3, 4, 10), (9, 2, 8), (2, 9, 8), (9, 9, 8), (9, 9, 7)])
def test_of_two_long_texts_each_keeps_half(n, m, room):
    first, second = cut(room, list(range(n)), list(range(m)))
    assert len(first) + len(second) == min(n + m, room)
    assert len(first) >= min(n, room // 2) and len(second) >= min(m, room // 2)
    assert cut(2, list(range(n))) == [[0, 1]]


def test_what_cannot_be_labelled_is_told(bert, tmp_path):
    model, tokenizer = bert
    with pytest.raises(ValueError, match="GPT does not label texts: fine-tune it first"):
        classify(tinyllm.GPT.tiny(), tokenizer, ["a"])
    with pytest.raises(ValueError, match="there are 1 texts and 2 second texts"):
        classify(model, tokenizer, ["a"], ["b", "c"])
    with pytest.raises(TypeError, match="put a single one into brackets"):
        classify(model, tokenizer, "a")
    decoder = LlamaForSequenceClassification.tiny(vocab_size=256)
    with pytest.raises(ValueError, match="text 2 is empty"):
        classify(decoder, ByteTokenizer(), ["a", ""])
    with pytest.raises(ValueError, match="pairs are for BERT"):
        classify(decoder, ByteTokenizer(), ["a"], ["b"])
    tinyllm.save(tmp_path / "bert", model, tokenizer)
    assert "give texts to label" in run("classify", tmp_path / "bert", fails=True)
    assert "either every line has one, or none" in run("classify", tmp_path / "bert", "a\tb", "c", fails=True)
    assert "--batch-size is 0" in run("classify", tmp_path / "bert", "a", "--batch-size", 0, fails=True)


def test_lengths_that_cannot_be(messages):
    with pytest.raises(ValueError, match="length 25 is not between 1 and what this model takes, 24"):
        tinyllm.train("opt", task="classification", data=messages, length=25, watcher=Watcher(), **SIZES["opt"])


def test_labels_of_several_files_and_of_a_file_of_their_own(messages, tmp_path):
    from tinyllm.tasks.classification import OPTClassification

    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"text": "win", "label": "spam"}) + "\n" + json.dumps({"text": "x", "label": "ham"}) + "\n")
    task = OPTClassification(data=[str(messages), str(more)], val_data=str(more))
    learned, held_out = task.parts
    assert len(learned) == 92 and held_out.texts == ["win", "x"] and learned.names == held_out.names == ["ham", "spam"]
    assert len(read_labelled(more)) == 2
