"""Downloads from a server on this machine: cut, moved, wrong, slow or absent: the right bytes or one sentence says why."""

from __future__ import annotations

import errno
import hashlib
import re
import socket
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tinyllm.data import (
    DATASETS,
    DataError,
    Dataset,
    RemoteFile,
    cache_dir,
    dataset_path,
    download,
    fetch,
    find_dataset,
    is_fetched,
    open_source,
)

DATA = bytes(range(256)) * 2000  # 512,000 bytes, several chunks
SHA256 = hashlib.sha256(DATA).hexdigest()


class Page:
    """What the server does at one address: `cuts` are the bytes after which one connection after the other breaks off."""

    def __init__(self, data=DATA, ranges=True, cuts=(), status=None, chunked=False, stall=False, length=None, moved=None):
        self.data, self.ranges, self.cuts = data, ranges, list(cuts)
        self.status, self.chunked, self.stall = status, chunked, stall
        self.length, self.moved = length, moved  # what is stated in place of the length, and where the page has moved to


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        page = self.server.pages.get(self.path, Page(status=404))
        self.close_connection = True
        if page.moved:
            self.send_response(page.status)
            self.send_header("Location", page.moved)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if page.status:
            return self.send_error(page.status)
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and page.ranges else 0
        if begin >= len(page.data) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(page.data)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = page.data[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(page.data) - 1}/{len(page.data)}")
        if page.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)) if page.length is None else page.length)
        self.end_headers()
        sent = body[: page.cuts.pop(0)] if page.cuts else body
        if page.chunked:
            self.wfile.write(b"%X\r\n%s\r\n" % (len(sent), sent) + (b"0\r\n\r\n" if len(sent) == len(body) else b""))
        else:
            self.wfile.write(sent)
        if page.stall:
            self.server.released.wait(10)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.pages, server.requests, server.released = {}, [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def toy(server, monkeypatch):
    """A data set of one file with a mirror; call it with the pages that the two addresses show."""

    def make(first=None, mirror=None, sha256=SHA256):
        server.pages |= {path: page for path, page in (("/a", first), ("/b", mirror)) if page}
        urls = tuple(server.url + path for path in ("/a", "/b"))
        dataset = Dataset("toy", "for tests", "tests", "none", (RemoteFile("toy.bin", urls, sha256, len(DATA)),), "toy.bin")
        monkeypatch.setitem(DATASETS, "toy", dataset)
        return cache_dir() / "data" / "toy" / "toy.bin"

    return make


def part_of(target, data):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name("toy.bin.part").write_bytes(data)


def test_fetch_once(server, toy, capsys):
    target = toy(Page())
    assert not is_fetched("toy")
    with pytest.raises(DataError, match=r"toy/toy\.bin is not on this machine: run tinyllm data fetch toy"):
        dataset_path("toy")
    assert fetch("toy") == target.parent
    shown = capsys.readouterr()
    assert "toy/toy.bin" in shown.err and "100" not in shown.out and shown.out == ""
    assert target.read_bytes() == DATA
    assert [path.name for path in target.parent.iterdir()] == ["toy.bin"]
    assert is_fetched("toy") and dataset_path("toy") == target.parent
    fetch("toy", quiet=True)
    assert capsys.readouterr() == ("", "")
    assert server.requests == [("/a", None)]  # what is there is not fetched again


def test_resumed_within_a_fetch(server, toy):
    target = toy(Page(cuts=[100_000, 200_000]))
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    assert server.requests == [("/a", None), ("/a", "bytes=100000-"), ("/a", "bytes=300000-")]


def test_resumed_by_a_later_fetch_and_from_the_mirror(server, toy):
    target = toy(Page(cuts=[100_000, 0]), Page(cuts=[200_000, 0]))
    with pytest.raises(
        DataError, match=r"cut after 100,000 bytes; .* cut after 300,000 bytes; try again online \(what came"
    ):
        fetch("toy", quiet=True)
    assert not target.exists()
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    assert server.requests[-1] == ("/a", "bytes=300000-")


def test_server_without_ranges(server, toy):
    target = toy(Page(ranges=False, cuts=[100_000]))
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-"]


def test_server_without_ranges_that_always_cuts(server, toy):
    toy(Page(ranges=False, cuts=[1000] * 9), Page(status=503))
    with pytest.raises(DataError, match="cut after 1,000 bytes; .*HTTP status 503"):
        fetch("toy", quiet=True)
    assert len(server.requests) == 3


@pytest.mark.parametrize("cuts", [(), (1000,)])
def test_server_that_states_no_length(server, toy, cuts):
    target = toy(Page(chunked=True, cuts=cuts))
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA


def test_server_that_falls_silent(server, toy, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    target = toy(Page(cuts=[1000, 0], stall=True), Page())
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    assert server.requests[-1] == ("/b", "bytes=1000-")


@pytest.mark.parametrize("left", [b"another file's bytes" * 10, DATA + b"too long", DATA])
def test_what_an_earlier_download_left(server, toy, left):
    target = toy(Page())
    part_of(target, left)
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    assert len(server.requests) == (2 if len(left) < len(DATA) else 1)


def test_wrong_bytes_then_the_mirror(server, toy):
    target = toy(Page(data=b"<html>moved</html>"), Page())
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    assert server.requests == [("/a", None), ("/b", None)]


def test_wrong_bytes_everywhere(server, toy):
    target = toy(Page(data=b"wrong"), Page(data=b"wrong as well"))
    with pytest.raises(DataError, match=r"SHA-256 [0-9a-f]{12}\.\.\., not " + SHA256[:12]) as failure:
        fetch("toy", quiet=True)
    assert not list(target.parent.iterdir())
    assert str(target) in str(failure.value) and "kept" not in str(failure.value) and "\n" not in str(failure.value)


def test_two_at_once_fetch_it_once(server, toy):
    target = toy(Page())
    with ThreadPoolExecutor() as pool:  # each has a lock file of its own open, as two processes would
        folders = list(pool.map(lambda _: fetch("toy", quiet=True), range(4)))
    assert folders == [target.parent] * 4 and target.read_bytes() == DATA
    assert server.requests == [("/a", None)] and list(target.parent.iterdir()) == [target]


def test_missing_then_the_mirror(server, toy):
    target = toy(None, Page())
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA
    server.pages.clear()
    target.unlink()
    with pytest.raises(DataError, match="HTTP status 404 Not Found; .*HTTP status 404"):
        fetch("toy", quiet=True)


def test_offline(server, toy, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = toy()
    urls = (f"http://127.0.0.1:{port}/a", "http://no-such-host.invalid/b")
    monkeypatch.setitem(DATASETS, "toy", Dataset("toy", "", "", "", (RemoteFile("toy.bin", urls, SHA256, len(DATA)),)))
    with pytest.raises(DataError) as failure:
        fetch("toy", quiet=True)
    message = str(failure.value)
    assert message.startswith(f"cannot fetch toy/toy.bin: 127.0.0.1:{port}: no connection, ")
    assert "no-such-host.invalid: no connection, " in message and f"put the file at {target} by hand" in message
    assert "\n" not in message
    target.write_bytes(DATA)  # by hand, then
    assert fetch("toy", quiet=True) == target.parent


def test_a_damaged_file_is_told(server, toy):
    target = toy(Page())
    fetch("toy", quiet=True)
    target.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"toy\.bin is damaged: run tinyllm data fetch toy"):
        dataset_path("toy")


@pytest.mark.parametrize("length", ["many", "-5", "1e3", "512000 512000", "٣", "9" * 30])
def test_a_bad_content_length_is_not_believed(server, toy, length):
    target = toy(Page(length=length), Page())
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA and server.requests == [("/a", None), ("/b", None)]


@pytest.mark.parametrize("chunked", [False, True])
def test_no_more_bytes_than_the_registry_says(server, toy, monkeypatch, chunked):
    """The stated length is enough to refuse; without one the download ends at the byte that is too many."""
    written = []
    monkeypatch.setattr(download, "flush_to_disk", lambda file: written.append(file.tell()))
    target = toy(Page(data=DATA + b"!" * 10_000_000, chunked=chunked), Page())
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA and written == [len(DATA)]
    target.unlink()
    server.pages["/b"] = server.pages["/a"]
    with pytest.raises(DataError, match="it sends more than the .* bytes" if chunked else "it would send .* bytes"):
        fetch("toy", quiet=True)
    assert not list(target.parent.iterdir())


def test_a_redirection_is_followed_but_not_off_https(server, toy):
    target = toy(Page(status=302, moved="/b"), Page())
    fetch("toy", quiet=True)
    assert target.read_bytes() == DATA and server.requests == [("/a", None), ("/b", None)]
    target.unlink()
    for moved in ("ftp://127.0.0.1/b", "file:///etc/passwd"):
        server.pages["/a"].moved = moved
        fetch("toy", quiet=True)
        assert target.read_bytes() == DATA and server.requests[-1] == ("/b", None)
        target.unlink()


@pytest.mark.parametrize("before, after, followed", [
    ("https", "https", True), ("http", "https", True), ("http", "http", True), ("https", "http", False),
    ("https", "ftp", False), ("http", "file", False),
])  # fmt: skip
def test_which_redirections_are_followed(before, after, followed):
    request = urllib.request.Request(f"{before}://example.org/a")
    handler = download._StayEncrypted()
    with nullcontext() if followed else pytest.raises(download._Failed, match=f"redirects from {before} to {after}"):
        made = handler.redirect_request(request, None, 302, "Found", {}, f"{after}://example.org/b")
        assert made.full_url == f"{after}://example.org/b"


def test_a_mirror_without_encryption_is_not_tried_after_https(server, toy, monkeypatch):
    urls = ("https://127.0.0.1:1/a", server.url + "/b")
    toy(None, Page())
    monkeypatch.setitem(DATASETS, "toy", Dataset("toy", "", "", "", (RemoteFile("toy.bin", urls, SHA256, len(DATA)),)))
    with pytest.raises(DataError, match="is not encrypted, as the first one is"):
        fetch("toy", quiet=True)
    assert server.requests == []


def test_damaged_file_is_fetched_again(server, toy, capsys):
    target = toy(Page())
    fetch("toy", quiet=True)
    target.write_bytes(DATA[:-1] + b"!")
    fetch("toy")
    assert "is damaged: fetching it again" in capsys.readouterr().err
    assert target.read_bytes() == DATA


def test_full_disk_is_not_taken_for_a_bad_mirror(server, toy, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    toy(Page(), Page())
    monkeypatch.setattr(download, "flush_to_disk", full)
    with pytest.raises(OSError, match="No space left on device: .*toy.bin.part"):
        fetch("toy", quiet=True)
    assert len(server.requests) == 1


def test_source_by_name(server, toy):
    text = "Grüße\n".encode()
    toy(Page(data=text), sha256=hashlib.sha256(text).hexdigest())
    source = open_source("toy", quiet=True)
    assert source.read() == "Grüße\n" and source.name == "toy"


# The registry ---------------------------------------------------------------------------------------------------------


def test_registry_is_in_order():
    assert {"tinyshakespeare", "tinystories", "wikitext-2", "multi30k", "sst2", "sms-spam", "squad"} <= set(DATASETS)
    for name, dataset in DATASETS.items():
        assert dataset.name == name == name.lower() and dataset.description and dataset.purpose and dataset.licence
        assert len({file.name for file in dataset.files}) == len(dataset.files)
        assert dataset.text is None or dataset.text in [file.name for file in dataset.files]
        for file in dataset.files:
            assert len(file.urls) >= 2 and all(url.startswith("https://") for url in file.urls)
            assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size > 0
            assert Path(file.name).name == file.name
    assert DATASETS["tinyshakespeare"].size == 1_115_394


def test_registry_against_the_files_that_are_here(shared_data):
    here = {
        "multi30k": "multi30k",
        "wikitext-2": "wikitext2",
        "e2e-nlg": "e2e_nlg",
        "dialogsum": "dialogsum",
        "scitldr": "scitldr",
        "gpt2-tokenizer": "models/gpt2_bpe",
        "stories260k": "models/stories260K",
    }
    compared = 0
    for name, folder in here.items():
        for file in DATASETS[name].files:
            path = shared_data / folder / file.name.replace("valid.txt", "wiki_valid.txt")
            if path.exists():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
                assert path.stat().st_size == file.size
                compared += 1
    assert compared == 13


def test_unknown_names():
    with pytest.raises(DataError, match="no data set is called 'tinyshakespear': did you mean tinyshakespeare"):
        find_dataset("tinyshakespear")
    with pytest.raises(DataError, match="there are tinyshakespeare, tinystories"):
        fetch("zzz")


@pytest.mark.parametrize(
    "platform, variables, expected",
    [
        ("linux", {"TINYLLM_CACHE": "/chosen"}, "/chosen"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/tinyllm"),
        ("linux", {}, "/home/me/.cache/tinyllm"),
        ("darwin", {}, "/home/me/Library/Caches/tinyllm"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/tinyllm/cache"),
        ("win32", {}, "/home/me/AppData/Local/tinyllm/cache"),
    ],
)
def test_cache_folder(monkeypatch, platform, variables, expected):
    for name in "TINYLLM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA":
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_dir() == Path(expected)
