"""Three parts of data: nothing is in two of them, nothing is lost but what was shared, and the test part stays whole."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyllm.data import DataError, Labelled
from tinyllm.data.parts import taken, text_parts, three_parts
from tinyllm.data.text_pairs import read_pairs

KEYS = st.lists(st.integers(0, 25), min_size=1, max_size=60)
FRACTIONS = st.tuples(st.sampled_from([0.1, 0.2, 0.4]), st.sampled_from([0.1, 0.3, 0.5]))


def divided(rows, validation=None, test=None, fractions=(0.1, 0.0), **options):
    return three_parts(rows, validation, test, fractions, lambda part: [str(row) for row in part], taken, **options)


@given(KEYS, FRACTIONS)
def test_equal_keys_come_into_one_part_of_about_its_size(rows, fractions):
    different = len(set(rows))
    assume(different >= 5)
    parts = divided(rows, fractions=fractions)
    assert parts.test is not None and not parts.notes
    three = [parts.learned, parts.validation, parts.test]
    assert sorted(sum(three, [])) == sorted(rows)  # nothing is lost
    assert all(three) and sum(len(set(part)) for part in three) == different  # no key is in two
    for part, fraction in zip(three[1:], fractions):
        assert abs(len(set(part)) - fraction * different) <= 1


@given(KEYS, KEYS, KEYS)
def test_files_lose_what_the_test_shares_with_them(rows, validation, test):
    learned, kept = set(rows) - set(validation) - set(test), set(validation) - set(test)
    if not (set(rows) - set(test)) or not kept or not learned:
        with pytest.raises(DataError, match="all of the"):
            divided(rows, validation, test)
        return
    parts = divided(rows, validation, test)
    assert parts.test == test
    assert parts.validation == [row for row in validation if row in kept]
    assert parts.learned == [row for row in rows if row in learned]
    left = len(rows) + len(validation) - len(parts.learned) - len(parts.validation)
    assert (left > 0) == ("Left out of the" in parts.notes)


def test_two_parts_are_as_before():
    rows = list(range(50))
    parts = divided(rows, rows[:5])
    assert (parts.learned, parts.validation, parts.test, parts.notes) == (rows, rows[:5], None, "")
    labels = np.array([i % 5 == 0 for i in rows], np.int64)
    data = Labelled([f"text {i}" for i in rows], labels, ["a", "b"])
    made = three_parts(data, None, None, (0.2, 0.0), Labelled.keys, Labelled.take, lambda part: part.labels.tolist())
    assert [made.learned.texts, made.validation.texts] == [part.texts for part in data.split(0.2)]
    made = three_parts(data, None, None, (0.2, 0.4), Labelled.keys, Labelled.take, lambda part: part.labels.tolist())
    assert [part.counts().tolist() for part in (made.learned, made.validation, made.test)] == [[16, 4], [8, 2], [16, 4]]


def test_the_end_of_a_text_is_the_test_and_what_is_before_it_validates():
    tokens = np.arange(100)
    parts = text_parts(tokens, None, (0.1, 0.2), None)
    assert [len(part) for part in (parts.learned, parts.validation, parts.test)] == [70, 10, 20]
    np.testing.assert_array_equal(np.concatenate([parts.learned, parts.validation, parts.test]), tokens)
    parts = text_parts(tokens, tokens[:7], (0.1, 0.0), None)
    assert [len(part) for part in (parts.learned, parts.validation, parts.test)] == [90, 10, 7]


def test_copies_are_about_the_text_that_they_were_made_from(tmp_path):
    texts = [f"The {a} cat saw the {a} dog here. Then the {a} dog ran very far. It was {a} and late too." for a in "rgbw"]
    path = tmp_path / "texts.csv"
    path.write_text("text,summary\n" + "".join(f"{text} Both slept in the end of it.,s\n" for text in texts), "utf-8")
    pairs, copies = read_pairs(path, "text", "summary"), read_pairs(f"copies:{path}", "text", "summary")
    assert set(copies.keys()) == set(pairs.keys()) and len(copies) > len(pairs)
    assert all(source.partition(" : ")[2] in key for source, key in zip(copies.sources, copies.keys()))
    learned, kept = copies.split(0.25)
    assert not set(learned.keys()) & set(kept.keys())
