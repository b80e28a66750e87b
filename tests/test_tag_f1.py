"""The F1 of whole names equals seqeval's for every scheme of labels, whole or malformed."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.metrics import tag_f1, tag_spans

SCHEMES = {"IOB1": "IOB", "IOB2": "IOB", "IOE1": "IOE", "IOE2": "IOE", "IOBES": "IOBES", "BILOU": "BILOU"}
CASES = [
    ("O B I I O", "O B I O O", 0.0),  # B, I, O without a kind: the end is missed, no name is right
    ("B I O B", "B I O O", 2 / 3),
    ("I-X I-X O", "B-X I-X O", 1.0),  # IOB1
    ("B-PER E-PER S-PER", "B-PER I-PER S-PER", 2 / 3),  # BIOES: a beginning without an end is no name
    ("B-PER E-PER O O", "B-PER O O E-PER", 0.0),
    ("B-X E-X O O O", "B-X E-X O B-X I-X", 1.0),  # BIOES without S: what has no end is not even wrong
    ("B-X L-X U-X", "B-X I-X U-X", 2 / 3),
    ("S S O", "S O O", 2 / 3),
    ("E-X O E-X", "E-X O O", 2 / 3),  # IOE2
]


@pytest.mark.parametrize(("true", "said", "value"), CASES)
def test_values_by_hand(true, said, value):
    assert tag_f1([said.split()], [true.split()]) == pytest.approx(value, abs=1e-12)


def test_labels_that_do_not_occur_decide_the_scheme():
    said, true = [["B-X", "I-X"]], [["B-X", "I-X"]]
    assert tag_f1(said, true) == 1.0
    assert tag_f1(said, true, names=["O", "B-X", "I-X", "E-X", "S-X"]) == 0.0  # of BIOES, where neither has an end


def test_parts_of_speech_may_be_single_letters():
    assert tag_spans("B NOUN I".split()) == {("B", 0, 1), ("NOUN", 1, 2), ("I", 2, 3)}


@pytest.mark.parametrize("kinds", [["-X", "-Y", "-X-Z"], [""], ["", "-X"]])
@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=60)
@given(data=st.data())
def test_equals_seqeval(scheme, kinds, data):
    """Random sequences, most of them malformed, of several texts at a time."""
    seqeval = pytest.importorskip("seqeval.metrics", reason="compares with seqeval: pip install 'tinyllm-numpy[peers]'")
    schemes = pytest.importorskip("seqeval.scheme")
    names = ["O", *(letter + kind for letter in SCHEMES[scheme] if letter != "O" for kind in kinds)]
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))
    true, said = ([data.draw(st.lists(st.sampled_from(names), min_size=n, max_size=n)) for n in lengths] for _ in range(2))
    strict = {"mode": "strict", "scheme": getattr(schemes, scheme)} if scheme in ("IOBES", "BILOU") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = seqeval.f1_score(true, said, zero_division=0, **strict)
    assert tag_f1(said, true, names) == pytest.approx(expected, abs=1e-12)
