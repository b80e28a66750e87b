"""Pretraining data: what is hidden, which pairs are made, every passage once an epoch, all of it from the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import IGNORED, DataError
from tinyllm.data.masking import MaskedPairs, Sentences, chosen, continuing, passages
from tinyllm.tokenizers import ByteTokenizer, WordPieceTokenizer

random = np.random.default_rng(0)
DOCUMENTS = [
    " ".join(" ".join(random.choice([f"{d}{w}" for w in "abcdefgh"], 6)) + "." for _ in range(20)) for d in "xyz"
]  # the words of each document begin with its letter
TOKENIZER = WordPieceTokenizer.train(DOCUMENTS, 60)
TEXT = Sentences.of(DOCUMENTS, TOKENIZER, 14)


def batches(**options):
    return MaskedPairs(TEXT, TOKENIZER, **{"batch_size": 4, "length": 32, **options})


def restored(tokens, targets):
    return np.where(targets == IGNORED, tokens, targets)


def test_sentences_are_the_text_in_order():
    assert TEXT.starts[-1] == len(TEXT.tokens) and len(TEXT.document) == len(TEXT.starts) - 1
    assert TEXT.tokens.tolist() == [id for text in DOCUMENTS for id in TOKENIZER.encode(text)]
    assert np.diff(TEXT.starts).max() <= 14 and TEXT.document.tolist() == sorted(TEXT.document)
    assert TEXT[2:4].tolist() == TEXT.tokens[TEXT.starts[2] : TEXT.starts[4]].tolist()


def test_passages_fill_a_row_and_stay_within_a_document():
    found = passages(TEXT, 29)
    assert found[0, 0] == 0 and found[-1, 1] == len(TEXT.document) and (found[1:, 0] == found[:-1, 1]).all()
    for first, end in found.tolist():
        assert TEXT.document[first] == TEXT.document[end - 1]
        assert len(TEXT[first:end]) <= 29
        last = end == len(TEXT.document) or TEXT.document[end] != TEXT.document[first]
        assert last or len(TEXT[first : end + 1]) > 29


def test_split_keeps_documents_whole():
    learned, held_out = TEXT.split(0.3)
    assert set(learned.document) == {0, 1} and set(held_out.document) == {2}
    assert [*learned.tokens, *held_out.tokens] == TEXT.tokens.tolist() and held_out.starts[0] == 0
    with pytest.raises(DataError, match="between 0 and 1"):
        TEXT.split(1.0)


def test_pairs():
    """A row is [CLS] a [SEP] b [SEP]; b follows a in the text, or is of another document, about as often."""
    row = batches()
    everything = DOCUMENTS_TOKENS = " ".join(map(str, TEXT.tokens))
    seen = []
    for _ in range(60):
        tokens, targets, types, mask, follows = next(row)
        assert tokens.shape == targets.shape == types.shape == mask.shape and follows.shape == (4,)
        for ids, kinds, real, elsewhere in zip(restored(tokens, targets), types, mask, follows):
            ids, kinds = ids[real].tolist(), kinds[real].tolist()
            assert len(ids) <= 32 and not kinds[0] and kinds == sorted(kinds) and not types[~mask].any()
            a, b = ids[1 : kinds.index(1) - 1], ids[kinds.index(1) : -1]
            assert ids[0] == TOKENIZER.cls_id and ids[kinds.index(1) - 1] == ids[-1] == TOKENIZER.sep_id and a and b
            together = " ".join(map(str, a + b)) in everything
            letters = [TOKENIZER.decode(part).replace(".", " ").split()[0][0] for part in (a, b)]
            assert together if not elsewhere else letters[0] != letters[1]
            seen.append(elsewhere)
    assert 0.4 < np.mean(seen) < 0.65 and DOCUMENTS_TOKENS


def test_one_document_gives_pairs_too():
    text = Sentences.of(DOCUMENTS[:1], TOKENIZER, 14)
    row = MaskedPairs(text, TOKENIZER, 8, 32)
    for _ in range(10):
        next(row)
    with pytest.raises(DataError, match="too few for pairs"):
        MaskedPairs(Sentences.of(["xa xb."], TOKENIZER, 14), TOKENIZER, 8, 32)


def test_passages_without_pairs():
    tokens, targets, types, mask = next(batches(pairs=False))
    assert not types.any() and (restored(tokens, targets)[:, 0] == TOKENIZER.cls_id).all()
    assert [row[real][-1] for row, real in zip(restored(tokens, targets), mask)] == [TOKENIZER.sep_id] * 4


def test_fifteen_of_a_hundred_are_hidden_eight_in_ten_by_mask():
    row = batches(length=64, batch_size=32)
    tokens, targets, _, mask, _ = (
        np.concatenate([a.ravel() for a in arrays]) for arrays in zip(*(next(row) for _ in range(40)))
    )
    hidden = targets != IGNORED
    special = np.isin(np.where(hidden, targets, tokens), list(TOKENIZER.special_tokens.values()))
    assert not (hidden & special).any() and not hidden[~mask.astype(bool)].any()
    assert hidden.sum() / (~special).sum() == pytest.approx(0.15, abs=0.01)
    masked, same = (tokens == TOKENIZER.mask_id)[hidden], (tokens == targets)[hidden]
    assert masked.mean() == pytest.approx(0.8, abs=0.02) and same.mean() == pytest.approx(0.1, abs=0.02)


def test_whole_words_are_hidden_together():
    words = WordPieceTokenizer(
        {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "##b": 6, "##c": 7, "d": 8}
    )
    assert continuing(words).tolist() == [False] * 6 + [True, True, False]
    tokens = np.array([2, 5, 6, 7, 8, 5, 6, 3, 5, 8, 8, 3])
    allowed = ~np.isin(tokens, [2, 3])
    groups = [{1, 2, 3}, {4}, {5, 6}, {8}, {9}, {10}]
    for seed in range(50):
        picked = set(chosen(tokens, allowed, 0.4, continuing(words), np.random.default_rng(seed)).tolist())
        assert picked == set().union(*(group for group in groups if group & picked)) and 1 <= len(picked) <= 4
    with pytest.raises(DataError, match="WordPiece tokenizers alone"):
        continuing(ByteTokenizer())


@given(st.integers(1, 7), st.integers(0, 50))
def test_each_passage_once_an_epoch(batch, seed):
    row = batches(batch_size=batch, seed=seed)
    taken = []
    row.row = lambda passage, epoch: taken.append((epoch, passage)) or MaskedPairs.row(row, passage, epoch)
    for position in range(0, 2 * row.count + batch, batch):
        row.at(position)
    for epoch in (0, 1):
        assert sorted(passage for e, passage in taken if e == epoch) == list(range(row.count))


def test_masks_are_drawn_anew_each_epoch_from_the_seed_alone():
    row = batches(batch_size=1)
    first = [next(row) for _ in range(row.count)]
    state = row.state_dict()
    second = [next(row) for _ in range(row.count)]
    other = batches(batch_size=1)
    other.load_state_dict(state)
    for theirs in second:
        for a, b in zip(theirs, next(other)):
            np.testing.assert_array_equal(a, b)
    before = {restored(*batch[:2]).tobytes(): batch[0] for batch in first}
    again = [(batch[0], before[key]) for batch in second if (key := restored(*batch[:2]).tobytes()) in before]
    assert not again or any(a.shape != b.shape or (a != b).any() for a, b in again)
    assert any((a[0].shape != b[0].shape) or (a[0] != b[0]).any() for a, b in zip(first, second))
    with pytest.raises(DataError, match="the saved position belongs to other data"):
        batches(seed=1).load_state_dict(state)


def test_a_pass_is_the_same_each_time_and_takes_all():
    row = batches(batch_size=5)
    one, other = list(row.one_pass()), list(row.one_pass())
    assert sum(len(batch[0]) for batch in one) == row.count
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a[0], b[0])


def test_what_cannot_be():
    with pytest.raises(DataError, match=r"no \[MASK\]"):
        MaskedPairs(TEXT, ByteTokenizer(), 4, 32)
    with pytest.raises(DataError, match="between 0 and 1, and is 0"):
        batches(share=0.0)
    with pytest.raises(DataError, match="batch_size is 0, but a batch needs at least 1 row"):
        batches(batch_size=0)
    with pytest.raises(DataError, match="no sentence"):
        Sentences.of(["", " \n\n"], TOKENIZER, 14)
