"""The bytes of a file as text. One place decides what an encoding is, and what is not text."""

from __future__ import annotations

import codecs
import gzip
import re
import sys
import zlib
from pathlib import Path

from .files import DataError

UTF8 = "utf-8"
NAMES = {"utf-8": "UTF-8", "latin-1": "Latin-1", "windows-1252": "Windows-1252"}  # as sentences spell them
MARKS = (  # byte-order marks; that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
MARKS_1252 = b"\x80\x85\x8a\x8c\x8e\x91\x92\x93\x94\x95\x96\x97\x99\x9a\x9c\x9e"  # quotes, dashes and a few letters
SAMPLE = 1 << 16  # bytes from which an encoding is guessed
EXPANDS = 1000  # a .gz that grows to more than so many times its size, and beyond LARGE, is refused
LARGE = 1 << 28  # bytes


def read_file(path: str | Path, encoding: str = UTF8, missing: str = "give a file that exists") -> str:
    """The text of a whole file, plain or .gz, without a byte-order mark; of standard input if path is "-".

    missing: what to do if there is no such file. Raises DataError for a file that does not exist, is a folder, is not text
    in this encoding, or holds NUL bytes.
    """
    if str(path) == "-":
        return decoded(sys.stdin.buffer.read(), "standard input", encoding)
    path = Path(path)
    try:
        data = path.read_bytes()
        return decoded(unzipped(path, data) if path.suffix == ".gz" else data, path, encoding)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: {missing}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: give one of the files in it") from None
    except PermissionError:
        raise DataError(
            f"{path} is a folder: give one of the files in it" if path.is_dir() else f"{path} may not be read: {missing}"
        ) from None


def unzipped(path: Path, data: bytes) -> bytes:
    """The content of a .gz file. DataError if it is damaged, or grows beyond what a text does."""
    most = max(EXPANDS * len(data), LARGE)
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): copy or download it again") from None
    if len(content) > most:
        raise DataError(f"{path} grows to more than {EXPANDS} times its size, which no text does: unpack it yourself")
    return content


def decoded(data: bytes, name: str | Path, encoding: str = UTF8) -> str:
    """The text of bytes. name: what the errors call them."""
    refuse_mark(name, data, encoding)
    try:
        text = data.decode(checked_encoding(encoding))
    except UnicodeDecodeError as error:
        raise not_text(name, error.object, error.start, encoding) from None
    if (place := text.find("\0")) >= 0:
        raise nul(name, data, place, encoding)
    return text.removeprefix("\ufeff")


def checked_encoding(encoding: str) -> str:
    """The name of an encoding as Python knows it; DataError if there is none of that name."""
    try:
        "".encode(encoding)  # codecs.lookup also finds "hex", which makes no text
    except (LookupError, ValueError):
        raise DataError(f"there is no encoding {encoding!r}: utf-8, utf-16, latin-1 and windows-1252 are some") from None
    return encoding


def refuse_mark(name: str | Path, start: bytes, encoding: str) -> None:
    """DataError if a file that is read as UTF-8 begins with the byte-order mark of another encoding."""
    for mark, other in MARKS:
        if is_utf8(encoding) and start.startswith(mark):
            raise DataError(
                f"{name} is {other.upper()} text (byte-order mark at offset 0): save it as UTF-8, or give --encoding {other}"
            )


def not_text(name: str | Path, data: bytes, place: int, encoding: str, offset: int | None = None) -> DataError:
    """The error for the byte at `place` of some data that cannot be read. offset: of that byte in the file."""
    guess = guessed(data)
    said = NAMES.get(encoding.lower(), encoding)
    where = f"byte 0x{data[place]:02X} at offset {place if offset is None else offset:,}"
    if guess and guess != encoding:
        return DataError(f"{name} is not {said} text ({where}): it looks like {NAMES.get(guess, guess)}: --encoding {guess}")
    return DataError(f"{name} is not {said} text ({where}): convert it to UTF-8, or name its encoding by --encoding")


def nul(name: str | Path, data: bytes, place: int, encoding: str) -> DataError:
    """The error for a NUL character, which no text has: the file is binary, or in UTF-16."""
    guess = guessed(data) if is_utf8(encoding) else None
    if guess and guess.startswith("utf-"):
        return DataError(f"{name} looks like {guess.upper()} text without a byte-order mark: --encoding {guess}")
    return DataError(f"{name} is not text: it holds a NUL character at offset {place:,}")


def guessed(data: bytes) -> str | None:
    """The encoding that bytes which are not UTF-8 seem to have, or None if nothing speaks for one.

    UTF-16 and UTF-32 are known by where their NUL bytes are. In the one-byte encodings of Western Europe, letters with
    accents mostly stand alone between those of ASCII.
    """
    data = data[:SAMPLE]
    if b"\0" in data and len(data) >= 8:
        nuls = [data[i::4].count(0) / max(len(data[i::4]), 1) for i in range(4)]
        if nuls[0] < 0.1 < 0.9 < min(nuls[1:]):
            return "utf-32-le"
        if nuls[3] < 0.1 < 0.9 < min(nuls[:3]):
            return "utf-32-be"
        even, odd = min(nuls[0::2]), min(nuls[1::2])
        if max(even, odd) > 0.3 and min(even, odd) < 0.1:
            return "utf-16-le" if odd > even else "utf-16-be"
    if b"\0" in data:
        return None
    runs: list[bytes] = re.findall(rb"[\x80-\xff]+", data)
    high = b"".join(runs)
    if not high or 2 * len(high) < 3 * sum(not c.isascii() for c in data.decode("utf-8", "ignore")):
        return None  # most of it is UTF-8
    short = len(high) <= 2 * len(runs) and any(len(run) % 2 for run in runs)
    low = [byte for byte in high if byte < 0xA0]
    if not short or any(byte not in MARKS_1252 for byte in low):
        return None
    return "windows-1252" if low else "latin-1"


def is_utf8(encoding: str) -> bool:
    return codecs.lookup(checked_encoding(encoding)).name in ("utf-8", "utf-8-sig")


def lines_of(text: str) -> list[str]:
    """The lines of a text without their ends: LF, CRLF, or CR alone in a file that has no LF. A last empty one is left
    out."""
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []
