"""Text as a stream of documents: a file, a folder, or texts in memory. A large file is never held whole."""

import codecs
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .files import DataError

PIECE = 1 << 20  # characters: a longer document is handed on in pieces of about this size


class Source:
    """Documents of text, kept apart so that an end-of-text token can stand between them. Iterating gives them as strings."""

    name: str

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
    """UTF-8 files, plain or .gz, in a fixed order. A byte-order mark is dropped, and every line end becomes "\\n".

    A file is one document, or with `separator` as many as that string divides it into (line ends beside it are dropped).
    """

    def __init__(self, name: str, paths: list[Path], skipped: int = 0, separator: str | None = None):
        self.name, self.paths, self.skipped, self.separator = name, paths, skipped, separator

    def __str__(self) -> str:
        files = f"{len(self.paths):,} file{'s' * (len(self.paths) != 1)}"
        return f"{self.name}: {files}" + f", {self.skipped:,} skipped that are not UTF-8 text" * (self.skipped > 0)

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for path in self.paths:
            yield from _pieces(_decode(path), self.separator)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.separator).encode("utf-8"))
        for path in self.paths:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def open_text(path: str | Path, suffixes: Iterable[str] | None = None, separator: str | None = None) -> TextFiles:
    """The text of a UTF-8 file (or .gz of one), or of a folder with all that is in it, in sorted order.

    Of a folder are taken the files that end in one of `suffixes` (such as .txt, which takes .txt.gz as well), or without
    that list all that decode as UTF-8 and hold no zero byte; hidden files and folders are passed over.
    Raises DataError where there is nothing, nothing in it, or where a file that was asked for is not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, suffixes, separator)
    if not path.is_file():
        raise DataError(f"{path} does not exist: give a UTF-8 text file, or a folder of them")
    if not any(_decode(path)):
        raise DataError(f"{path} is empty: there is nothing to learn from")
    return TextFiles(str(path), [path], separator=separator)


def read_text(path: str | Path, suffixes: Iterable[str] | None = None) -> str:
    """The whole text of a file or folder as one string; see open_text."""
    return open_text(path, suffixes).read()


def _open_folder(folder: Path, suffixes: Iterable[str] | None, separator: str | None) -> TextFiles:
    paths = sorted(_files_below(folder), key=lambda path: path.relative_to(folder).parts)
    if suffixes is None:
        chosen = [path for path in paths if _is_text(path)]
        skipped = len(paths) - len(chosen)
    else:
        wanted = tuple("." + suffix.lower().lstrip(".") for suffix in suffixes)
        chosen = [path for path in paths if path.name.lower().removesuffix(".gz").endswith(wanted)]
        skipped = 0
    chosen = [path for path in chosen if any(_decode(path))]
    if not chosen:
        kind = "UTF-8 text" if suffixes is None else " or ".join(wanted)
        raise DataError(f"no file in {folder} with {kind} in it ({len(paths):,} looked at)")
    return TextFiles(str(folder), chosen, skipped, separator)


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith(".") and Path(root, name).is_file())


def _is_text(path: Path) -> bool:
    try:
        return not any("\0" in chunk for chunk in _decode(path))
    except DataError:
        return False


def _decode(path: Path) -> Iterator[str]:
    """The file's text, in chunks; DataError at the first byte that is not UTF-8, or where a .gz file is broken."""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    offset = 0  # of the next chunk in the file
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while chunk := file.read(PIECE):
                if offset == 0:
                    _refuse_utf16(path, chunk)
                    offset = 3 * chunk.startswith(codecs.BOM_UTF8)
                    chunk = chunk[offset:]
                pending = len(utf8.getstate()[0])
                yield decoder.decode(chunk)
                offset += len(chunk)
            pending = len(utf8.getstate()[0])
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        at, byte = offset - pending + error.start, error.object[error.start]
        raise DataError(
            f"{path} is not UTF-8 text (byte 0x{byte:02X} at offset {at:,}): convert it to UTF-8 first"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): copy or download it again") from None


def _refuse_utf16(path: Path, start: bytes) -> None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16 text (byte-order mark at offset 0): save it as UTF-8 first")


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
