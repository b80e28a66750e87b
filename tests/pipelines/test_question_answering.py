"""Answers: the best span of all windows, mapped back to the text; the command; and measures on a file."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import tinyllm
from tinyllm import cli
from tinyllm.data.squad import Question, windows
from tinyllm.models import BERTForQuestionAnswering, BERTForSequenceClassification
from tinyllm.pipelines.question_answering import best_answers, best_span
from tinyllm.tokenizers import WordPieceTokenizer

CONTEXT = "Élan lies on the Ouse. " * 4 + "It makes clocks, 12,300 a year! " + "All of them are sold. " * 5
TOKENIZER = WordPieceTokenizer.train([CONTEXT, "what does it make?"], 90)


@pytest.fixture(scope="module")
def model():
    return BERTForQuestionAnswering.tiny(vocab_size=TOKENIZER.vocab_size, max_position_embeddings=48, initializer_range=0.5)


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 100))
def test_the_best_span_is_the_best_of_all(n, longest, seed):
    s, e = np.random.default_rng(seed).standard_normal((2, n))
    score, i, j = best_span(s, e, longest)
    assert score == max(s[a] + e[b] for a in range(n) for b in range(a, min(n, a + longest))) == s[i] + e[j]
    assert i <= j < i + longest


def test_the_answer_is_the_best_of_all_windows():
    """Logits that speak for one span of the text, wherever windows show it, and for [CLS] where they do not."""
    question = Question("q", "what does it make?", CONTEXT, ("clocks, 12,300",), (CONTEXT.index("clocks"),))
    rows = windows(TOKENIZER, [question, question], 48, 20)
    logits = [np.zeros((len(row.tokens), 2)) for row in rows]
    for row, values in zip(rows, logits):
        if row.number == 0:
            s, e = row.target
            values[s, 0], values[e, 1] = 3.0, 4.0
            values[0] += 0.5
            values[1, 0], values[2, 1] = 99, 99  # the question itself can be no answer
    one, other = best_answers(rows, logits, [CONTEXT, CONTEXT])
    assert (one.text, one.start) == ("clocks, 12,300", question.starts[0]) and CONTEXT[one.start : one.end] == one.text
    assert one.score == 7.0 - 1.0  # of the windows that show the answer [CLS] scores 0.5 twice
    assert other.score == 0.0


def test_in_batches_as_alone(model):
    asked = [("what does it make?", CONTEXT), ("where?", "On the Ouse."), ("how many clocks?", CONTEXT[50:150])]
    together = tinyllm.answer(model, TOKENIZER, asked, batch_size=3, stride=10)
    alone = [tinyllm.answer(model, TOKENIZER, [one], batch_size=1, stride=10)[0] for one in asked]
    for a, b, (_, context) in zip(together, alone, asked):
        assert (a.text, a.start, a.end) == (b.text, b.start, b.end) and a.score == pytest.approx(b.score, abs=1e-5)
        assert context[a.start : a.end] == a.text != ""
    assert {one.text for one in tinyllm.answer(model, TOKENIZER, asked, threshold=1e9)} == {""}


def test_what_cannot_be(model):
    with pytest.raises(ValueError, match="BERTForSequenceClassification finds no answers"):
        tinyllm.answer(BERTForSequenceClassification.tiny(), TOKENIZER, [("a", "b")])
    with pytest.raises(ValueError, match="the context of question 2 is empty"):
        tinyllm.answer(model, TOKENIZER, [("a", "b"), ("a", " \n")])


def test_command(model, tmp_path):
    tinyllm.save(tmp_path / "model", model, TOKENIZER)
    (tmp_path / "text.txt").write_text(CONTEXT, encoding="utf-8")
    (found,) = tinyllm.answer(model, TOKENIZER, [("what?", CONTEXT)])
    about = ["answer", str(tmp_path / "model"), "--question", "what?", "--context", str(tmp_path / "text.txt")]
    assert CliRunner().invoke(cli.cli, about).output == f"{found.text}\n"
    assert f"\t{found.start}-{found.end}\t" in CliRunner().invoke(cli.cli, [*about, "--scores"]).output
    done = CliRunner().invoke(cli.cli, [*about[:4], "--context", "-", "--threshold", "1e9"], input=CONTEXT)
    assert done.output == "(no answer)\n"
    squad = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [{"id": "7", "question": "what?", "answers": []}]}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad), encoding="utf-8")
    done = CliRunner().invoke(cli.cli, ["answer", str(tmp_path / "model"), "--squad", str(tmp_path / "squad.json")])
    assert json.loads(done.output) == {"7": found.text}
    done = CliRunner().invoke(cli.cli, about[:4])
    assert done.exit_code == 1 and "--context FILE" in done.output


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("Go to the Cafe\u0301 au lait, now.", "Cafe\u0301"),  # the tokenizer drops the accent, the answer keeps it
        ("\u200bIt is \u0939\u093f\u0928\u094d\u0926\u0940 here", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("an I\u2764\ufe0f heart", "I\u2764\ufe0f"),
        ("e\u0301lan vital", "e\u0301lan"),
    ],
)
def test_answers_end_with_whole_characters(context, answer):
    tokenizer = WordPieceTokenizer.train([context, "what?"], 90)
    start = context.index(answer)
    (row,) = windows(tokenizer, [Question("q", "what?", context, (answer,), (start,))], 90, 20)
    logits = np.zeros((len(row.tokens), 2))
    logits[row.target[0], 0] = logits[row.target[1], 1] = 5.0
    (found,) = best_answers([row], [logits], [context])
    assert (found.text, found.start, found.end) == (answer, start, start + len(answer))
