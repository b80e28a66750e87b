"""CSV, TSV and JSON lines: rows come back as they were written, and what is not certain is an error with its line."""

import csv
import io
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinyllm.data import DataError, read_labelled, read_table

CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
PLAIN = st.text("abc ,;|'é", min_size=1, max_size=8).filter(str.strip)


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


# What is read ----------------------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]), st.integers(1, 4))
def test_rows_that_the_csv_module_writes_come_back(folder, data, delimiter, end, width):
    """Cells of any characters: quotes, line ends, delimiters."""
    rows = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6))
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    assume(rows)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["text", *(f"c{i}" for i in range(1, width))], *rows])
    path = written(folder / "rows.csv", out.getvalue())
    table = read_table(path, delimiter=delimiter)
    assert [list(row.values()) for row in table.rows] == rows
    line = 2
    for row, place in zip(rows, table.places):
        assert place == f"line {line}"  # where the row begins, however many lines its cells take
        line += sum(
            len(io.StringIO(cell, newline="").readlines()) - (not cell.endswith(("\r", "\n"))) for cell in row if cell
        )
        line += 1


@settings(max_examples=60)
@given(st.lists(st.tuples(PLAIN, st.sampled_from(["x", "y"])), min_size=2, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_the_delimiter_is_found_or_asked_for(folder, rows, delimiter):
    """Never another one than that which the file was written with."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    path = written(folder / "sniffed.csv", out.getvalue())
    try:
        assert [tuple(row.values()) for row in read_table(path).rows] == rows
    except DataError as error:
        assert "--delimiter" in str(error)
    assert [tuple(row.values()) for row in read_table(path, delimiter=delimiter).rows] == rows


@settings(max_examples=30)
@given(
    st.lists(st.tuples(CELL, st.integers(-3, 3), st.none() | st.floats(allow_nan=False, allow_infinity=False)), max_size=5)
)
def test_equals_pandas(folder, rows):
    pandas = pytest.importorskip("pandas", reason="compares with pandas: pip install 'tinyllm-numpy[peers]'")
    rows = [row for row in rows if "\r" not in row[0]]  # pandas writes \r as \n
    assume(rows)
    frame = pandas.DataFrame(rows, columns=["text", "label", "weight"])
    frame.to_csv(folder / "frame.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    assert [row["text"] for row in read_table(folder / "frame.csv").rows] == frame["text"].tolist()
    frame.to_json(folder / "frame.jsonl", orient="records", lines=True, force_ascii=False)
    assert [row["text"] for row in read_table(folder / "frame.jsonl").rows] == frame["text"].tolist()


def test_long_cells_load(tmp_path):
    text = "word " * 30_000
    before = csv.field_size_limit()
    for name, content in [("a.csv", f'text,label\n"{text}",x\nshort,y\n'), ("a.tsv", f"text\tlabel\n{text}\tx\nshort\ty\n")]:
        assert [len(row["text"]) for row in read_table(written(tmp_path / name, content)).rows] == [150_000, 5]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows"])
def test_every_line_end(tmp_path, name, end):
    delimiter = "," if name == "rows.csv" else "\t"
    content = end.join([f"text{delimiter}label", f"one{delimiter}x", "", f"two{delimiter}y", ""])
    table = read_table(written(tmp_path / name, content))
    assert [row["text"] for row in table.rows] == ["one", "two"] and table.places == ["line 2", "line 4"]


def test_columns_without_a_name_are_called_by_number(tmp_path):
    path = written(tmp_path / "spam.csv", "label,text,,\nham,hello,,\nspam,win,a,b\n")  # as a well-known data set is
    assert read_table(path).columns == ["label", "text", "3", "4"]
    assert read_labelled(path).texts == ["hello", "win"]


@pytest.mark.parametrize("name", ["comma", ",", "semicolon", "tab", "\\t", "pipe"])
def test_delimiters_have_names(tmp_path, name):
    character = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}.get(name, name)
    path = written(tmp_path / "rows", f"a, b; c{character}x\n")
    assert read_table(path, delimiter=name).rows[-1] in ({"1": "a, b; c", "2": "x"}, {"1": "a", "2": " b; c", "3": "x"}) or (
        character == ";"
    )


# What is refused -------------------------------------------------------------------------------------------------------

LINES = [f"{'ham' if i % 2 else 'spam'},message number {i}\n" for i in range(100)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "label,text\n" + "".join(LINES[:5]) + 'ham,"so he said\n' + "".join(LINES[5:]),
            "line 7: the quote that opens a cell",
        ),
        ("label,text\n" + "".join(LINES) + 'ham,"12 inch\n', "line 102: the quote"),
        ('label,text\nham,"5"" pipe\n' + "".join(LINES), "line 2: the quote"),
        ('label,text\nham,"two\nlines","open\n' + "".join(LINES), "line 3: the quote"),
        ('label,text\nham,"a" b\nspam,c\n', "line 2: ' b' follows the quote"),
        ('label,text\nham,"so he said\nspam,x\nham,5" pipe\n', "line 4: ' pipe' follows the quote"),
        (
            'a,text,b\nham,"so he said\nspam,",5" pipe\n',
            "line 3: '5\" pipe' has a quote, and a cell before it begins at line 2",
        ),
        ("text,text,label\na,b,x\n", "line 1, names the column 'text' twice"),
        ("good, really;pos\nbad, honestly;neg\n", "commas and semicolons: say which by --delimiter"),
        ("text,label\na,x\nb,c,y\n", "line 3, has 3 columns between commas, and its first line has 2: .*--delimiter"),
    ],
)
def test_csv_that_is_not_certain_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path / "rows.csv", content))


@given(st.lists(st.lists(PLAIN, min_size=2, max_size=2), min_size=1, max_size=8), st.data())
def test_an_open_quote_never_swallows_a_row(folder, rows, data):
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    broken = data.draw(st.integers(0, len(lines) - 1))
    lines[broken] = lines[broken][:-1]  # the last cell's closing quote is lost
    with pytest.raises(DataError, match=r"line \d+: .*quote"):
        read_table(written(folder / "open.csv", "\n".join(lines) + "\n"), delimiter=",")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n\n{"text": NaN}\n', "line 3: NaN is not a value of JSON"),
        ('{"text": "a"}\n{"text": Infinity}\n', "line 2: Infinity"),
        ('{"text": "a", "text": "b"}\n', "line 1: the key 'text' is there twice"),
        ('{"text": "a"}\n{"text": "b"\n', "line 2, is neither JSON"),
        ('[{"text": "a"},\n {"text": "b"}\n {"text": "c"}]', "line 3, is neither JSON"),
        ('[{"text": "a"},\n\n 3]', r"entry 2 \(line 3\): it should be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": "x"}\n{"a": "\\ud83d!"}\n', r"line 2: a text has \\ud83d, half of a surrogate pair"),
        ('{"a": "\\ud83d\\ude00"}\n{"\\uDE00": 1}\n', r"line 2: a text has \\ude00"),
        ('{"a": 1}\n{"a": ' + "9" * 5000 + "}\n", r"line 2: Exceeds the limit [^;]*$"),
    ],
)
def test_json_is_refused_with_its_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path / "rows.json", content))


@settings(max_examples=50)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers()), min_size=1, max_size=5), st.data()
)
def test_json_rows_know_their_lines(folder, rows, data):
    gaps = [data.draw(st.integers(0, 2)) for _ in rows]
    lines = "".join("\n" * gap + json.dumps(row) + "\n" for row, gap in zip(rows, gaps))
    table = read_table(written(folder / "lines.jsonl", lines))
    places = [sum(gaps[: i + 1]) + i + 1 for i in range(len(rows))]
    assert table.rows == rows and table.places == [f"line {place}" for place in places]
    listed = "[" + ",".join("\n" * gap + json.dumps(row, indent=1) for row, gap in zip(rows, gaps)) + "]"
    assert read_table(written(folder / "list.json", listed)).rows == rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": ["positive", "x"]}, {"text": "b", "label": "y"}], "line 1, label is a list"),
        (
            [{"text": "a", "label": "1"}, {"text": "b", "label": "1.0"}],
            "'1.0', and .* line 1, has '1': they are the same number",
        ),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": None}], "line 2, has no label"),
    ],
)
def test_labels_that_are_not_certain_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_labelled(written(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows))))


def test_a_whole_number_is_one_label(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 1.0}, {"text": "c", "label": 0}]
    data = read_labelled(written(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows))))
    assert data.names == ["0", "1"] and data.labels.tolist() == [1, 1, 0]
    path = written(tmp_path / "rows.csv", "text,label\na,1\nb,1.0\n")
    assert read_labelled(path, names=["1", "1.0"]).labels.tolist() == [0, 1]  # the user has decided
