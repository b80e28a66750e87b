"""BERT's tasks from the command's side: pretrained, fine-tuned, measured, interrupted, used."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import cli, metrics
from tinyllm.data.squad import read_squad
from tinyllm.models import BERTForQuestionAnswering, BERTForSequenceClassification, BERTForTokenClassification
from tinyllm.pipelines.question_answering import Answer
from tinyllm.tasks.answers import AnswersTask, scores
from tinyllm.tasks.labels import SequenceTask
from tinyllm.training.config import TrainConfig
from tinyllm.training.run import Run
from tinyllm.training.trainer import Watcher

SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
TINY = {**SIZES, "max_position_embeddings": 64, "batch_size": 4, "warmup": 0, "watcher": Watcher()}
TASKS = {
    "classification": BERTForSequenceClassification,
    "tagging": BERTForTokenClassification,
    "qa": BERTForQuestionAnswering,
}


def sizes(**options):
    return {**TINY, "tokenizer": "wordpiece:300", **options}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A BERT pretrained for a few steps."""
    folder = tmp_path_factory.mktemp("bert")
    text = folder / "text.txt"
    text.write_text("\n\n".join(f"Town {i} lies on a river. It has {i} mayors. They sell salt." for i in range(80)), "utf-8")
    options = sizes(data=text, steps=6, eval_every=3, eval_batches=2, lr=1e-2)
    tinyllm.train("bert", out=folder / "run", **options)
    return folder / "run"


def test_pretraining_is_measured_by_words_and_pairs(pretrained):
    evaluations = [record for record in Run.open(pretrained).metrics if "val_loss" in record]
    assert [record["step"] for record in evaluations] == [0, 3, 6]
    for record in evaluations:
        assert 0 <= record["val_masked_accuracy"] <= 1 and 0 <= record["val_next_accuracy"] <= 1
    for record in evaluations[1:]:  # an untrained model shows nothing
        assert record["sample"].count("[MASK]") == record["sample"].count("\n") + 1
    assert evaluations[-1]["val_loss"] < evaluations[0]["val_loss"]
    model, tokenizer = tinyllm.load(pretrained)
    batch = model.named(next(iter(masked_pass(pretrained, tokenizer))))
    loss = model.loss(**batch)
    hidden, inputs = batch["targets"] != -100, {name: batch[name] for name in ("tokens", "token_types", "attention_mask")}
    logits, follows = model.at(hidden, **inputs)
    np.testing.assert_allclose(logits, model(**inputs)[hidden], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(follows, model.next_sentence(**inputs), rtol=1e-4, atol=1e-5)
    assert np.isfinite(loss)


def masked_pass(run, tokenizer):
    from tinyllm.tasks.masked import MaskedTask

    task = MaskedTask(**Run.open(run).config["task"])
    return task.open(tinyllm.load(run)[0], tokenizer, TrainConfig(batch_size=4)).held_out()


@pytest.mark.parametrize("whole_words", [False, True])
def test_pretraining_goes_on_as_if_never_interrupted(whole_words, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Number {i} comes before {i + 1}. That is so." for i in range(99)), "utf-8")
    options = sizes(data=text, dropout=0.1, eval_every=2, eval_batches=1, whole_words=whole_words)
    tinyllm.train("bert", out=tmp_path / "whole", steps=4, **options)
    tinyllm.train("bert", out=tmp_path / "cut", steps=2, schedule="constant", **options)
    tinyllm.train("bert", out=tmp_path / "same", steps=4, schedule="constant", **options)
    tinyllm.resume(tmp_path / "cut", steps=4, watcher=Watcher())
    same, cut_run = (tinyllm.load(tmp_path / name)[0].flat.data for name in ("same", "cut"))
    losses = [[r["loss"] for r in Run.open(tmp_path / name).metrics if "loss" in r] for name in ("same", "cut")]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(same, cut_run)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_on_a_fresh_machine(task, tmp_path):
    """Its own default data, a fresh model, a step, an evaluation with its measure, and loaded again."""
    model, tokenizer = tinyllm.train("bert", task, out=tmp_path / "run", **sizes(steps=2, eval_every=2, eval_batches=3))
    assert type(model) is TASKS[task]
    (first, last) = [record for record in Run.open(tmp_path / "run").metrics if "val_loss" in record]
    assert {"classification": "val_accuracy", "tagging": "val_f1", "qa": "val_f1"}[task] in last
    again, _ = tinyllm.load(tmp_path / "run")
    assert type(again) is TASKS[task] and again.config.vocab_size == tokenizer.vocab_size
    if task == "classification":
        assert list(again.config.id2label.values()) == ["negative", "neutral", "positive"]
    if task == "tagging":
        (tags,) = tinyllm.tag(again, tokenizer, ["Call Anna tomorrow."])
        assert [tag.word for tag in tags] == ["Call", "Anna", "tomorrow", "."]
    if task == "qa":
        said = json.loads((tmp_path / "run" / "predictions.json").read_text("utf-8"))
        odds = json.loads((tmp_path / "run" / "null_odds.json").read_text("utf-8"))
        held_out = AnswersTask().parts[1]
        assert list(said) == list(odds) == [question.id for question in held_out]
        measured = metrics.squad(said, {question.id: question.answers for question in held_out})
        assert 0 <= measured["f1"] <= 100


@pytest.mark.parametrize("task", TASKS)
def test_a_pretrained_body_with_a_new_head(task, pretrained, tmp_path):
    options = {"init": pretrained, "watcher": Watcher(), "batch_size": 2, "eval_batches": 1}
    model, tokenizer = tinyllm.train("bert", task, steps=1, lr=1e-9, warmup=0, **options)
    body, _ = tinyllm.load(pretrained)
    assert tokenizer.vocab_size == body.config.vocab_size
    theirs = {p.name: p.data for p in body.parameters()}
    for p in model.parameters():
        if not p.name.startswith("head."):
            np.testing.assert_allclose(p.data, theirs[p.name], atol=1e-7, err_msg=p.name)


def test_sequences_from_files(tmp_path):
    """Pairs of texts in several files, labels in an order that is given, rare labels weighed, a file to measure on."""
    rows = [("is it wet", f"water {i}", "yes") for i in range(9)] + [("is it dry", "water", "no")] * 3
    for name in ("a.tsv", "b.tsv"):
        text = "q\ta\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / name).write_text(text, "utf-8")
    task = SequenceTask(
        data=[str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")], val_data=str(tmp_path / "a.tsv"), text_column="q",
        second_column="a", labels=["yes", "no"], balance=True, measure="f1", tokenizer="wordpiece:60",
    )  # fmt: skip
    learned, held_out = task.parts
    assert len(learned) == 24 and len(held_out) == 12 and task.head_fields() == {"id2label": {0: "yes", 1: "no"}}
    tokenizer = task.make_tokenizer()
    model = BERTForSequenceClassification.tiny(vocab_size=tokenizer.vocab_size, num_labels=2, max_position_embeddings=32)
    data = task.open(model, tokenizer, TrainConfig(batch_size=5))
    tokens, labels, types, mask = next(data.batches)
    assert types.any() and data.best == "f1"
    np.testing.assert_allclose(data.loss_options["class_weight"], [24 / (2 * 18), 24 / (2 * 6)])
    model.loss(tokens, labels, token_types=types, attention_mask=mask, **data.loss_options)
    measured = data.evaluate(model, data.held_out())
    logits = [model(tokens, token_types=types, attention_mask=mask) for tokens, _, types, mask in data.held_out()]
    said = np.concatenate(logits).argmax(-1)
    true = np.concatenate([labels for _, labels, _, _ in data.held_out()])
    assert measured["accuracy"] == metrics.accuracy(said, true) and measured["f1"] == metrics.f1(said, true)
    losses = [model.loss(**model.named(batch)) * len(batch[0]) for batch in data.held_out()]
    assert measured["loss"] == pytest.approx(sum(losses) / 12, rel=1e-5)


def test_answers_are_measured_as_the_official_script_does():
    questions = read_squad("towns")[:8]
    right = [Answer(q.answers[0] if q.answers else "x", 0, 1, 1.0 if q.answers else -1.0) for q in questions]
    assert scores(questions, right) == {"exact": 100, "f1": 100, "best_exact": 100, "best_f1": 100}
    wrong = [Answer("zzz", 0, 1, -1.0) for _ in questions]  # never answers
    share = 100 * np.mean([not q.answers for q in questions])
    assert scores(questions, wrong)["exact"] == pytest.approx(share)
    answered = [q for q in questions if q.answers]
    some = scores(answered, [Answer(q.answers[0] + " zzz", 0, 1, -5.0) for q in answered])
    assert some["exact"] == 0 and 60 < some["f1"] < 90 and "best_f1" not in some  # always one where all have one


def test_steps_are_steps_where_a_task_counts_epochs(tmp_path):
    tinyllm.train("bert", "classification", out=tmp_path / "run", **sizes(steps=1, eval_batches=1, epochs=0.0))
    assert Run.open(tmp_path / "run").config["train"]["epochs"] == 0
    with pytest.raises(ValueError, match="length 65 is not between 4 and what this model takes, 64"):
        tinyllm.train("bert", "classification", **sizes(steps=1, length=65))
    with pytest.raises(ValueError, match="neither|not wordpiece:N, and no such path"):
        tinyllm.train("bert", "classification", **sizes(steps=1, tokenizer="bpe:300"))


def test_help_shows_inherited_options():
    done = CliRunner().invoke(cli.cli, ["finetune", "bert", "--task", "tagging", "--help"])
    assert done.exit_code == 0 and "Which part. [0.1]" in done.output and "--column" in done.output
    assert "against overfitting" in done.output.replace("\n", " ").replace("  ", "")
