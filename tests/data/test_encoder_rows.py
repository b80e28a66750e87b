"""Rows for encoders: padding, order, every row once an epoch, and words that are hidden from the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import IGNORED, DataError
from tinyllm.data.encoder_rows import EncoderBatches, EncoderRow, rows_pass, stacked
from tinyllm.data.padding import longest_first
from tinyllm.tokenizers import ByteTokenizer, WordPieceTokenizer

TOKENIZER = WordPieceTokenizer.train(["a few words, a few more"], 30)


def make(count, target="label", seed=0):
    """Rows that can be told apart by their tokens, [CLS] i i i ... [SEP]."""
    random, rows = np.random.default_rng(seed), []
    for i in range(count):
        n = int(random.integers(1, 12))
        tokens, types = TOKENIZER.wrap([5 + i % 10] * n)
        made = {"label": np.array(i), "words": np.full(n + 2, i), "span": np.array([1, n])}[target]
        rows.append(EncoderRow(np.array(tokens), np.array(types) + (i % 2), made))
    return rows


@pytest.mark.parametrize("target", ["label", "words", "span"])
def test_padding(target):
    rows = make(5, target)
    tokens, targets, types, mask = stacked(rows, pad=0)
    assert tokens.shape == types.shape == mask.shape == (5, max(len(row.tokens) for row in rows))
    assert not tokens[~mask].any() and not types[~mask].any()
    for i, row in enumerate(rows):
        assert tokens[i][mask[i]].tolist() == row.tokens.tolist() and types[i][mask[i]].tolist() == row.types.tolist()
    if target == "words":
        assert targets.shape == tokens.shape and (targets[~mask] == IGNORED).all()
        assert all((targets[i][mask[i]] == i).all() for i in range(5))
    else:
        assert targets.tolist() == [row.target.tolist() for row in rows] and targets.dtype == np.int64


@given(st.integers(1, 40), st.integers(1, 7), st.sampled_from([0.0, 0.5]))
def test_every_row_once_an_epoch_and_the_same_again(count, batch, hidden):
    rows = make(count)
    row, other = (EncoderBatches(rows, TOKENIZER, batch, seed=3, hidden=hidden) for _ in range(2))
    labels = np.concatenate([next(row)[1] for _ in range(2 * count)])
    assert sorted(labels[:count]) == sorted(labels[count : 2 * count]) == list(range(count))
    for _ in range(4):
        other.load_state_dict(row.state_dict())
        for a, b in zip(next(row), next(other)):
            np.testing.assert_array_equal(a, b)


def test_hidden_words():
    rows = make(64)
    plain, hiding = (EncoderBatches(rows, TOKENIZER, 32, hidden=hidden) for hidden in (0.0, 0.3))
    changed, words = 0, 0
    for _ in range(40):
        (a, labels, types, mask), (b, *others) = next(plain), next(hiding)
        for one, other in zip((labels, types, mask), others):
            np.testing.assert_array_equal(one, other)
        assert (b[a != b] == TOKENIZER.mask_id).all() and (a[a != b] >= 5).all()
        changed, words = changed + (a != b).sum(), words + (a >= 5).sum()
    assert changed / words == pytest.approx(0.3, abs=0.02)
    with pytest.raises(DataError, match=r"has no \[MASK\]"):
        EncoderBatches(rows, ByteTokenizer(), 2, hidden=0.1)
    with pytest.raises(DataError, match="from 0 to below 1"):
        EncoderBatches(rows, TOKENIZER, 2, hidden=1.0)


def test_a_pass_takes_all_longest_first():
    rows = make(13)
    batches = list(rows_pass(rows, 4))
    labels = np.concatenate([batch[1] for batch in batches])
    assert labels.tolist() == longest_first(rows) and sorted(labels) == list(range(13))
    assert [batch[0].shape[1] for batch in batches] == sorted((batch[0].shape[1] for batch in batches), reverse=True)
