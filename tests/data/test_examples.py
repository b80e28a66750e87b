"""Examples for fine-tuning: the loss stands on the replies alone, each example comes once an epoch, little is padding."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import IGNORED, DataError, Example, ExampleBatches, example, examples_pass, padded, pairs
from tinyllm.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()


def make(count, seed=0, longest=40):
    """Examples that can be told apart: each is made of its own number, and learns from its second token on."""
    lengths = np.random.default_rng(seed).integers(2, longest, count)
    return [Example(np.full(n, i), np.arange(n) > 0) for i, n in enumerate(lengths)]


def test_loss_on_the_reply_alone():
    (one,) = pairs(TOKENIZER, [("ab", "xyz")], end_of_text=0)
    tokens, targets, mask = padded([one])
    a, b, x, y, z = TOKENIZER.encode("abxyz")
    assert tokens.tolist() == [[a, b, x, y, z]]
    assert targets.tolist() == [[IGNORED, x, y, z, 0]]  # the prompt's last token predicts the reply's first
    assert mask.all() and mask.dtype == bool and tokens.dtype == targets.dtype == np.int64


def test_dialogue_learns_every_reply():
    one = example(TOKENIZER, [("U:a", False), ("B:c", True), ("U:d", False), ("e", True)], end_of_text=0)
    _, targets, _ = padded([one])
    learned = [t for t in targets[0].tolist() if t != IGNORED]
    assert learned == [*TOKENIZER.encode("B:c"), 0, *TOKENIZER.encode("e"), 0]


def test_long_examples_lose_their_beginning():
    one = example(TOKENIZER, [("p" * 50, False), ("reply", True)], max_length=8)
    tokens, targets, _ = padded([one])
    assert tokens.shape == (1, 8) and TOKENIZER.decode(targets[0][-5:].tolist()) == "reply"
    assert example(TOKENIZER, [("prompt", False)]) is None
    assert example(TOKENIZER, [("reply", True), ("p" * 50, False)], max_length=8) is None
    assert example(TOKENIZER, [("r", True)]) is None  # nothing stands before it to predict it from
    assert len(pairs(TOKENIZER, [("a", "b"), ("c", ""), ("", "long")])) == 2


@given(st.integers(1, 6), st.integers(0, 9))
def test_padding(count, pad):
    examples = make(count, seed=count)
    tokens, targets, mask = padded(examples, pad)
    assert tokens.shape == targets.shape == mask.shape == (count, max(len(one.tokens) for one in examples) - 1)
    assert (tokens[~mask] == pad).all() and (targets[~mask] == IGNORED).all() and (targets[mask] != IGNORED).all()
    assert mask.sum(1).tolist() == [len(one.tokens) - 1 for one in examples]


@given(st.integers(1, 200), st.integers(1, 7), st.integers(0, 100))
def test_each_example_once_an_epoch(count, batch, seed):
    batches = ExampleBatches(make(count), batch, seed)
    rows = []
    for tokens, _, _ in islice(batches, -(-3 * count // batch)):
        assert len(tokens) == batch
        rows += tokens[:, 0].tolist()
    for epoch in range(3):
        assert sorted(rows[epoch * count : (epoch + 1) * count]) == list(range(count))


@pytest.mark.parametrize("count", [2000, 2003])
def test_little_padding_and_mixed_order(count):
    examples = make(count, longest=200)
    batches = ExampleBatches(examples, 8, seed=1)
    masks = [mask for _, _, mask in islice(batches, 250, 750)]  # the second and third epoch: seams within a batch
    filled = sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert filled > 0.95  # in a plain shuffled order, 0.56
    widths = [mask.shape[1] for mask in masks]
    assert abs(np.corrcoef(widths[:-1], widths[1:])[0, 1]) < 0.2  # short and long batches in turn
    assert filled > 1.5 * np.mean([len(one.tokens) - 1 for one in examples]) / 199


@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 30))
def test_position_alone_decides(count, batch, step):
    examples = make(count)
    read, fresh = ExampleBatches(examples, batch, seed=4), ExampleBatches(examples, batch, seed=4)
    for _ in islice(read, step):
        pass
    fresh.load_state_dict(read.state_dict())
    for _ in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(next(read), next(fresh)))


def test_epochs_and_seeds_differ():
    examples = make(500)
    one, other = ExampleBatches(examples, 10, seed=0), ExampleBatches(examples, 10, seed=1)
    assert one.at(0)[0][:, 0].tolist() != one.at(500)[0][:, 0].tolist() != other.at(0)[0][:, 0].tolist()


def test_validation_sees_each_once():
    examples = make(53)
    rows = [row for tokens, _, _ in examples_pass(examples, 8) for row in tokens[:, 0].tolist()]
    assert sorted(rows) == list(range(53))


def test_refusals():
    with pytest.raises(DataError, match="no example to learn from"):
        ExampleBatches([], 1)
    with pytest.raises(DataError, match="batch_size is 0, but a batch needs at least 1 example"):
        ExampleBatches(make(3), 0)
    saved = ExampleBatches(make(3), 1).state_dict()
    with pytest.raises(DataError, match=r"examples 3, now 4"):
        ExampleBatches(make(4), 1).load_state_dict(saved)
