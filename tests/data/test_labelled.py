"""Labelled texts and tables in every form that users have them, and refusals that say what to do."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import DataError, Labelled, held_out, read_labelled, read_table

ROWS = [("good, really", "pos"), ('bad "thing"', "neg"), ("fine\u0085day", "pos")]


def written(path, content):
    path.write_text(content, encoding="utf-8", newline="")
    return path


FORMS = {
    "headed.csv": 'text,label\n"good, really",pos\n"bad ""thing""",neg\nfine\u0085day,pos\n',
    "bare.csv": '"good, really",pos\r\n"bad ""thing""",neg\r\nfine\u0085day,pos\r\n',
    "first.tsv": 'pos\tgood, really\nneg\tbad "thing"\npos\tfine\u0085day\n',
    "bare": 'good, really\tpos\nbad "thing"\tneg\n\nfine\u0085day\tpos\n',
    "lines.jsonl": "\n".join(json.dumps({"Sentence": text, "label": label}) for text, label in ROWS),
    "list.json": json.dumps([{"label": label, "message": text, "id": 3} for text, label in ROWS]),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(tmp_path, name):
    data = read_labelled(written(tmp_path / name, FORMS[name]))
    assert data.texts == [text for text, _ in ROWS]
    assert data.names == ["neg", "pos"]
    np.testing.assert_array_equal(data.labels, [1, 0, 1])


def test_gzip(tmp_path):
    path = tmp_path / "rows.tsv.gz"
    path.write_bytes(gzip.compress(FORMS["first.tsv"].encode("utf-8")))
    assert read_labelled(path).texts == [text for text, _ in ROWS]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_labelled(path)


def test_columns_by_name_and_by_number(tmp_path):
    path = written(tmp_path / "a.csv", "v1,v2,v3\nham,hello,you\nspam,buy,now\n")
    data = read_labelled(path, text_column="v2", label_column="v1", second_column="v3")
    assert (data.texts, data.seconds, data.names) == (["hello", "buy"], ["you", "now"], ["ham", "spam"])
    path = written(tmp_path / "b.tsv", "1\thello\t2\n2\tbuy\t1\n")  # numbers in the first line are no header
    data = read_labelled(path, text_column="2", label_column="3")
    assert (data.texts, data.names, data.labels.tolist()) == (["hello", "buy"], ["1", "2"], [1, 0])


def test_names_of_labels(tmp_path):
    path = written(tmp_path / "a.tsv", "so good\t1\nso bad\t0\nvery good\t1\n")
    assert read_labelled(path).names == ["0", "1"]
    data = read_labelled(path, names=["negative", "positive"])
    assert (data.names, data.labels.tolist()) == (["negative", "positive"], [1, 0, 1])
    many = written(tmp_path / "b.tsv", "".join(f"text {i}\t{i % 11}\n" for i in range(40)))
    assert read_labelled(many).names == [str(i) for i in range(11)]  # 10 behind 9
    with pytest.raises(DataError, match=r"line 3, has the label '2'; there are no, yes"):
        read_labelled(many, names=["no", "yes"])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\tc\nd\n", {}, "line 2, has 1 columns between tabs, and its first line has 2"),
        ("text,label\na,x\nb,\n", {}, "line 3, has no label"),
        ("text,label\na,x\n ,y\n", {}, "line 3: its text, in column text, is empty"),
        ("text,label\na,x\nb,x\n", {}, "all 2 rows have the label 'x'"),
        ("text,label\na,x\nb,y\n", {"label_column": "kind"}, "no column 'kind': it has text, label"),
        ("a,b,c\nd,e,f\n", {}, "which column has the labels.* one of 1, 2, 3"),
        ("a,b,label\nd,e,f\n", {}, "which column has the text.* one of a, b, label"),
        ("", {}, "holds no rows"),
        ("{", {}, "neither JSON nor JSON lines"),
        ("[3]", {}, r"entry 1 \(line 1\): it should be an object"),
        ('[{"text": "a", "label": {}}]', {}, r"entry 1 \(line 1\), label is neither a text nor a number"),
        ('[{"text": "a", "label": 1},\n {"text": "b"}]', {}, r"entry 2 \(line 2\), has no label"),
        ("".join(f"text {i}\t{i // 2}\n" for i in range(40)), {"label_column": "1"}, "40 different labels in 40 rows"),
        ("v1\tv2\n" + "".join(f"{'ab'[i % 2]}\ttext {i}\n" for i in range(40)), {}, "'v1', occurs only there"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, content, options, message):
    with pytest.raises(DataError, match=message):
        read_labelled(written(tmp_path / "rows", content), **options)


def test_paths_and_names_that_do_not_exist(tmp_path):
    for what, message in [
        (tmp_path / "no.csv", "does not exist"),
        (tmp_path, "is a folder"),
        ("sst2:trian", "no file 'trian': there are sst2:train, sst2:dev"),
    ]:
        with pytest.raises(DataError, match=message):
            read_labelled(what)


def test_a_label_of_one_text_is_learned_from():
    data = Labelled(["a", "b", "c"], np.array([0, 0, 1]), ["x", "y"])
    learned, kept = data.split(0.5)
    assert learned.counts().tolist() == [1, 1] and kept.counts().tolist() == [1, 0]
    both = learned.joined(kept)
    assert sorted(both.texts) == ["a", "b", "c"] and both.counts().tolist() == [2, 1]
    with pytest.raises(DataError, match="too few different rows, 2"):
        Labelled(["a", "b", "b"], np.array([0, 1, 1]), ["x", "y"]).split(0.5)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2)), min_size=2, max_size=60), st.floats(0.05, 0.95))
def test_held_out_rows(rows, fraction):
    keys, groups = [text for text, _ in rows], [label for _, label in rows]
    try:
        which = held_out(keys, fraction, seed=1, groups=groups)
    except DataError:
        return  # too few different texts
    assert 0 < which.sum() < len(rows)
    assert not {k for k, w in zip(keys, which) if w} & {k for k, w in zip(keys, which) if not w}


def test_every_label_is_held_out_in_its_share():
    labels = np.arange(1000) % 10 == 0
    data = Labelled([f"text {i}" for i in range(1000)], labels.astype(np.int64), ["ham", "spam"])
    learned, kept = data.split(0.2)
    assert learned.counts().tolist() == [720, 80] and kept.counts().tolist() == [180, 20]
    assert not set(learned.texts) & set(kept.texts)
    assert data.split(0.2)[1].texts == kept.texts != data.split(0.2, seed=1)[1].texts
    np.testing.assert_allclose(data.class_weight() * data.counts(), [500, 500])


def test_the_embedded_reviews():
    data = read_labelled("reviews")
    assert data.names == ["negative", "neutral", "positive"]
    assert len(data) == 1350 and min(data.counts()) > 400 and len(set(data.texts)) == len(data)


def test_real_files(shared_data):
    sms = read_labelled(shared_data / "sms_spam/SMSSpamCollection")
    assert sms.names == ["ham", "spam"] and sms.counts().tolist() == [4074, 625]
    sst = read_labelled(shared_data / "sst2/train.tsv", names=["negative", "positive"])
    assert len(sst) == 6920
    for site, n in (("amazon_cells", 850), ("imdb", 850), ("yelp", 850)):
        data = read_labelled(shared_data / f"uci_sentences/{site}_labelled.txt")
        assert data.names == ["0", "1"] and data.counts().tolist() == [n // 2, n // 2]
    forms = read_table(shared_data / "e2e_nlg/devset.csv")
    assert forms.columns == ["mr", "ref"] and len(forms.rows) == 4672
