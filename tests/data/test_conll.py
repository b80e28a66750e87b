"""CoNLL files as people have them: comments, numbered columns, tabs and spaces. The right values are the files'."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyllm.data import DataError
from tinyllm.data.tagged import read_tagged

WORD = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"], blacklist_characters=" "), min_size=1, max_size=6
)
LABEL = st.sampled_from(["O", "B-LOC", "I-LOC"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("conll")


@given(
    st.lists(st.lists(st.tuples(WORD, LABEL), min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from("\t "),
    st.data(),
)
def test_words_and_labels_come_back(folder, texts, between, data):
    """Words of any characters, # and no-break spaces among them, with comments before each text."""
    assume(len({label for text in texts for _, label in text}) > 1)
    assume(not any(word.startswith("-DOCSTART-") for text in texts for word, _ in text))
    content = ""
    for text in texts:
        if data.draw(st.booleans()):
            content += "# text = a comment of some words\n"
        content += "".join(f"{word}{between}_{between}{label}\n" for word, label in text) + "\n"
    assume(not is_numbered(texts))
    (folder / "words.conll").write_text(content, encoding="utf-8", newline="")
    found = read_tagged([folder / "words.conll"])
    assert found.words == [[word for word, _ in text] for text in texts]
    assert [[found.names[label] for label in row] for row in found.labels] == [
        [label for _, label in text] for text in texts
    ]


def is_numbered(texts):
    return all([word for word, _ in text] == [str(i + 1) for i in range(len(text))] for text in texts)


CONLLU = (
    "# sent_id = 1\n# text = Vámonos al mar\n"
    "1-2\tVámonos\t_\t_\t_\n1\tVamos\tir\tVERB\t_\n2\tnos\tnosotros\tPRON\t_\n3\tal\ta\tADP\t_\n"
    "3.1\tnada\t_\t_\t_\n4\tmar\tmar\tNOUN\t_\n"
)


@pytest.mark.parametrize(
    ("content", "column", "words", "names"),
    [
        ("# id 7f3\tx=en\nOslo _ _ B-LOC\nis _ _ O\n\n# id 7f4\tx=en\ncold _ _ O\n", -1, [["Oslo", "is"], ["cold"]], None),
        (CONLLU, 3, [["Vamos", "nos", "al", "mar"]], ["ADP", "NOUN", "PRON", "VERB"]),
        ("1\tOslo\tNNP\n2\tis\tVBZ\n\n1\tcold\tJJ\n", -1, [["Oslo", "is"], ["cold"]], ["JJ", "NNP", "VBZ"]),
        ("1\tB-NUM\n2\tB-NUM\n3\tO\n", -1, [["1", "2", "3"]], None),  # two columns: the numbers are the words
        ("see O\n# O\n5 O\nOslo B-LOC\n", -1, [["see", "#", "5", "Oslo"]], None),
        ("# O\n1 O\nOslo B-LOC\n", -1, [["#", "1", "Oslo"]], None),
        ("#1 B-RANK\nOslo O\n", -1, [["#1", "Oslo"]], None),
        ("10\u00a0000\tB-NUM\n\u3000\tO\n", -1, [["10\u00a0000", "\u3000"]], None),
        ("10\u00a0000 B-NUM\nok O\n", -1, [["10\u00a0000", "ok"]], None),
        ("a  x   O\nb  y   B-LOC\n", -1, [["a", "b"]], None),
        ("New York\tB-LOC\nis\tO\n", -1, [["New York", "is"]], None),
    ],
)  # fmt: skip
def test_forms(tmp_path, content, column, words, names):
    path = tmp_path / "words.conll"
    path.write_text(content, encoding="utf-8")
    found = read_tagged([path], column)
    assert found.words == words and (names is None or found.names == names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb B-LOC\n", "line 2, has no tab, and line 1 has"),
        ("a\tx\tO\nb\tB-LOC\n", "line 2, has 2 columns, and line 1 of the same text has 3"),
        ("a\tO\n\tB-LOC\n", "line 2: its word or its label, in column -1, is empty"),
        ("# only\n# comments here\n", "holds no words"),
        ("a x O\n# a comment of words\nb y B-LOC\n", "line 2, has 5 columns"),
    ],
)
def test_refusals(tmp_path, content, message):
    path = tmp_path / "words.conll"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_tagged([path])
