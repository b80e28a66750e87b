"""Fetching the registry's files: with mirrors, resumed after a cut, held to their SHA-256, kept in the cache folder."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from ..files import atomic_file, flush_to_disk
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
        if not _is_whole(target, _expected(file, target)):
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
    expected = _expected(file, target)
    if target.exists():
        if _is_whole(target, expected):
            _record(file, target, label, display)
            return
        display.say(f"{label} is damaged: fetching it again")
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with _alone(part, label, display):
        if not (target.exists() and _is_whole(target, expected)):  # else another process has just fetched it
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
    failures, expected = [], _expected(file, target)
    for url in file.urls:
        try:
            with display.bar(label, file.size) as report:
                _obtain(url, part, expected, report)
        except _Failed as failure:
            failures.append(f"{urlsplit(url).netloc}: {failure}")
            continue
        os.replace(part, target)
        _record(file, target, label, display)
        return
    kept = " (what came of it is kept, to go on from)" if part.exists() else ""
    raise DataError(
        f"cannot fetch {label}: {'; '.join(failures)}; try again online{kept}, or put the file at {target} by hand"
    )


def _obtain(url: str, part: Path, expected: str | None, report: Report) -> None:
    """All bytes of one address into `part`, with the SHA-256 expected; goes on where an earlier download was cut."""
    resumed = part.exists()
    _download(url, part, report)
    got = _sha256(part)
    if expected is not None and got != expected:
        part.unlink()
        if resumed:  # what was there may have been another's
            return _obtain(url, part, expected, report)
        raise _Failed(f"its bytes have the SHA-256 {got[:12]}..., not {expected[:12]}...")


def _download(url: str, part: Path, report: Report) -> None:
    """Connect until all is there, as long as each connection brings something."""
    longest = -1
    while not _connect(url, part, report):
        size = part.stat().st_size
        if size <= longest:
            raise _Failed(f"the connection was cut after {size:,} bytes")
        longest = size


def _connect(url: str, part: Path, report: Report) -> bool:
    """Append to `part` what the server sends from its end on; whether all is there now."""
    begin = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "tinyllm", "Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not begin:
            raise _Failed(f"HTTP status {error.code} {error.reason}") from None
        if error.headers.get("Content-Range") == f"bytes */{begin}":
            return True  # nothing was missing
        part.unlink()
        return _connect(url, part, report)
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(f"no connection, {getattr(error, 'reason', error) or type(error).__name__}") from None
    with response:
        if response.status != 206:
            begin = 0  # the server sends all of it again
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            raise _Failed(f"it sent another part than the one from byte {begin:,} on")
        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        with part.open("ab" if begin else "wb") as file:
            cut = not _receive(response, file.write, begin, total, report)
            flush_to_disk(file)
    return not cut and total in (None, part.stat().st_size)


def _receive(
    response: http.client.HTTPResponse, write: Callable[[bytes], object], done: int, total: int | None, report: Report
) -> bool:
    """Hand on what comes; False where the connection broke off."""
    while True:
        report(done, total)
        try:
            chunk = response.read1(CHUNK)  # what has come, even if no more comes
        except (OSError, http.client.HTTPException):
            return False
        if not chunk:
            return True
        write(chunk)
        done += len(chunk)


def _expected(file: RemoteFile, target: Path) -> str | None:
    record = _record_path(target)
    if file.sha256 or not record.exists():
        return file.sha256
    return record.read_text(encoding="utf-8").split()[0]


def _is_whole(target: Path, expected: str | None) -> bool:
    return expected is None or _sha256(target) == expected


def _record(file: RemoteFile, target: Path, label: str, display: _Display) -> None:
    record = _record_path(target)
    if file.sha256 is None and not record.exists():
        digest = _sha256(target)
        with atomic_file(record) as out:
            out.write(f"{digest}  {target.name}\n".encode())
        display.say(f"{label}: no SHA-256 is published; {digest[:12]}... is recorded in {record.name} and holds from now on")


def _record_path(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
