"""The cache of compiled kernels: whatever is wrong with a file or the folder, kernels compute, and warn once at most."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from tinyllm.kernels import compiling
from tinyllm.kernels.cpu import cache

CODE = """
import numpy as np
from tinyllm import kernels
from tinyllm.kernels import compiling
compiled = []
compiling.listeners.append(lambda: compiled.append(1))
x = np.ones(4, "f4")
kernels.scale(x, 3.25)
print(x.sum(), len(compiled))
"""
RIGHT = "13.0"


def start(folder: Path, code: str = CODE) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "TINYLLM_THREADS": "1"}
    environment.pop("TINYLLM_KERNELS", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=environment, **pipes)


def run(folder: Path, code: str = CODE) -> tuple[str, bool, str]:
    """The number that a process prints, whether something was compiled there, and what was said on stderr."""
    process = start(folder, code)
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    result, compiled = out.split()
    return result, compiled == "1", said


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    assert run(folder) == (RIGHT, True, "")
    return folder


@pytest.fixture
def folder(filled, tmp_path) -> Path:
    shutil.copytree(filled, tmp_path / "cache")
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("tinyllm-kernels/*/*"))


def triple(x):
    return 3 * x + 1


def double(x):
    return 2 * x


def from_cache(folder: Path, function: Callable[[int], int] = triple) -> bool:
    """Whether a compiled function was loaded. Otherwise it was compiled. It computes in both cases."""
    dispatcher = numba.njit(function)
    dispatcher._cache = cache.KernelCache(function, folder)
    assert dispatcher(5) == function(5)
    return sum(dispatcher.stats.cache_hits.values()) == 1


def flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 97):
        content[place] ^= 8
    path.write_bytes(content)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def swapped(path: Path) -> None:
    """Another kernel's file, with its right checksum."""
    assert not from_cache(path.parent, double)
    other = next(file for file in path.parent.iterdir() if file != path)
    path.write_bytes(other.read_bytes())


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "flipped bits": flip_bits,
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "foreign": lambda path: path.write_bytes(b"\x80\x04N." * 100),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "only the head": lambda path: os.truncate(path, len(cache.MAGIC)),
    "a directory": directory,
    "another kernel": swapped,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_compiled_again_and_replaced(damage, tmp_path):
    assert not from_cache(tmp_path) and from_cache(tmp_path)
    (path,) = tmp_path.iterdir()
    DAMAGE[damage](path)
    assert not from_cache(tmp_path)
    assert path.is_file() and from_cache(tmp_path) and not list(tmp_path.glob("*.tmp"))


def test_a_file_that_unpickles_and_does_not_rebuild(tmp_path):
    """With the right checksum and the right key, such as from a version of Numba that packed functions otherwise."""
    assert not from_cache(tmp_path)
    (path,) = tmp_path.iterdir()
    key, _ = pickle.loads(cache.read(path) or b"")
    for compiled in (("nonsense",), None, 3):
        cache.write(path, pickle.dumps((key, compiled)))
        assert not from_cache(tmp_path) and from_cache(tmp_path)
    cache.write(path, b"no pickle")
    assert not from_cache(tmp_path) and from_cache(tmp_path)


def test_a_process_that_finds_damaged_files(folder):
    for path in files(folder):
        flip_bits(path)
    assert run(folder) == (RIGHT, True, "")
    assert run(folder) == (RIGHT, False, "")


def test_nothing_is_unpickled_before_its_checksum_is_right(tmp_path):
    path = tmp_path / "file"
    cache.write(path, b"payload")
    assert cache.read(path) == b"payload"
    content = path.read_bytes()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        assert cache.read(path) is None
    for i in range(len(content)):
        path.write_bytes(content[:i])
        assert cache.read(path) is None
    assert cache.read(tmp_path / "none") is None and cache.read(tmp_path) is None


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions as POSIX has them")


@posix
def test_a_file_that_others_can_write_is_not_read(tmp_path):
    path = tmp_path / "file"
    cache.write(path, b"payload")
    for mode, seen in ((0o600, b"payload"), (0o644, b"payload"), (0o666, None), (0o620, None)):
        path.chmod(mode)
        assert cache.read(path) == seen


@posix
@pytest.mark.parametrize(("which", "mode"), [("tinyllm-kernels", 0o777), ("tinyllm-kernels/*", 0o775)])
def test_a_folder_that_others_can_write_is_not_used(which, mode, folder):
    (place,) = folder.glob(which)
    place.chmod(mode)
    before = {path: path.stat().st_mtime_ns for path in files(folder)}
    result, compiled, said = run(folder)
    assert result == RIGHT and compiled
    assert said.count("RuntimeWarning") == 1 and f"chmod -R go-w {place}" in said and "Set NUMBA_CACHE_DIR" in said
    assert before == {path: path.stat().st_mtime_ns for path in files(folder)}


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(folder):
    os.chown(folder / "tinyllm-kernels", 12345, -1)
    result, compiled, said = run(folder)
    assert (result, compiled) == (RIGHT, True) and "belongs to another user" in said and said.count("RuntimeWarning") == 1


def test_a_new_folder_is_private(filled):
    for path in (filled / "tinyllm-kernels", *(filled / "tinyllm-kernels").iterdir(), *files(filled)):
        assert cache.is_private(path.stat()) and not path.stat().st_mode & 0o077


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    """A full disk: the first file that cannot be written is reported, and no other is tried."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.KernelCache, "can_write", True)
    monkeypatch.setattr(cache.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left on device") as said:
        assert not from_cache(tmp_path) and not from_cache(tmp_path, double)
    assert len(said) == 1 and not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_meanwhile_is_made_again(tmp_path):
    path = tmp_path / "folder" / "file"
    cache.write(path, b"payload")
    assert cache.read(path) == b"payload"


def test_two_processes_compile_at_the_same_time(tmp_path):
    for process in [start(tmp_path) for _ in range(2)]:
        out, said = process.communicate(timeout=300)
        assert process.returncode == 0 and out.startswith(RIGHT) and not said
    assert run(tmp_path) == (RIGHT, False, "")


def test_listeners_are_notified_once():
    told: list[int] = []
    compiling.listeners.append(lambda: told.append(1))
    compiling.announce()
    compiling.announce()
    assert told == [1]
