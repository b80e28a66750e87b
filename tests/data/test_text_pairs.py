"""Pairs of texts: read from every form that users have; batched with nothing lost; tasks mixed in proportion."""

from __future__ import annotations

import ast
import gzip
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import DataError
from tinyllm.data.made import LANGUAGES, code_without_documentation, date_pairs, function_pairs
from tinyllm.data.pair_batches import PairBatches, PairExample, encoded, padded_pairs, pair_examples, pairs_pass
from tinyllm.data.stdlib import first_sentence
from tinyllm.data.text_pairs import Pairs, read_pairs
from tinyllm.tokenizers import UnigramTokenizer

# Reading ---------------------------------------------------------------------------------------------------------------


def test_two_files_of_lines(tmp_path):
    (tmp_path / "train.en").write_text("A dog.\nTwo\x85cats.\n\nA bird.\n", encoding="utf-8")
    with gzip.open(tmp_path / "train.de.gz", "wt", encoding="utf-8") as file:
        file.write("Ein Hund.\nZwei Katzen.\nLeer.\nEin Vogel.\n")
    pairs = read_pairs(tmp_path / "train", "en", "de")
    assert pairs.sources == ["A dog.", "Two\x85cats.", "A bird."]  # the empty line, and what stands beside it, is left out
    assert pairs.targets == ["Ein Hund.", "Zwei Katzen.", "Ein Vogel."]
    assert read_pairs(tmp_path / "train", "de", "en").targets[0] == "A dog."


def test_two_files_that_do_not_fit(tmp_path):
    (tmp_path / "a.en").write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.en is there and .*a\.de is not"):
        read_pairs(tmp_path / "a", "en", "de")
    (tmp_path / "a.de").write_text("eins\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.en has 2 lines and .*a\.de 1"):
        read_pairs(tmp_path / "a", "en", "de")


@pytest.mark.parametrize(
    ("name", "text", "sides"),
    [
        ("a.tsv", 'Hi.\tHallo!\nA "dog"\tEin "Hund"\n', ()),
        ("a.txt", 'Hi.\tHallo!\nA "dog"\tEin "Hund"\n', ()),
        ("a.tsv", 'Hallo!\tHi.\nEin "Hund"\tA "dog"\n', ("2", "1")),
        ("a.csv", 'german,english\nHallo!,Hi.\n"Ein ""Hund""","A ""dog"""\n', ("english", "german")),
        ("a.jsonl", '{"source": "Hi.", "target": "Hallo!"}\n{"source": "A \\"dog\\"", "target": "Ein \\"Hund\\""}\n', ()),
        ("a.json", '[{"x": "Hi.", "y": "Hallo!"}, {"x": "A \\"dog\\"", "y": "Ein \\"Hund\\""}]', ("x", "y")),
        ("a.json", '[{"x": "Hi.", "y": "Hallo!"}, {"x": "A \\"dog\\"", "y": "Ein \\"Hund\\""}]', ("x", None)),
    ],
)
def test_tables(tmp_path, name, text, sides):
    (tmp_path / name).write_text(text, encoding="utf-8")
    pairs = read_pairs(tmp_path / name, *sides)
    assert pairs.sources == ["Hi.", 'A "dog"'] and pairs.targets == ["Hallo!", 'Ein "Hund"']


def test_several_summaries_are_references(tmp_path):
    entries = [
        {"source": ["First.", "Second."], "target": ["One.", "Another."]},
        {"source": ["Third."], "target": ["Only one."]},
        {"source": ["None."], "target": []},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    pairs = read_pairs(tmp_path / "a.jsonl")
    assert pairs.sources == ["First. Second.", "Third."]
    assert pairs.references == [("One.", "Another."), ("Only one.",)] and pairs.targets == ["One.", "Only one."]


def test_what_is_no_table_of_pairs(tmp_path):
    (tmp_path / "a.json").write_text('[{"x": "1", "y": "2", "z": "3"}]', encoding="utf-8")
    with pytest.raises(DataError, match="which column is the target.*x, y, z"):
        read_pairs(tmp_path / "a.json")
    (tmp_path / "b.tsv").write_text("\t\n \tb\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no pair"):
        read_pairs(tmp_path / "b.tsv")
    with pytest.raises(DataError, match="does not exist"):
        read_pairs(tmp_path / "c", "en", "de")


def test_equal_sources_stay_on_one_side():
    pairs = Pairs([f"text {i // 3}" for i in range(60)], [(str(i),) for i in range(60)])
    learned, held_out = pairs.split(0.2)
    assert len(learned) + len(held_out) == 60 and len(held_out) == 12
    assert not set(learned.sources) & set(held_out.sources)
    assert pairs.fingerprint() != learned.fingerprint() == pairs.split(0.2)[0].fingerprint()


# What is made ----------------------------------------------------------------------------------------------------------


def test_dates():
    dates = read_pairs("dates", "en", "fr")
    pairs = dict(zip(dates.sources, dates.references))
    assert all(len(lang.months.split()) == 12 and len(lang.weekdays.split()) == 7 for lang in LANGUAGES.values())
    assert pairs["Saturday, March 18, 2056"] == ("samedi 18 mars 2056",)
    assert any("1er " in target for (target,) in pairs.values())
    assert date_pairs("en", "de", 3) == date_pairs("en", "de", 5)[:3]
    assert dict(date_pairs("de", "es"))["24. August 2008"] == ("24 de agosto de 2008",)
    assert dict(date_pairs("en", "ro"))["August 24, 2008"] == ("24 august 2008",)
    with pytest.raises(DataError, match="known in en, de, .*'nl'"):
        read_pairs("dates", "en", "nl")


def test_functions_do_not_give_away_their_summaries():
    pairs = function_pairs()
    assert len(pairs) > 1000 and len({code for code, _ in pairs}) == len(pairs)
    for code, (sentence,) in pairs[::50]:
        ast.parse(code)
        assert sentence.endswith(".") and sentence not in code
    node = ast.parse('@cache\ndef f(x: int) -> int:\n    """Doubles x."""\n    return 2 * x').body[0]
    assert code_without_documentation(node) == "def f(x: int) -> int:\n    return 2 * x"
    assert all(sentence[0].isalpha() for _, (sentence,) in pairs)
    assert first_sentence("Returns the first\nline.", 15, 100) == first_sentence("See x.", 15, 100) == ""
    assert first_sentence(" Returns the first.\n", 15, 100) == "Returns the first."


# Batches ---------------------------------------------------------------------------------------------------------------


def example(number, n=3):
    return PairExample(np.array([number + 10] * n + [1]), np.array([number + 1000] * n + [1]))


def test_padding_and_shifting():
    source, target_in, targets, mask = padded_pairs([example(0, 1), example(1, 3)], start=7, pad=5)
    assert source.tolist() == [[10, 1, 5, 5], [11, 11, 11, 1]]
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    assert targets.tolist() == [[1000, 1, -100, -100], [1001, 1001, 1001, 1]]
    assert target_in.tolist() == [[7, 1000, 1, 5], [7, 1001, 1001, 1001]]


def numbers(batch):
    return [int(row[0]) - 10 for row in batch[0]]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(0, 12), st.integers(1, 7), st.integers(0, 9))
def test_an_epoch_has_of_each_task_what_its_share_is(sizes, cap, batch_size, seed):
    """And over the epochs each example comes as often as any other of its task, give or take one."""
    ends = np.cumsum(sizes)
    tasks = [[example(i, 1 + i % 5) for i in range(end - size, end)] for size, end in zip(sizes, ends)]
    shares = [min(size, cap or size) for size in sizes]
    epochs = 5
    row = PairBatches(tasks, batch_size, seed, cap=cap)
    assert row.count == sum(shares)
    drawn = []
    while len(drawn) < epochs * row.count:
        drawn += numbers(next(row))
    for epoch in range(epochs):
        tasks_of = np.searchsorted(ends, drawn[epoch * row.count : (epoch + 1) * row.count], side="right")
        assert [int((tasks_of == task).sum()) for task in range(len(sizes))] == shares
    counts = Counter(drawn[: epochs * row.count])
    for size, end in zip(sizes, ends):
        often = [counts[i] for i in range(end - size, end)]
        assert max(often) - min(often) <= 1


def test_a_row_goes_on_where_it_stood():
    tasks = [[example(i, 1 + i % 7) for i in range(50)], [example(i) for i in range(50, 60)]]
    row = PairBatches(tasks, 4, seed=2, cap=20)
    seen = [next(row) for _ in range(30)]
    other = PairBatches(tasks, 4, seed=2, cap=20)
    for _ in range(11):
        next(other)
    again = PairBatches(tasks, 4, seed=2, cap=20)
    again.load_state_dict(other.state_dict())
    for before, after in zip(seen[11:], again):
        for a, b in zip(before, after):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(DataError, match="other data"):
        PairBatches(tasks, 4, seed=2, cap=30).load_state_dict(other.state_dict())


def test_like_lengths_share_a_batch():
    random = np.random.default_rng(0)
    examples = [example(i, n) for i, n in enumerate(random.integers(1, 60, 640).tolist())]
    batches = list(itertools.islice(PairBatches([examples], 16), 40))
    filled = sum(mask.sum() for *_, mask in batches) / sum(mask.size for *_, mask in batches)
    assert filled > 0.9
    means = [mask.sum(1).mean() for *_, mask in batches]
    assert means != sorted(means)


def test_the_pass_for_validation_has_every_example_once():
    examples = [example(i, 1 + i % 9) for i in range(23)]
    batches = list(pairs_pass(examples, 5, start=0, pad=0))
    assert sorted(itertools.chain(*map(numbers, batches))) == list(range(23)) and len(batches) == 5


def test_texts_become_examples():
    tokenizer = UnigramTokenizer.train(["translate a dog and a cat, ein Hund und eine Katze"] * 4, 160)
    end = tokenizer.eos_id
    pairs = Pairs(["a dog </s>", "a cat"], [("ein Hund",), ("eine Katze", "die Katze")])
    one, two = pair_examples(tokenizer, pairs, "translate ", 100, 4, end)
    assert one.source.tolist().count(end) == 1 and one.source[-1] == end  # a stranger's </s> is text
    assert tokenizer.decode(two.source[:-1]) == "translate a cat"
    assert len(one.target) <= 4 and one.target[-1] == end
    assert encoded(tokenizer, "eine Katze", 3, end) == [*tokenizer.encode("eine Katze")[:2], end]


def test_no_examples():
    with pytest.raises(DataError, match="each task needs examples"):
        PairBatches([[example(1)], []], 2)
