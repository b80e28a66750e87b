"""Metrics: the numbers of sacrebleu and rouge-score on any text; known answers for the rest."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinyllm import metrics

words = st.sampled_from(
    ["the", "The", "cat", "cat's", "sat", "on", "a", "mat", ",", ".", "...", "1,000.5", "5-", "-", "x-y", "&amp;", "&quot;a",
     "(b)", "$3.", "über", "東京", "<skipped>", "\n", "-\n", "a.b", "3.", ".3", "!?", "  ", "\u00a0", "'s", "a..5", "[c]_d"]
)  # fmt: skip
texts = st.lists(words, max_size=12).map(" ".join) | st.lists(words, max_size=5).map("".join) | st.text(max_size=20)
corpora = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.tuples(texts, st.lists(texts, min_size=n, max_size=n)), min_size=1, max_size=5)
)


@given(corpora)
@example([("The cat sat on the mat .", ["The cat sat on a mat."]), ("5-year", ["a 5-year plan, 1,000.5 ..."])])
def test_bleu_and_chrf_are_sacrebleus(corpus):
    sacrebleu = pytest.importorskip("sacrebleu", reason="the script that others' BLEU comes from")
    hypotheses, references = [h for h, _ in corpus], [r for _, r in corpus]
    by_stream = [list(stream) for stream in zip(*references)]
    expected = sacrebleu.corpus_bleu(hypotheses, by_stream, force=True).score
    assert metrics.bleu(hypotheses, references) == pytest.approx(expected, abs=1e-9)
    expected = sacrebleu.corpus_chrf(hypotheses, by_stream).score
    assert metrics.chrf(hypotheses, references) == pytest.approx(expected, abs=1e-9)


@given(corpora)
def test_rouge_is_rouge_scores(corpus):
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="the package that others' ROUGE comes from")
    scorer = scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    theirs = [scorer.score_multi(references, hypothesis) for hypothesis, references in corpus]
    ours = metrics.rouge(*zip(*corpus))
    for name, value in ours.items():
        assert value == pytest.approx(np.mean([score[name].fmeasure for score in theirs]), abs=1e-12), name


def test_bleu_by_hand():
    hypothesis, reference = "the cat sat on the mat", "the cat is on the mat"
    assert metrics.bleu([reference], [reference]) == pytest.approx(100)
    precisions = 5 / 6 * 3 / 5 * 1 / 4 * 1 / 2 / 3  # of four words none matches: counted as half of one
    assert metrics.bleu([hypothesis], [reference]) == pytest.approx(100 * precisions**0.25)
    short = "the cat is on the"
    assert metrics.bleu([short], [reference]) == pytest.approx(100 * np.exp(1 - 6 / 5))
    assert metrics.bleu(["no match"], [reference]) == metrics.bleu([""], [reference]) == 0


def test_rouge_by_hand():
    result = metrics.rouge(["the cat sat on mats"], ["a cat sat quietly on the mats"])
    assert result["rouge1"] == pytest.approx(2 * 5 / 12)
    assert result["rouge2"] == pytest.approx(2 * 1 / 10)
    assert result["rougeL"] == pytest.approx(2 * 4 / 12)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_longest_common_subsequence(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else max(table[i, j + 1], table[i + 1, j])
    assert metrics.common_length(a, b) == table[-1, -1]


def test_accuracy_f1_matthews():
    predictions, targets = [1, 1, 0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 1, 0, 1, -100]  # TP 3, FP 1, FN 1, TN 2
    assert metrics.accuracy(predictions, targets) == pytest.approx(5 / 7)
    assert metrics.f1(predictions, targets) == pytest.approx(6 / 8)
    assert metrics.f1(predictions, targets, positive=None) == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert metrics.matthews(predictions, targets) == pytest.approx((3 * 2 - 1 * 1) / np.sqrt(4 * 4 * 3 * 3))
    assert metrics.matthews([0, 1, 2, 2], [0, 1, 2, 2]) == pytest.approx(1)
    assert metrics.matthews([1, 1, 1], [0, 1, 1]) == 0 == metrics.f1([0, 0], [0, 0])
    assert metrics.accuracy([], []) == metrics.matthews([], []) == metrics.f1([], [], positive=None) == 0
    with pytest.raises(ValueError, match=r"shape \(2,\) and targets \(1,\)"):
        metrics.accuracy([1, 2], [1])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_matthews_is_gorodkins_formula(pairs):
    """From the confusion matrix C: (N tr C - sum of row times column) / sqrt((N^2 - rows^2) (N^2 - columns^2))."""
    C = np.zeros((4, 4))
    for p, t in pairs:
        C[t, p] += 1
    N, rows, columns = C.sum(), C.sum(1), C.sum(0)
    size = np.sqrt((N**2 - rows @ rows) * (N**2 - columns @ columns))
    expected = (N * np.trace(C) - rows @ columns) / size if size else 0
    assert metrics.matthews(*zip(*pairs)) == pytest.approx(expected, abs=1e-9)


def test_exact_match():
    assert metrics.exact_match([" Paris", "Rome", "x"], ["Paris", ["Roma", "Rome "], "X"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Eiffel-Tower!", ["eiffeltower"], 1, 1),  # punctuation goes without a space in its place
        ("in the city of Paris", ["Paris", "Paris, France"], 0, 2 / 5),
        ("Paris France", ["paris", "Paris, France."], 1, 1),
        ("the the cat", ["cat cat"], 0, 2 / 3),
        ("", ["Paris"], 0, 0),
        ("", [], 1, 1),
        ("Paris", [], 0, 0),
        ("the", ["an"], 1, 1),  # nothing is left of either
        ("theatre", ["the atre"], 0, 0),
    ],
)
def test_squad_by_question(prediction, answers, exact, f1):
    assert metrics.squad_scores(prediction, answers) == pytest.approx((exact, f1))


def test_squad():
    answers = {"a": ["Paris"], "b": ["a red car"], "c": [], "d": [], "e": ["x"]}
    predictions = {"a": "paris", "b": "red bus", "c": "", "d": "no"}
    result = metrics.squad(predictions, answers)
    assert result == pytest.approx(
        {"exact": 40.0, "f1": 50.0, "HasAns_exact": 100 / 3, "HasAns_f1": 50.0, "NoAns_exact": 50.0, "NoAns_f1": 50.0}
    )
    assert set(metrics.squad({"a": "paris"}, {"a": ["Paris"]})) == {"exact", "f1"}
    result = metrics.squad(predictions, answers, no_answer={"a": 0.1, "b": 0.3, "c": 0.9, "d": 0.8})
    assert result["best_exact"] == pytest.approx(60) and result["best_exact_threshold"] == 0.1
    assert result["best_f1"] == pytest.approx(70) and result["best_f1_threshold"] == 0.3
    with pytest.raises(ValueError, match="no questions"):
        metrics.squad({}, {})


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="2 texts and references for 1"):
        metrics.bleu(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no reference for 'a'"):
        metrics.rouge(["a"], [[]])
    with pytest.raises(TypeError, match="into brackets"):
        metrics.chrf("a", "a")
