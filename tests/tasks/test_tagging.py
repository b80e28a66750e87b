"""Tagging: training cuts words as inference does, and is measured on every word of every text."""

import numpy as np
import pytest

import tinyllm
from tinyllm import metrics
from tinyllm.data import IGNORED
from tinyllm.data.tagged import parts
from tinyllm.models import BERTForTokenClassification
from tinyllm.tasks.labels import TaggingTask
from tinyllm.training.config import TrainConfig

LINES = [("Call", "O"), ("Dr.", "B-X"), ("Evans", "I-X"), ("\u200b", "O"), ("at", "O"), ("Oslo", "B-Y")]


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "words.conll"
    texts = [LINES * 5, LINES[:3], LINES[3:]]
    path.write_text("\n".join("".join(f"{w}\t{label}\n" for w, label in text) for text in texts), encoding="utf-8")
    return TaggingTask(data=[str(path)], val_data=str(path), tokenizer="wordpiece:60", length=12)


def opened(task):
    tokenizer = task.make_tokenizer()
    sizes = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 12, "initializer_range": 0.5}
    model = BERTForTokenClassification.tiny(**sizes, **task.head_fields())
    return model, tokenizer, task.open(model, tokenizer, TrainConfig(batch_size=3))


def test_the_measures_are_those_of_tag_on_every_word(task):
    """Windows, words without tokens, several texts in any order."""
    model, tokenizer, data = opened(task)
    true = task.parts[1]
    said = [[tag.label for tag in tags] for tags in tinyllm.tag(model, tokenizer, true.words)]
    right = [[true.names[label] for label in labels] for labels in true.labels]
    measured = data.evaluate(model, data.held_out())
    pairs = [pair for a, b in zip(said, right) for pair in zip(a, b)]
    assert measured["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert measured["f1"] == pytest.approx(metrics.tag_f1(said, right))
    logits = [(model(tokens, token_types=types, attention_mask=mask), y) for tokens, y, types, mask in data.held_out()]
    losses = [np.log(np.exp(z).sum()) - z[label] for z, y in logits for z, label in zip(z[y != IGNORED], y[y != IGNORED])]
    assert measured["loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_first_batches_alone_are_measured_too(task):
    model, _, data = opened(task)
    first = next(iter(data.held_out()))
    measured = data.evaluate(model, [first])
    labels = model(first[0], token_types=first[2], attention_mask=first[3]).argmax(-1)
    real = first[1] != IGNORED
    unread = sum(word == "\u200b" for word, _ in LINES * 5)  # of the text that the windows belong to
    right = (labels == first[1])[real].sum() + unread  # it counts as O, which is right
    assert measured["accuracy"] == pytest.approx(right / (real.sum() + unread))


def test_training_has_a_target_for_each_part_of_a_word(task):
    _, tokenizer, data = opened(task)
    words = parts(task.parts[0])
    assert words.words[1] == ["Call", "Dr", ".", "Evans"]
    assert [words.names[label] for label in words.labels[1]] == ["O", "B-X", "I-X", "I-X"]
    found = [target for row in data.batches.examples for target in row.target if target != IGNORED]
    expected = [n for text, row in zip(words.words, words.labels) for word, n in zip(text, row) if tokenizer.encode(word)]
    assert sorted(found) == sorted(expected)
