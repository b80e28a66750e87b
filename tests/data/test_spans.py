"""Span corruption: nothing is lost, the right share is taken out, and each window's noise follows from its place alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import DataError
from tinyllm.data.spans import Noise, SpanBatches, random_parts, sentinel_ids, spans_pass
from tinyllm.tokenizers import CharacterTokenizer

SENTINELS = list(range(1099, 999, -1))  # <extra_id_0> has the highest id, as T5's
END, START = 1, 0


def noise(**options) -> Noise:
    return Noise(SENTINELS, END, START, **options)


def restored(source, target) -> list[int]:
    """The window, from what was left of it and what was taken out."""
    taken: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token in SENTINELS:
            spans = taken.setdefault(int(token), [])
        else:
            spans.append(int(token))
    return [t for token in source[:-1].tolist() for t in taken.get(token, [token])]


@given(st.integers(2, 300), st.floats(0.01, 0.9), st.floats(1, 8), st.integers(0, 2**32))
def test_left_and_taken_out_make_the_window(length, density, mean_span, seed):
    made, window = noise(density=density, mean_span=mean_span), np.arange(2, 2 + length)
    taken = min(max(round(length * density), 1), length - 1)
    if min(max(round(taken / mean_span), 1), length - taken) > 100:
        with pytest.raises(DataError, match="sentinels, and the tokenizer has 100"):
            made.lengths(length)
        return
    source, target = made.corrupted(window, np.random.default_rng(seed))
    assert (len(source), len(target)) == made.lengths(length)
    assert restored(source, target) == window.tolist()
    assert source[-1] == target[-1] == END
    spans = made.counts(length)[1]
    for ids in (source, target):  # each sentinel once, in order
        assert [id for id in ids if id in SENTINELS] == SENTINELS[:spans]
    assert target[0] == SENTINELS[0]
    places = np.flatnonzero(np.isin(source, SENTINELS))
    assert (np.diff(places) > 1).all()  # two spans do not touch
    assert len(target) - spans - 1 == taken


def test_t5s_own_lengths():
    """568 tokens make the 512 and 114 of the paper's pretraining, with the end of both."""
    assert noise().lengths(568) == (512, 114)


def test_every_way_to_cut_is_equally_likely():
    random = np.random.default_rng(0)
    ways = [tuple(random_parts(5, 3, random)) for _ in range(3000)]
    assert len(set(ways)) == 6 and all(sum(way) == 5 and min(way) > 0 for way in ways)
    assert max(ways.count(way) for way in set(ways)) < 600
    assert random_parts(4, 4, random).tolist() == [1, 1, 1, 1] and random_parts(4, 1, random).tolist() == [4]


def test_batches_are_for_a_loss_and_begin_anywhere():
    tokens = np.arange(2, 702, dtype=np.uint16)
    row = SpanBatches(tokens, 4, 30, noise(), seed=3)
    first = [next(row) for _ in range(12)]
    source, target_in, targets = first[0]
    assert (source.shape[1], targets.shape[1]) == noise().lengths(30) and source.dtype == np.int64
    np.testing.assert_array_equal(target_in[:, 1:], targets[:, :-1])
    assert (target_in[:, 0] == START).all()
    other = SpanBatches(tokens, 4, 30, noise(), seed=3)
    for _ in range(7):
        next(other)
    state = other.state_dict()
    again = SpanBatches(tokens, 4, 30, noise(), seed=3)
    again.load_state_dict(state)
    for before, after in zip(first[7:], again):
        for a, b in zip(before, after):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(next(SpanBatches(tokens, 4, 30, noise(), seed=4))[0], source)


def test_a_window_is_corrupted_anew_in_each_epoch():
    tokens = np.full(1000, 5)
    row = SpanBatches(tokens, 1, 30, noise(), seed=0)
    assert len({next(row)[0].tobytes() for _ in range(40)}) > 15
    ends = [noise().corrupted(tokens[:30], np.random.default_rng(seed))[0] for seed in range(200)]
    assert {int(source[0] == SENTINELS[0]) for source in ends} == {int(source[-2] in SENTINELS) for source in ends} == {0, 1}


def test_the_held_out_windows_come_once_and_always_alike():
    tokens = np.arange(2, 2 + 95)
    once, again = (list(spans_pass(tokens, 2, 30, noise())) for _ in range(2))
    assert [len(batch[0]) for batch in once] == [2, 1]
    windows = [restored(s, t) for source, _, targets in once for s, t in zip(source, targets)]
    assert windows == tokens[:90].reshape(3, 30).tolist()
    for a, b in zip(once, again):
        np.testing.assert_array_equal(a[0], b[0])


def test_what_cannot_be():
    with pytest.raises(DataError, match="share between 0 and 1"):
        noise(density=1.0)
    with pytest.raises(DataError, match="too short"):
        noise().lengths(1)
    with pytest.raises(DataError, match="too few to hold out a window of 30"):
        next(spans_pass(np.arange(20), 1, 30, noise()))
    with pytest.raises(DataError, match="extra_id_0"):
        sentinel_ids(CharacterTokenizer.train(["abc"]))
