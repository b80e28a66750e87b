"""Questions on paragraphs: files that are read and refused, windows, and answers that map back to the characters."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import DataError
from tinyllm.data.squad import TOWNS, Question, read_squad, windows
from tinyllm.tokenizers import ByteTokenizer, WordPieceTokenizer

CONTEXT = "Élan Vital lies, as all agree, on the river Ouse; 12,300 people live there. They make clocks."
TOKENIZER = WordPieceTokenizer.train([CONTEXT, "where is it?"], 90)


def asked(answer, context=CONTEXT, id="q"):
    return Question(id, "Where is it?", context, (answer,), (context.index(answer),))


def squad_file(path, qas, context=CONTEXT):
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": qas}]}]}), encoding="utf-8")
    return path


def test_both_versions_are_read(tmp_path):
    qas = [
        {"id": "1", "question": "On which river?", "answers": [{"text": "Ouse", "answer_start": CONTEXT.index("Ouse")}]},
        {"id": "2", "question": "When?", "answers": [], "is_impossible": True, "plausible_answers": []},
    ]
    one, two = read_squad(squad_file(tmp_path / "dev.json", qas))
    assert one == Question("1", "On which river?", CONTEXT, ("Ouse",), (CONTEXT.index("Ouse"),))
    assert two.answers == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, is neither JSON nor JSON lines"),
        ("[]", "holds no question"),
        ("3", "not in SQuAD's form"),
        ('{"data": []}', "holds no question"),
        ('{"data": [{"paragraphs": [{"qas": [{"id": 1}]}]}]}', "not in SQuAD's form"),
        (
            '{"data": [{"paragraphs": [{"context": "ab", "qas": '
            '[{"id": 1, "question": "?", "answers": [{"text": "b", "answer_start": 0}]}]}]}]}',
            "question 1: its answer 'b' is not at answer_start 0",
        ),
        (
            '[{"id": 1, "question": "?", "context": "ab", "answers": {"text": ["b"], "answer_start": [-1]}}]',
            "question 1: an answer has a text and the place where it starts",
        ),
        (
            '{"question": "?", "context": "ab"}\n{"question": 3, "context": "ab"}',
            "line 2: it should have the texts question and",
        ),
        ('{"data": [{"paragraphs": [{"context": 3, "qas": [{"id": 1, "question": "?"}]}]}]}', "should be texts"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_squad(path)
    with pytest.raises(DataError, match="does not exist"):
        read_squad(tmp_path / "none.json")


def test_rows_with_their_own_context(tmp_path):
    """As Hugging Face's data sets have them."""
    rows = [
        {"id": "1", "question": "Which river?", "context": CONTEXT, "answers": {"text": ["Ouse"], "answer_start": [44]}},
        {"id": "2", "question": "When?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}},
    ]
    assert CONTEXT[44:48] == "Ouse"
    for name, text in [("rows.json", json.dumps(rows)), ("rows.jsonl", "\n".join(map(json.dumps, rows)))]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        one, two = read_squad(tmp_path / name)
        assert one == Question("1", "Which river?", CONTEXT, ("Ouse",), (44,)) and two.answers == ()


def test_the_questions_of_our_own():
    questions = read_squad(TOWNS)
    assert len(questions) > 500 and 0.1 < np.mean([not question.answers for question in questions]) < 0.3
    assert read_squad(TOWNS) == questions  # each answer's place was checked by reading


@given(st.integers(16, 60), st.integers(1, 50), st.sampled_from(["Élan Vital", "Ouse", "12,300", "clocks", CONTEXT[-3:-1]]))
def test_every_token_is_in_a_window_and_answers_map_back(length, stride, answer):
    question = asked(answer)
    made = windows(TOKENIZER, [question], length, stride)
    ids, offsets = TOKENIZER.encode_with_offsets(CONTEXT)
    covered = set()
    for row in made:
        assert len(row.tokens) == len(row.types) <= length and row.number == 0
        assert row.tokens[0] == TOKENIZER.cls_id and row.tokens[-1] == TOKENIZER.sep_id
        assert row.types[row.first :].all() and not row.types[: row.first].any() and row.end == len(row.tokens) - 1
        begin = offsets.index(tuple(row.offsets[0]))
        assert row.tokens[row.first : row.end].tolist() == ids[begin : begin + len(row.offsets)]
        covered |= set(map(tuple, row.offsets.tolist()))
        s, e = row.target
        if s:
            assert row.first <= s <= e < row.end
            text = CONTEXT[row.offsets[s - row.first, 0] : row.offsets[e - row.first, 1]]
            assert answer in text and len(text) <= len(answer) + 12  # a piece may go on beyond the answer
        else:
            assert e == 0
            whole = row.offsets[0, 0] <= question.starts[0] and question.starts[0] + len(answer) <= row.offsets[-1, 1]
            assert not whole
    assert covered == set(offsets)
    starts = [offsets.index(tuple(row.offsets[0])) for row in made]
    assert all(0 < b - a <= stride for a, b in zip(starts, starts[1:]))


def test_a_question_without_answer_points_to_cls():
    (row,) = windows(TOKENIZER, [Question("q", "Where?", CONTEXT)], 384)
    assert row.target.tolist() == [0, 0] and row.tokens[0] == TOKENIZER.cls_id


def test_what_cannot_be():
    with pytest.raises(DataError, match=r"no room for a context behind a question of \d+"):
        windows(TOKENIZER, [asked("Ouse")], 7)
    with pytest.raises(DataError, match="its context has no tokens"):
        windows(TOKENIZER, [Question("q", "?", " ")], 20)
    with pytest.raises(DataError, match="not by ByteTokenizer"):
        windows(ByteTokenizer(), [asked("Ouse")], 20)
    with pytest.raises(DataError, match="stride"):
        windows(TOKENIZER, [asked("Ouse")], 20, 0)
