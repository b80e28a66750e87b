"""The few lines of Protocol Buffers that SentencePiece's .model needs: the wire format, and the fields we read.

Wire format: developers' guide "Encoding"; fields: sentencepiece_model.proto's ModelProto.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .files import TokenizerError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE, WORD, CHAR = range(1, 5)


@dataclass
class SentencePieceModel:
    """What a .model says. Defaults are those of the format: a field that has its default value may be left out."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)  # text, score, kind
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    unk_surface: str = " \u2047 "
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    denormalizer: bytes = b""  # the charsmap that decoding applies to the whole text
    denormalizer_prefix: bool = True
    denormalizer_single_spaces: bool = True
    denormalizer_escape: bool = True


TRAINER_FIELDS = {
    3: "model_type",
    24: "whitespace_as_suffix",
    35: "byte_fallback",
    40: "unk_id",
    41: "bos_id",
    42: "eos_id",
    43: "pad_id",
    44: "unk_surface",
}
NORMALIZER_FIELDS = {2: "charsmap", 3: "add_dummy_prefix", 4: "remove_extra_whitespaces", 5: "escape_whitespaces"}
DENORMALIZER_FIELDS = {
    2: "denormalizer",
    3: "denormalizer_prefix",
    4: "denormalizer_single_spaces",
    5: "denormalizer_escape",
}
PARTS = {2: TRAINER_FIELDS, 3: NORMALIZER_FIELDS, 5: DENORMALIZER_FIELDS}


def parse_model(data: bytes) -> SentencePieceModel:
    """A .model file's bytes. TokenizerError where they are cut off or not a SentencePiece model."""
    model = SentencePieceModel()
    try:
        for number, value in fields(data):
            if number == 1:
                model.pieces.append(_piece(value))
            elif number in PARTS:
                _set(model, value, PARTS[number])
    except (IndexError, ValueError, TypeError, struct.error):
        raise TokenizerError("it is cut off, or not a SentencePiece model") from None
    if not model.pieces:
        raise TokenizerError("it is not a SentencePiece model: it has no pieces")
    return model


def write_model(model: SentencePieceModel) -> bytes:
    """The bytes of a .model that says what `model` says; the sentencepiece library reads it."""
    parts = [_field(1, _field(1, text) + _field(2, score) + _field(3, kind)) for text, score, kind in model.pieces]
    for number, names in PARTS.items():
        parts.append(_field(number, b"".join(_field(inner, getattr(model, name)) for inner, name in names.items())))
    return b"".join(parts)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a message: a number, a float32, or the length of the bytes and the bytes."""
    if isinstance(value, int):
        return _varint_bytes(number << 3) + _varint_bytes(value % (1 << 64))
    if isinstance(value, float):
        return _varint_bytes(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return _varint_bytes(number << 3 | 2) + _varint_bytes(len(value)) + value


def _varint_bytes(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, (number, value): numbers as int, the rest as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where the next thing begins."""
    value = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes in place of a number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in place of bytes")
    return value


def _piece(data: int | bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, NORMAL
    for number, value in fields(_bytes(data)):
        if number == 1:
            text = _bytes(value).decode("utf-8")
        elif number == 2:
            (score,) = struct.unpack("<f", _bytes(value))
        elif number == 3:
            kind = _number(value)
    if not math.isfinite(score):
        raise ValueError("a score that is not finite")
    return text, score, kind


def _set(model: SentencePieceModel, data: int | bytes, names: dict[int, str]) -> None:
    """Put the fields that have names into the model, each as the type that its default has."""
    for number, value in fields(_bytes(data)):
        name = names.get(number)
        if name is None:
            continue
        kind = type(getattr(model, name))
        if kind in (str, bytes):
            text = _bytes(value)
            setattr(model, name, text.decode("utf-8") if kind is str else text)
        else:
            count = _number(value)
            setattr(model, name, kind(count - (1 << 64) if kind is int and count >= 1 << 63 else count))  # two's complement
