"""Text sources: every file whole and in order, every refusal one sentence that names the file and the place."""

from __future__ import annotations

import codecs
import gzip
import os
import re
import sysconfig
import zipfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinyllm.data import DataError, Texts, open_source, open_text, read_text, stdlib_source, stdlib_text
from tinyllm.data import text as text_module
from tinyllm.data.text import _pieces


def written(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


# One file -------------------------------------------------------------------------------------------------------------


def test_file_with_mark_and_line_ends(tmp_path):
    path = written(tmp_path, "a.txt", codecs.BOM_UTF8 + "Ä\r\nb\rc\n\ufeffd 🙂".encode())
    assert read_text(path) == "Ä\nb\nc\n\ufeffd 🙂"  # only the first mark goes
    assert read_text(str(path)) == read_text(path)


def test_gzip_file(tmp_path):
    path = written(tmp_path, "a.txt.gz", gzip.compress("Grüße\r\n".encode() * 1000))
    assert read_text(path) == "Grüße\n" * 1000
    written(tmp_path, "cut.gz", path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.gz is not a whole gzip file"):
        read_text(tmp_path / "cut.gz")
    written(tmp_path, "not.gz", "plain")
    with pytest.raises(DataError, match=r"not\.gz is not a whole gzip file"):
        read_text(tmp_path / "not.gz")


def test_refusals_name_the_file_and_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt does not exist: give a UTF-8 text file"):
        open_text(tmp_path / "none.txt")
    for data in b"", codecs.BOM_UTF8:
        with pytest.raises(DataError, match=r"empty\.txt is empty"):
            open_text(written(tmp_path, "empty.txt", data))
    for encoding in "utf-16-le", "utf-16-be":
        mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else codecs.BOM_UTF16_BE
        with pytest.raises(DataError, match="UTF-16"):
            open_text(written(tmp_path, "windows.txt", mark + "text".encode(encoding)))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("piece", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("broken", [b"\xff", b"\xc3(", b"\xe2\x82("])
def test_offset_of_the_first_wrong_byte(tmp_path, monkeypatch, piece, broken, mark):
    """Whatever the chunks are, and a character may lie across two of them."""
    monkeypatch.setattr(text_module, "PIECE", max(piece, len(mark)))
    start = mark + "äöü€🙂".encode()
    path = written(tmp_path, "latin.txt", start + broken + b"rest")
    with pytest.raises(DataError, match=rf"latin\.txt is not UTF-8 text \(byte 0x{broken[0]:02X} at offset {len(start)}\)"):
        read_text(path)


def test_character_cut_at_the_end(tmp_path):
    with pytest.raises(DataError, match=r"byte 0xF0 at offset 3\)"):
        read_text(written(tmp_path, "cut.txt", b"abc" + "🙂".encode()[:3]))


# Folders --------------------------------------------------------------------------------------------------------------


def test_folder_in_sorted_order_binaries_counted(tmp_path):
    written(tmp_path, "b.txt", "B")
    written(tmp_path, "a/z.md", "AZ")
    written(tmp_path, "a/b/c.py.gz", gzip.compress(b"ABC"))
    written(tmp_path, "image.png", b"\x89PNG\x00\xff")
    written(tmp_path, "zeros", b"\0\0\0")
    written(tmp_path, "empty.txt", "")
    written(tmp_path, ".git/config", "hidden")
    written(tmp_path, ".hidden", "hidden")
    source = open_text(tmp_path)
    assert list(source) == ["ABC", "AZ", "B"]
    assert [path.name for path, _ in source.passed_over] == ["empty.txt", "image.png", "zeros"]
    assert str(source) == f"{tmp_path}: 3 files, 3 passed over"
    read, over = source.notes.splitlines()[1:]
    assert read == "  read: a/b/c.py.gz, a/z.md, b.txt".replace("/", os.sep)
    assert "image.png (is not UTF-8 text (byte 0x89 at offset 0)" in over and "empty.txt (it is empty)" in over
    assert "zeros (is not text: it holds a NUL character at offset 0)" in over
    assert read_text(tmp_path) == "ABC\nAZ\nB"
    assert list(open_text(tmp_path, [".PY", "txt"])) == ["ABC", "B"]


def test_folder_refusals(tmp_path):
    written(tmp_path, "latin.txt", b"\xe9")
    with pytest.raises(
        DataError, match=r"no file in .* with UTF-8 text in it \(1 looked at: latin\.txt \(is not UTF-8 text"
    ):
        open_text(tmp_path)
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8"):  # asked for by name: not passed over
        open_text(tmp_path, [".txt"])
    with pytest.raises(DataError, match=r"with \.md or \.rst in it"):
        open_text(tmp_path, [".md", ".rst"])


# Pieces and documents -------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab \n|", max_size=60), st.integers(1, 9), st.integers(1, 5))
def test_pieces_are_the_text(text, chunk, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "PIECE", limit)
        chunks = [text[i : i + chunk] for i in range(0, len(text), chunk)]
        pieces = list(_pieces(iter(chunks), None))
    assert "".join(piece for piece, _ in pieces) == text
    assert [ends for _, ends in pieces] == [False] * (len(pieces) - 1) + [True] * bool(pieces)
    assert all(len(piece) <= 16 * limit + chunk for piece, _ in pieces)


@example("a" * 16 + "|||b", 1, 1, "|||")
@given(st.text(alphabet="ab \n|", max_size=60), st.integers(1, 9), st.integers(1, 5), st.sampled_from(["|", "||", "\n\n"]))
def test_separator_divides_documents_whatever_the_chunks(text, chunk, limit, separator):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "PIECE", limit)
        chunks = [text[i : i + chunk] for i in range(0, len(text), chunk)]
        documents, parts = [], []
        for piece, ends in _pieces(iter(chunks), separator):
            parts.append(piece)
            if ends:
                documents.append("".join(parts))
                parts = []
    whole = [document.strip("\n") for document in text.split(separator)]
    squeezed = [document.replace("\n", "") for document in documents if document.replace("\n", "")]
    assert squeezed == [document.replace("\n", "") for document in whole if document]
    if limit * 16 + chunk > 60 + 1:  # then nothing is cut but behind a line end that stands alone
        assert documents == [document for document in whole if document]
    assert not parts


@settings(max_examples=200)
@example("\n\nx" * 20)
@example("x \nx" * 20)
@example("x\n  " * 20)
@given(st.lists(st.sampled_from(["word", "x", " ", "\n", "\n\n", "\t", "1", "'s", "!"]), max_size=60).map("".join))
def test_gpt2_splits_pieces_as_it_splits_the_whole(text):
    """The tokenizer's own pattern over the pieces gives what it gives over the whole."""
    regex = pytest.importorskip("regex")
    pattern = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "PIECE", 20)
        pieces = [piece for piece, _ in _pieces(iter([text]), None)]
    assert [part for piece in pieces for part in pattern.findall(piece)] == pattern.findall(text)


def test_documents_of_tiny_stories(tmp_path):
    path = written(tmp_path, "s.txt", "One.\n\nTwo.\n<|endoftext|>\nThree.\n<|endoftext|>\n")
    assert list(open_text(path, separator="<|endoftext|>")) == ["One.\n\nTwo.", "Three."]


def test_fingerprint_follows_the_content(tmp_path):
    written(tmp_path, "a.txt", "ab")
    written(tmp_path, "b.txt", "c")
    before = open_text(tmp_path).fingerprint()
    assert before == open_text(tmp_path).fingerprint()
    assert before != open_text(tmp_path, separator="|").fingerprint()
    written(tmp_path, "a.txt", "a")
    written(tmp_path, "b.txt", "bc")
    assert before != open_text(tmp_path).fingerprint()
    assert Texts("t", ["ab", "c"]).fingerprint() != Texts("t", ["a", "bc"]).fingerprint()
    with pytest.raises(DataError, match="holds no text"):
        Texts("t", [""])


def test_shared_data_is_read(shared_data):
    source = open_text(shared_data / "tinyshakespeare" / "input_train.txt")
    assert source.read() == (shared_data / "tinyshakespeare" / "input_train.txt").read_text(encoding="utf-8")
    english = read_text(shared_data / "multi30k" / "val.en.gz")
    assert english.count("\n") == 1014


# The standard library -------------------------------------------------------------------------------------------------


def test_standard_library_code():
    text = stdlib_text(size=300_000)
    assert text == stdlib_text("code", 300_000)
    documents = list(stdlib_source("code", 300_000))
    assert sum(map(len, documents)) == 300_000 and len(documents) > 3
    assert text.count("def ") > 500 and "import " in text
    assert stdlib_text(size=600_000).startswith(documents[0])  # a larger size goes on where a smaller ends
    compile(documents[0], "first", "exec")  # a document is a whole module


def test_standard_library_documentation():
    documents = list(stdlib_source("docs", 500_000))
    text = "\n".join(documents)
    assert sum(map(len, documents)) == 500_000
    assert text.count("def ") < 50 and 1000 < text.count(". ")
    assert len(documents) > 50
    assert not re.search(r"([^\w\s])\1{3}", text)  # no banner, no row of dots


def test_standard_library_refusals(monkeypatch):
    with pytest.raises(DataError, match='"code" or "docs", not \'prose\''):
        stdlib_source("prose")
    with pytest.raises(DataError, match="at least one character"):
        stdlib_source(size=0)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: "/nowhere")
    with pytest.raises(DataError, match="carries no source"):
        stdlib_source()


def test_zipped_and_slim_standard_library(tmp_path, monkeypatch):
    """A zip with a package, a module without source, and what is no part of the library."""
    archive = tmp_path / "python.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("json/__init__.py", '"""The words of a whole package."""\n')
        file.writestr("json/decoder.py", 'def f():\n    """The words of a single function."""\n')
        file.writestr("json/tests/test_a.py", "left out")
        file.writestr("csv.pyc", b"compiled")
        file.writestr("not_a_standard_module.py", "left out")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(archive))
    monkeypatch.setattr("sys.path", [])
    code = ['"""The words of a whole package."""\n', 'def f():\n    """The words of a single function."""\n']
    assert sorted(stdlib_source()) == code
    assert sorted(stdlib_source("docs")) == ["The words of a single function.", "The words of a whole package."]


# By name --------------------------------------------------------------------------------------------------------------


def test_open_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "mine.txt", "my text")
    assert open_source("mine.txt").read() == "my text"
    assert open_source(tmp_path).read() == "my text"
    assert open_source("stdlib").read() == open_source("stdlib:code").read() == stdlib_text()
    with pytest.raises(DataError, match='"code" or "docs", not \'prose\''):
        open_source("stdlib:prose")
    with pytest.raises(DataError, match="neither a file or folder, nor one of the names stdlib, tinyshakespeare"):
        open_source("missing.txt")
    with pytest.raises(DataError, match="no plain text but made for classification"):
        open_source("sst2")
