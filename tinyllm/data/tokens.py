"""Token files: a corpus encoded once, and mapped into memory from then on, so that it may be larger than memory.

A file is one page of header (JSON, padded with spaces), and then the tokens, little-endian uint16 or uint32. The header has
a CRC-32 of itself and of the tokens. It is compared each time a file is opened, because one flipped bit would be trained on.
CRC-32 finds damage, not forgery. It reads 4 GB/s, four times as much as BLAKE2.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_file
from ..tokenizers.base import Tokenizer
from .files import DataError, cache_dir
from .text import Source

HEADER = 4096  # bytes
FORMAT, VERSION = "tinyllm tokens", 2
CHUNK = 1 << 20  # bytes read at a time to compare the checksum

Progress = Callable[[int], None]  # called now and then with the number of characters encoded so far


def tokenize(
    source: Source, tokenizer: Tokenizer, end_of_text: int | None = None, progress: Progress | None = None
) -> np.ndarray:
    """All tokens of a source, in memory: (tokens,) uint16, or uint32 where the vocabulary needs it.

    `end_of_text` is the id that stands after every document; None puts nothing there.
    """
    return np.concatenate([ids for ids, _ in _encode(source, tokenizer, end_of_text, progress)])


def write_tokens(
    path: str | Path, source: Source, tokenizer: Tokenizer, end_of_text: int | None = None, progress: Progress | None = None
) -> np.ndarray:
    """Encode a source into a token file, a piece at a time, and open it. The file appears when it is whole."""
    path = Path(path)
    count, documents, checksum = 0, 0, 0
    with atomic_file(path) as file:
        file.write(b" " * HEADER)
        for ids, ends in _encode(source, tokenizer, end_of_text, progress):
            data = ids.astype(ids.dtype.newbyteorder("<"), copy=False).tobytes()
            file.write(data)
            checksum = zlib.crc32(data, checksum)
            count, documents = count + len(ids), documents + ends
        header = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": str(token_dtype(tokenizer.vocab_size)),
            "count": count,
            "documents": documents,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer": tokenizer_fingerprint(tokenizer),
        }
        header["crc32"] = _with_header(checksum, header)
        file.seek(0)
        file.write(json.dumps(header).encode("ascii").ljust(HEADER - 1) + b"\n")
    return open_tokens(path, tokenizer)


def open_tokens(path: str | Path, tokenizer: Tokenizer | None = None) -> np.ndarray:
    """The tokens of a file, (tokens,) uint16 or uint32, read-only: a map of the file, of which only what is used is read.

    Raises DataError for a file that is missing, damaged or of another kind, or that another tokenizer wrote.
    """
    path = Path(path)
    header = _header(path)
    dtype, count = np.dtype(header["dtype"]).newbyteorder("<"), header["count"]
    expected, size = HEADER + count * dtype.itemsize, path.stat().st_size
    if size != expected:
        raise DataError(f"{path} has {size:,} bytes and should have {expected:,}: it is damaged; delete it and encode again")
    if _with_header(_checksum(path), header) != header["crc32"]:
        raise DataError(f"{path} is damaged, its CRC-32 is another than when it was written: delete it and encode again")
    if tokenizer is not None and header["tokenizer"] != tokenizer_fingerprint(tokenizer):
        raise DataError(
            f"{path} was encoded with another tokenizer (of {header['vocab_size']:,} tokens; "
            f"this one has {tokenizer.vocab_size:,}): use that tokenizer, or encode the text again"
        )
    return np.memmap(path, dtype, mode="r", offset=HEADER, shape=(count,)).view(np.ndarray)


def cached_tokens(
    source: Source, tokenizer: Tokenizer, end_of_text: int | None = None, progress: Progress | None = None
) -> np.ndarray:
    """As write_tokens, into the cache folder; a source that this tokenizer has encoded before is only opened.

    A file that is damaged is encoded again. DataError if the cache folder cannot be written to.
    """
    parts = (VERSION, source.fingerprint(), tokenizer_fingerprint(tokenizer), end_of_text)
    path = cache_dir() / "tokens" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.bin"
    try:
        return open_tokens(path, tokenizer)
    except (DataError, OSError):  # not there, or damaged
        pass
    try:
        return write_tokens(path, source, tokenizer, end_of_text, progress)
    except OSError as error:
        if error.filename is not None and not Path(error.filename).is_relative_to(cache_dir()):
            raise  # the text itself cannot be read
        raise DataError(
            f"the encoded text cannot be kept in {path.parent} ({error.strerror or error}): free some space there, or set "
            "TINYLLM_CACHE to another folder"
        ) from error


def token_dtype(vocab_size: int) -> np.dtype:
    """uint16 where it holds every id, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


PROBE = "The quick fox's 12,345  jumps:\n\tdef f(x):\n\n\t\treturn -x\r\n Äpfel, naïve “café” Привет 你好 👩‍👧 <|endoftext|>"


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """SHA-256 over the vocabulary and what becomes of a probing text: tokenizers that agree in both count as the same."""
    digest = hashlib.sha256()
    for id in range(tokenizer.vocab_size):
        digest.update(f"{tokenizer.id_to_token(id)}\0".encode("utf-8", "surrogatepass"))
    try:
        digest.update(repr(tokenizer.encode(PROBE)).encode())
    except ValueError:
        pass  # a vocabulary of characters may lack some of these
    return digest.hexdigest()


def _encode(
    source: Source, tokenizer: Tokenizer, end_of_text: int | None, progress: Progress | None
) -> Iterator[tuple[np.ndarray, bool]]:
    """The tokens of each piece, and whether a document ends with it."""
    size, done = tokenizer.vocab_size, 0
    if end_of_text is not None and not 0 <= end_of_text < size:
        raise DataError(f"the end-of-text id {end_of_text} is not among this tokenizer's {size:,} tokens")
    for text, ends in source.pieces():
        ids = np.array(tokenizer.encode(text) + [end_of_text] * (ends and end_of_text is not None), dtype=np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < size:
            raise DataError(f"the tokenizer gave the id {ids.max():,}, outside its own vocabulary of {size:,} tokens")
        yield ids.astype(token_dtype(size)), ends
        done += len(text)
        if progress:
            progress(done)


def _header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path} does not exist: encode the text first")
    with path.open("rb") as file:
        page = file.read(HEADER)
    try:
        header = json.loads(page)
        known = header["format"] == FORMAT and header["dtype"] in ("uint16", "uint32") and header["count"] > 0
        known = known and type(header["count"]) is int and {"version", "vocab_size", "tokenizer"} <= header.keys()
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise DataError(f"{path} is not a token file of tinyllm: encode its text with write_tokens, or give the text itself")
    if header["version"] != VERSION:
        raise DataError(
            f"{path} is a token file of version {header['version']}, this tinyllm reads {VERSION}: encode it again"
        )
    if type(header.get("crc32")) is not int:
        raise DataError(f"{path} lacks its CRC-32: it is damaged; delete it and encode again")
    return header


def _checksum(path: Path) -> int:
    """The CRC-32 of a file's tokens."""
    checksum = 0
    with path.open("rb") as file:  # not through the map, where a disk error would end the process
        file.seek(HEADER)
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _with_header(checksum: int, header: dict[str, Any]) -> int:
    """The CRC-32 of the tokens, continued over all that the header says beside it."""
    fields = {name: value for name, value in header.items() if name != "crc32"}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode("utf-8"), checksum)
