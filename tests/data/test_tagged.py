"""Tagged words: CoNLL files and JSON lines, what is refused, notes of our own, rows whose first pieces have the label."""

import numpy as np
import pytest

from tinyllm import metrics
from tinyllm.data import IGNORED, DataError
from tinyllm.data.tagged import NOTES, Tagged, read_tagged
from tinyllm.tasks.labels import tagged_rows
from tinyllm.tokenizers import WordPieceTokenizer

CONLL = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nPeter NNP B-NP B-PER\nBlackburn NNP I-NP I-PER"


def test_conll(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(CONLL, encoding="utf-8")
    found = read_tagged([path])
    assert found.words == [["EU", "rejects"], ["Peter", "Blackburn"]] and found.names == ["O", "B-ORG", "B-PER", "I-PER"]
    assert found.labels == [[1, 0], [2, 3]]
    assert read_tagged([path], column=1).names == ["NNP", "VBZ"]
    with pytest.raises(DataError, match="line 3, has 4 columns: no word with a label in column 4"):
        read_tagged([path], column=4)
    with pytest.raises(DataError, match="before line 5, has the label 'B-ORG'; there are O, X"):
        read_tagged([path], names=["O", "X"])


def test_json_lines(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}\n{"tokens": ["c"], "ner_tags": ["O"]}', encoding="utf-8"
    )
    assert read_tagged([path]).labels == [[0, 1], [0]]
    path.write_text('{"tokens": ["a", "b"], "tags": ["O"]}', encoding="utf-8")
    with pytest.raises(DataError, match="line 1, should have lists of one length"):
        read_tagged([path])


def test_notes_of_our_own_and_their_split():
    notes = read_tagged([NOTES])
    learned, held_out = notes.split(0.2)
    assert len(notes) == len(learned) + len(held_out) == 600 and 50 < len(held_out) < 200
    assert not {" ".join(words) for words in learned.words} & {" ".join(words) for words in held_out.words}
    assert notes.names[0] == "O" and "I-TIME" in notes.names and notes.fingerprint() != learned.fingerprint()


def test_the_first_piece_of_a_word_has_its_label():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "##c", "d"]
    tokenizer = WordPieceTokenizer.train(["x"], 7)
    tokenizer = type(tokenizer)({token: i for i, token in enumerate(tokens)}, settings=tokenizer.settings)
    part = Tagged([["abc", "d", "ab"]], [[1, 0, 2]], ["O", "X", "Y"])
    (row,) = tagged_rows(tokenizer, part, 8)
    assert row.tokens.tolist() == [2, 5, 6, 7, 5, 3] and row.target.tolist() == [IGNORED, 1, IGNORED, 0, 2, IGNORED]
    rows = tagged_rows(tokenizer, part, 4)  # windows: each word is learned once
    assert [row.tokens.tolist() for row in rows] == [[2, 5, 6, 3], [2, 6, 7, 3], [2, 7, 5, 3]]
    assert [row.target[1:3].tolist() for row in rows] == [[1, IGNORED], [IGNORED, 0], [IGNORED, 2]]
    assert rows[0].types.tolist() == [0] * 4 and rows[0].target.dtype == np.int64


def test_f1_of_whole_names():
    assert metrics.tag_spans("O B-A I-A B-A O I-B I-A NOUN".split()) == {
        ("A", 1, 3), ("A", 3, 4), ("B", 5, 6), ("A", 6, 7), ("NOUN", 7, 8),
    }  # fmt: skip
    true = ["B-A I-A O".split(), "O B-B".split()]
    assert metrics.tag_f1(true, true) == 1.0
    assert metrics.tag_f1(["B-A O O".split(), "O B-B".split()], true) == 0.5  # one of two is right, two of two said
    assert metrics.tag_f1([["O"]], [["O"]]) == 0.0
    with pytest.raises(ValueError, match="has 1 words, and 2 labels"):
        metrics.tag_f1([["O", "O"]], [["O"]])
