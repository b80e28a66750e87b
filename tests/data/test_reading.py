"""Encodings: what is not UTF-8 is refused for the true reason, with the option that reads it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.data import DataError, open_text, read_dialogues, read_table, read_text
from tinyllm.data.reading import decoded, guessed
from tinyllm.data.squad import read_squad
from tinyllm.data.tagged import read_tagged
from tinyllm.data.text_pairs import read_pairs

READERS = {
    "text.txt": read_text,
    "rows.tsv": read_table,
    "rows.csv": read_table,
    "rows.jsonl": read_table,
    "words.conll": lambda path, **options: read_tagged([path], **options),
    "talk.jsonl": read_dialogues,
    "squad.json": read_squad,
    "pairs.tsv": read_pairs,
}
CONTENT = {
    "text.txt": "Grüße aus Köln, é à\n" * 9,
    "rows.tsv": "text\tlabel\nGrüße\tx\nschön\ty\n",
    "rows.csv": "text,label\nGrüße,x\nschön,y\n",
    "rows.jsonl": '{"text": "Grüße"}\n{"text": "schön"}\n',
    "words.conll": "Grüße\tO\nKöln\tB-LOC\n",
    "talk.jsonl": '{"question": "Grüße?", "answer": "Schön"}\n',
    "squad.json": '{"data": [{"paragraphs": [{"context": "Köln", "qas": [{"id": "1", "question": "?", "answers": []}]}]}]}',
    "pairs.tsv": "source\ttarget\nGrüße\tgreetings\nschön\tfine\n",
}


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("name", READERS)
def test_the_option_that_an_error_names_reads_the_file(tmp_path, name, encoding):
    read, expected = READERS[name], READERS[name](written(tmp_path / name, CONTENT[name].encode()))
    path = written(tmp_path / name, CONTENT[name].encode(encoding))
    with pytest.raises(DataError, match=f"{re.escape(str(path))} .*--encoding (.+)") as caught:
        read(path)
    proposed = str(caught.value).rpartition("--encoding ")[2]
    assert proposed == encoding
    assert read(path, encoding=proposed) == expected


@settings(max_examples=80)
@given(
    st.text(st.characters(max_codepoint=0x7F, min_codepoint=32), min_size=20), st.sampled_from(["utf-16-le", "utf-16-be"])
)
def test_utf16_without_a_mark_is_seen(text, encoding):
    assert guessed(text.encode(encoding)) == encoding
    with pytest.raises(DataError, match=f"--encoding {encoding}"):
        decoded(text.encode(encoding), "it")
    assert decoded(text.encode(encoding), "it", encoding) == text


def test_what_is_no_text_is_not_guessed(tmp_path):
    for data in (b"\0\0\0", bytes(range(256)) * 4, b"text\0and more of it"):
        with pytest.raises(DataError, match="is not text: it holds a NUL|is not UTF-8 text"):
            decoded(data, "it")
    assert guessed("日本語のテキスト".encode("shift_jis") * 9) is None  # not Latin-1
    with pytest.raises(DataError, match="it looks like Windows-1252: --encoding windows-1252"):
        decoded("a “quoted” word".encode("windows-1252"), "it")
    with pytest.raises(DataError, match="there is no encoding 'latin-9000'"):
        decoded(b"a", "it", "latin-9000")
    with pytest.raises(DataError, match="there is no encoding 'hex'"):
        decoded(b"61", "it", "hex")
    with pytest.raises(DataError, match=r"text\.txt is not text: it holds a NUL character at offset 4"):
        open_text(written(tmp_path / "text.txt", b"text\0and more of it"))


def test_marks_are_dropped():
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert decoded("ä".encode(encoding), "it", encoding) == "ä"
    assert decoded(b"\xff\xfea\0", "it", "utf-16-le") == "a"
