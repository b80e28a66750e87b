"""Fetching the registry's files: with mirrors, resumed after a cut, and kept in the cache folder.

A server is not trusted. No more bytes are taken than the registry gives as the size, and the registry has their SHA-256. An
encrypted connection is never followed by one that is not.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from ..files import flush_to_disk, naming
from .files import DataError, cache_dir
from .registry import Dataset, RemoteFile, find_dataset

TIMEOUT = 30  # seconds without a byte, after which a connection counts as cut
CHUNK = 1 << 16  # bytes

Report = Callable[[int, int | None], None]  # bytes that are there, bytes in all if that is known


def fetch(name: str, quiet: bool = False) -> Path:
    """The folder with all files of a data set, downloaded where they are missing or damaged.

    A file that is there and has its SHA-256 is left alone, so that a machine offline can be given the files by hand. Shows a
    progress bar and notes on stderr unless `quiet`. Raises DataError where no address gives the right bytes, and where the
    registry knows no such name.
    """
    dataset = find_dataset(name)
    folder = dataset_folder(dataset)
    for file in dataset.files:
        _fetch_file(file, folder / file.name, f"{name}/{file.name}", _Display(quiet))
    return folder


def dataset_path(name: str) -> Path:
    """The folder with all files of a data set that has been fetched. Raises DataError where a file is missing or damaged."""
    dataset = find_dataset(name)
    folder = dataset_folder(dataset)
    for file in dataset.files:
        target = folder / file.name
        if not target.exists():
            raise DataError(f"{name}/{file.name} is not on this machine: run tinyllm data fetch {name}")
        if not _is_whole(file, target):
            raise DataError(f"{target} is damaged: run tinyllm data fetch {name}")
    return folder


def is_fetched(name: str) -> bool:
    """Whether all files of a data set are in the cache folder; their contents are not looked at."""
    dataset = find_dataset(name)
    return all((dataset_folder(dataset) / file.name).exists() for file in dataset.files)


def dataset_folder(dataset: Dataset) -> Path:
    """Where a data set's files are kept, fetched or not."""
    return cache_dir() / "data" / dataset.name


class _Failed(Exception):
    """One address did not give the file; the message says why, without naming it."""


class _WrongFile(_Failed):
    """What came is not a part of the file, and is not kept."""


class _Display:
    """A progress bar and notes on stderr, or nothing."""

    def __init__(self, quiet: bool):
        from rich.console import Console  # here, because rich takes a tenth of a second that only a download needs

        self.console = Console(stderr=True, quiet=quiet)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, size: int | None) -> Iterator[Report]:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(label, total=size)
            yield lambda done, total: progress.update(task, completed=done, total=total or size)


def _fetch_file(file: RemoteFile, target: Path, label: str, display: _Display) -> None:
    if target.exists():
        if _is_whole(file, target):
            return
        display.say(f"{label} is damaged: fetching it again")
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with _alone(part, label, display):
        if not (target.exists() and _is_whole(file, target)):  # else another process has just fetched it
            _from_any(file, target, part, label, display)


@contextmanager
def _alone(part: Path, label: str, display: _Display) -> Iterator[None]:
    """Within the block no other process fetches files of this data set; waits while one does."""
    folder = part.parent  # beside which the lock stands: there is one for a data set
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        display.say(f"{label}: another process is fetching this data set; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_any(file: RemoteFile, target: Path, part: Path, label: str, display: _Display) -> None:
    """Fetches a file from the first address that gives it."""
    failures = []
    for url in file.urls:
        try:
            if file.urls[0].startswith("https:") and not url.startswith("https:"):
                raise _Failed("the address is not encrypted, as the first one is")
            with display.bar(label, file.size) as report:
                _obtain(url, part, file, report)
        except _Failed as failure:
            failures.append(f"{urlsplit(url).netloc}: {failure}")
            continue
        os.replace(part, target)
        return
    kept = " (what came of it is kept, to go on from)" if part.exists() else ""
    raise DataError(
        f"cannot fetch {label}: {'; '.join(failures)}; try again online{kept}, or put the file at {target} by hand"
    )


def _obtain(url: str, part: Path, file: RemoteFile, report: Report) -> None:
    """All bytes of one address into `part`, with the file's SHA-256; goes on where an earlier download was cut."""
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()  # it is not a part of this file
    resumed = part.exists()
    try:
        _download(url, part, file.size, report)
        if (got := _sha256(part)) == file.sha256:
            return
        reason = _Failed(f"its bytes have the SHA-256 {got[:12]}..., not {file.sha256[:12]}...")
    except _WrongFile as failure:
        reason = failure
    part.unlink(missing_ok=True)
    if not resumed:
        raise reason
    _obtain(url, part, file, report)  # what was there may have been another's


def _download(url: str, part: Path, size: int, report: Report) -> None:
    """Connect until all is there, as long as each connection brings something."""
    longest = -1
    while not _connect(url, part, size, report):
        there = part.stat().st_size
        if there <= longest:
            raise _Failed(f"the connection was cut after {there:,} bytes")
        longest = there


class _StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to http or https, and from https to https alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise _Failed(f"it redirects from {req.type} to {scheme}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _connect(url: str, part: Path, size: int, report: Report) -> bool:
    """Append to `part` what the server sends from its end on; whether all is there now."""
    begin = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "tinyllm", "Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    try:
        response = urllib.request.build_opener(_StayEncrypted).open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not begin:
            raise _Failed(f"HTTP status {error.code} {error.reason}") from None
        if error.headers.get("Content-Range") == f"bytes */{begin}":
            return True  # nothing was missing
        part.unlink()
        return _connect(url, part, size, report)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a redirection to no address
        raise _Failed(f"no connection, {getattr(error, 'reason', error) or type(error).__name__}") from None
    with response:
        if response.status != 206:
            begin = 0  # the server sends all of it again
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            raise _Failed(f"it sent another part than the one from byte {begin:,} on")
        total = _total(response.headers.get("Content-Length"), begin, size)
        with naming(part), part.open("ab" if begin else "wb") as file:
            cut = not _receive(response, file.write, begin, total, size, report)
            flush_to_disk(file)
    return not cut and total in (None, part.stat().st_size)


def _total(length: str | None, begin: int, size: int) -> int | None:
    """The bytes of the file as a server's Content-Length gives them; None if it gives none."""
    if length is None:
        return None
    if not (length.isascii() and length.isdecimal() and len(length) < 20):
        raise _Failed(f"it states the Content-Length {length[:40]!r}, which is not a number of bytes")
    if begin + int(length) > size:
        raise _WrongFile(f"it would send {begin + int(length):,} bytes, and this file has {size:,}")
    return begin + int(length)


def _receive(
    response: Any, write: Callable[[bytes], object], done: int, total: int | None, size: int, report: Report
) -> bool:
    """Hand on what comes; False where the connection broke off. _WrongFile after more than `size` bytes in all."""
    while True:
        report(done, total)
        try:
            chunk = response.read1(CHUNK)  # what has come, even if no more comes
        except (OSError, http.client.HTTPException):
            return False
        if not chunk:
            return True
        done += len(chunk)
        if done > size:
            raise _WrongFile(f"it sends more than the {size:,} bytes that this file has")
        write(chunk)


def _is_whole(file: RemoteFile, target: Path) -> bool:
    return _sha256(target) == file.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
