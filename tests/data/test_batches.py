"""Batches: each window once an epoch, in an order that follows from the seed alone; validation sees every token once."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import IGNORED, Batches, DataError, full_pass, split
from tinyllm.data.order import key, shuffled

# The shuffled order ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_shuffled_is_a_permutation(size, chosen):
    order = shuffled(np.arange(size), size, chosen)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(size))
    assert np.array_equal(order[::-1], shuffled(np.arange(size)[::-1], size, chosen))  # each place on its own


def test_shuffled_reaches_far():
    """Beyond 32 bits as well, where only a few places can be looked at: inside, and no two alike."""
    size = 10**12 + 7
    order = shuffled(np.arange(100_000), size, 5)
    assert order.min() >= 0 and order.max() < size and len(np.unique(order)) == 100_000
    assert abs(order.mean() / size - 0.5) < 0.01


def test_every_permutation_is_as_likely():
    """Chi-squared over the 24 orders of four things; 23 degrees of freedom: 60 is beyond one in 30,000."""
    seen: dict[tuple, int] = {}
    for seed in range(2400):
        order = tuple(shuffled(np.arange(4), 4, key(seed, 0)))
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 60


def test_neighbours_part():
    """Places side by side land apart: their differences correlate with nothing."""
    order = shuffled(np.arange(5000), 5000, 1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    assert np.count_nonzero(order == shuffled(np.arange(5000), 5000, 2)) < 10


def test_order_stays_what_it_is():
    """A checkpoint of today must go on tomorrow: these numbers may never change."""
    assert shuffled(np.arange(10), 10, key(42, 0)).tolist() == [4, 2, 9, 3, 1, 6, 8, 5, 0, 7]
    tokens, _ = Batches(np.arange(100, dtype=np.uint16), 4, 8, seed=42).at(9)
    assert tokens[:, 0].tolist() == [66, 26, 22, 54]


# Training batches -----------------------------------------------------------------------------------------------------

corpora = st.builds(
    lambda length, extra, batch, seed: (np.arange(length + 1 + extra, dtype=np.uint16), batch, length, seed),
    length=st.integers(1, 20),
    extra=st.integers(0, 300),
    batch=st.integers(1, 9),
    seed=st.integers(-(2**63), 2**64),
)


@given(corpora)
def test_each_window_once_an_epoch(corpus):
    text, batch, length, seed = corpus  # tokens are their own places
    batches = Batches(text, batch, length, seed)
    rows = []
    for tokens, targets in islice(batches, -(-3 * batches.count // batch)):
        assert tokens.shape == targets.shape == (batch, length)
        assert tokens.dtype == targets.dtype == np.int64
        assert np.array_equal(tokens + 1, targets) and np.array_equal(tokens, tokens[:, :1] + np.arange(length))
        rows += tokens[:, 0].tolist()
    for epoch in range(3):
        starts = np.sort(rows[epoch * batches.count : (epoch + 1) * batches.count])
        assert np.array_equal(starts, starts[0] + length * np.arange(batches.count))  # side by side, each once
        assert starts[0] >= 0 and starts[-1] + length < len(text)
    assert len(text) - 1 - batches.count * length < 2 * length  # little is left out


def test_every_token_is_reached_and_seams_move():
    batches = Batches(np.arange(1000), 8, 256, seed=1)
    seen = np.zeros(1000, dtype=bool)
    phases = set()
    for tokens, targets in islice(batches, 200):
        seen[tokens], seen[targets] = True, True
        phases |= set(tokens[:, 0] % 256)
    assert seen.mean() > 0.99 and len(phases) > 100


@given(corpora, st.integers(0, 40))
def test_position_alone_decides(corpus, step):
    text, batch, length, seed = corpus
    read = Batches(text, batch, length, seed)
    for _ in islice(read, step):
        pass
    fresh = Batches(text, batch, length, seed)
    fresh.load_state_dict(read.state_dict())
    for _ in range(3):
        expected = Batches(text, batch, length, seed).at(read.position)
        for a, b, c in zip(next(read), next(fresh), expected):
            assert np.array_equal(a, b) and np.array_equal(a, c)


def test_another_batch_size_goes_on_at_the_same_place():
    text = np.arange(5000)
    small, large = Batches(text, 4, 16, seed=3), Batches(text, 8, 16, seed=3)
    for _ in range(10):
        next(small)
    large.load_state_dict(small.state_dict())
    assert np.array_equal(next(large)[0], np.concatenate([next(small)[0], next(small)[0]]))
    assert small.state_dict()["epoch"] == 0 and small.state_dict()["index"] == 48
    assert small.epoch == 48 / small.count


def test_orders_differ_by_seed_and_epoch():
    text = np.arange(20_000)
    one, other = Batches(text, 64, 16, seed=0), Batches(text, 64, 16, seed=1)
    assert not np.array_equal(one.at(0)[0], other.at(0)[0])
    assert not np.array_equal(one.at(0)[0], one.at(one.count)[0])


def test_batches_are_the_callers_own():
    """Each array stands for itself: writing into the tokens changes neither the targets nor the text."""
    text = np.arange(300)
    for tokens, targets in Batches(text, 2, 8).at(0), next(full_pass(text, 2, 8)):
        assert tokens.flags.c_contiguous and targets.flags.c_contiguous
        assert not np.shares_memory(tokens, targets) and not np.shares_memory(tokens, text)


def test_refusals():
    text = np.arange(100)
    with pytest.raises(DataError, match="8 tokens are too few for windows of 8, which need 9"):
        Batches(text[:8], 1, 8)
    with pytest.raises(DataError, match="not from float64"):
        Batches(text.astype(float), 1, 8)
    with pytest.raises(DataError, match="not from list"):
        Batches([1, 2, 3], 1, 1)
    with pytest.raises(DataError, match=r"not from int64 \(10, 10\)"):
        full_pass(text.reshape(10, 10), 1, 8).__next__()
    with pytest.raises(DataError, match="must be at least 1, not 0 and 8"):
        Batches(text, 0, 8)
    saved = Batches(text, 1, 8, seed=1).state_dict()
    with pytest.raises(DataError, match=r"belongs to other data \(tokens 100, now 99; seed 1, now 2\)"):
        Batches(text[:99], 1, 8, seed=2).load_state_dict(saved)


# Validation -----------------------------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.integers(1, 5), st.integers(1, 20))
def test_full_pass_predicts_every_token_once(count, batch, length):
    text = np.arange(count, dtype=np.uint16)
    predicted = []
    for tokens, targets in full_pass(text, batch, length):
        assert tokens.shape == targets.shape and tokens.shape[1] == length and 1 <= len(tokens) <= batch
        counts = targets != IGNORED
        assert counts.any(1).all()  # no row for nothing
        assert np.array_equal(tokens[counts] + 1, targets[counts])  # from the token just before
        assert np.array_equal(counts, np.arange(length) < counts.sum(1, keepdims=True))  # padding at the end only
        predicted += targets[counts].tolist()
    assert predicted == list(range(1, count))  # in order


@given(st.integers(2, 500), st.floats(0.01, 0.99))
def test_split_is_the_last_part(count, fraction):
    text = "x" * (count - 1) + "y"
    try:
        training, validation = split(text, fraction)
    except DataError:
        assert int(count * (1 - fraction)) in (0, count)
        return
    assert training + validation == text and len(training) == int(count * (1 - fraction))
    assert abs(len(validation) - count * fraction) <= 1


def test_split_at_a_document():
    tokens = np.array([5, 5, 0, 5, 5, 5, 0, 5, 5, 5])
    assert [part.tolist() for part in split(tokens, 0.7, boundary=0)] == [[5, 5, 0, 5, 5, 5, 0], [5, 5, 5]]
    assert len(split(tokens, 0.2, boundary=0)[0]) == 8  # none follows: where the fraction says
    assert split("one\ntwo\nthree", 0.8, boundary="\n") == ("one\n", "two\nthree")
    assert len(split(np.arange(1_003_854), 0.1)[0]) == 903_468
    for wrong in 0, 1, -0.5:
        with pytest.raises(DataError, match="between 0 and 1"):
            split(tokens, wrong)
    with pytest.raises(DataError, match="too few"):
        split(tokens[:1], 0.5)
