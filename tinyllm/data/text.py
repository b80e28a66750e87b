"""Text as a stream of documents: a file, a folder, or texts in memory. A large file is never held whole."""

import codecs
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .files import DataError
from .reading import EXPANDS, LARGE, NAMES, UTF8, checked_encoding, not_text, nul, refuse_mark

PIECE = 1 << 20  # characters: a longer document is handed on in pieces of about this size


class Source:
    """Documents of text, kept apart so that an end-of-text token can stand between them. Iterating gives them as strings."""

    name: str
    notes = ""  # what a user should know of it: which files of a folder were read, and which not

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The documents in stretches of bounded size: (text, whether its document ends with it)."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """SHA-256 of what the source holds, in hexadecimal: the same text in the same order gives the same."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        parts = []
        for text, ends in self.pieces():
            parts.append(text)
            if ends:
                yield "".join(parts)
                parts = []

    def read(self) -> str:
        """Everything as one string, an empty line between documents that end with a line end."""
        return "\n".join(self)


class Texts(Source):
    """Documents held in memory."""

    def __init__(self, name: str, texts: Iterable[str]):
        self.name = name
        self.texts = [text for text in texts if text]
        if not self.texts:
            raise DataError(f"{name} holds no text")

    def __str__(self) -> str:
        return f"{self.name}: {len(self.texts):,} documents"

    def pieces(self) -> Iterator[tuple[str, bool]]:
        return ((text, True) for text in self.texts)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for text in self.texts:
            data = text.encode("utf-8")
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


class TextFiles(Source):
    """Text files, plain or .gz, in a fixed order. A byte-order mark is dropped, and every line end becomes "\\n".

    A file is one document, or with `separator` as many as that string divides it into (line ends beside it are dropped).
    passed_over: the files of a folder that are not read, each with the reason.
    """

    def __init__(
        self, name: str, paths: list[Path], passed_over: Sequence[tuple[Path, str]] = (), separator: str | None = None,
        encoding: str = UTF8,
    ):  # fmt: skip
        self.name, self.paths, self.passed_over = name, paths, passed_over
        self.separator, self.encoding = separator, encoding

    def __str__(self) -> str:
        files = f"{len(self.paths):,} file{'s' * (len(self.paths) != 1)}"
        return f"{self.name}: {files}" + f", {len(self.passed_over):,} passed over" * bool(self.passed_over)

    @property
    def notes(self) -> str:  # type: ignore[override]
        """Which files of a folder are read, and which are passed over and why; "" of a single file."""
        folder = Path(self.name)
        if self.paths == [folder]:
            return ""
        read = [str(path.relative_to(folder)) for path in self.paths]
        over = [f"{path.relative_to(folder)} ({reason})" for path, reason in self.passed_over]
        return f"{self}\n  read: {some(read)}" + (f"\n  passed over: {some(over)}" if over else "")

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for path in self.paths:
            yield from _pieces(_decode(path, self.encoding), self.separator)

    def fingerprint(self) -> str:
        settings = repr(self.separator) if self.encoding == UTF8 else repr((self.separator, self.encoding))
        digest = hashlib.sha256(settings.encode("utf-8"))
        for path in self.paths:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def open_text(
    path: str | Path, suffixes: Iterable[str] | None = None, separator: str | None = None, encoding: str = UTF8
) -> TextFiles:
    """The text of a file (or .gz of one), or of a folder with all that is in it, in sorted order.

    Of a folder are taken the files that end in one of `suffixes` (such as .txt, which takes .txt.gz as well), or without
    that list all that are text in this encoding. Hidden files and folders are never read. `notes` names the files that are
    read, and those that are passed over.
    Raises DataError if there is nothing, nothing in it, or if a file that was asked for is not text in this encoding.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, suffixes, separator, encoding)
    if not path.is_file():
        raise DataError(f"{path} does not exist: give a UTF-8 text file, or a folder of them")
    if not any(_decode(path, encoding)):
        raise DataError(f"{path} is empty: there is nothing to learn from")
    return TextFiles(str(path), [path], separator=separator, encoding=encoding)


def read_text(path: str | Path, suffixes: Iterable[str] | None = None, encoding: str = UTF8) -> str:
    """The whole text of a file or folder as one string; see open_text."""
    return open_text(path, suffixes, encoding=encoding).read()


def _open_folder(folder: Path, suffixes: Iterable[str] | None, separator: str | None, encoding: str) -> TextFiles:
    paths = sorted(_files_below(folder), key=lambda path: path.relative_to(folder).parts)
    wanted = None if suffixes is None else tuple("." + suffix.lower().lstrip(".") for suffix in suffixes)
    chosen, over = [], []
    for path in paths:
        if reason := _why_not(path, wanted, encoding):
            over.append((path, reason))
        else:
            chosen.append(path)
    if not chosen:
        kind = f"{NAMES.get(encoding, encoding)} text" if wanted is None else " or ".join(wanted)
        looked = ": " + some([f"{path.relative_to(folder)} ({reason})" for path, reason in over]) if over else ""
        raise DataError(f"no file in {folder} with {kind} in it ({len(paths):,} looked at{looked})")
    return TextFiles(str(folder), chosen, over, separator, encoding)


def _why_not(path: Path, wanted: tuple[str, ...] | None, encoding: str) -> str:
    """Why a file of a folder is not read; "" if it is. DataError if it was asked for by its ending and is not text."""
    if wanted is not None and not path.name.lower().removesuffix(".gz").endswith(wanted):
        return f"it does not end in {' or '.join(wanted)}"
    try:
        return "" if sum(map(len, _decode(path, encoding))) else "it is empty"
    except DataError as error:
        if wanted is not None:
            raise
        return str(error).removeprefix(f"{path} ")


def some(names: Sequence[str], most: int = 10) -> str:
    """The first of several names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith(".") and Path(root, name).is_file())


def _decode(path: Path, encoding: str = UTF8) -> Iterator[str]:
    """The file's text, in chunks. DataError at the first byte that is not text, or if a .gz file is damaged."""
    incremental = codecs.getincrementaldecoder(checked_encoding(encoding))()
    decoder = io.IncrementalNewlineDecoder(incremental, translate=True)
    offset, begins = 0, True  # of the next chunk in the file, and whether no text has come yet
    most = max(EXPANDS * path.stat().st_size, LARGE)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while chunk := file.read(PIECE):
                if offset == 0:
                    refuse_mark(path, chunk, encoding)
                    offset = 3 * (chunk.startswith(codecs.BOM_UTF8) and encoding == UTF8)
                    chunk = chunk[offset:]
                pending = len(incremental.getstate()[0])
                text = decoder.decode(chunk)
                if begins and encoding != UTF8:
                    text = text.removeprefix("\ufeff")
                begins = begins and not text
                if "\0" in text:
                    raise nul(path, chunk, offset + max(chunk.find(b"\0"), 0), encoding)
                yield text
                offset += len(chunk)
                if offset > most:
                    raise DataError(f"{path} grows to more than {EXPANDS} times its size, which no text does: unpack it")
            pending = len(incremental.getstate()[0])
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        at = offset - pending + error.start
        raise not_text(path, error.object, error.start, encoding, at) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): copy or download it again") from None


def _pieces(chunks: Iterator[str], separator: str | None) -> Iterator[tuple[str, bool]]:
    """One file's chunks as (piece, whether its document ends there)."""
    buffer, begins = "", True

    def tidy(text: str, ends: bool) -> str:
        if separator:
            text = text.lstrip("\n") if begins else text
            text = text.rstrip("\n") if ends else text
        return text

    for chunk in chunks:
        buffer += chunk
        if separator:
            *whole, buffer = buffer.split(separator)
            for document in whole:
                if text := tidy(document, ends=True):
                    yield text, True
                begins = True
        while len(buffer) > PIECE and (cut := _cut(buffer, len(separator or " "))):
            yield tidy(buffer[:cut], ends=False), False
            buffer, begins = buffer[cut:], False
    if text := tidy(buffer, ends=True):
        yield text, True


def _cut(text: str, keep: int) -> int:
    """Where to divide a long text, at least `keep` characters before its end; 0: not yet.

    Behind a line end that stands alone between two characters that are not white space, if there is one: there a tokenizer
    that splits at white space, as GPT-2's does, gives the same tokens for the parts as for the whole.
    """
    end = len(text) - keep
    while (end := text.rfind("\n", 1, end)) > 0:
        if not text[end - 1].isspace() and not text[end + 1].isspace():
            return end + 1
    return len(text) - keep if len(text) > 16 * PIECE else 0
