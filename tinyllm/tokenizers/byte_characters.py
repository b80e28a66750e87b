"""GPT-2's alphabet of bytes. vocab.json and tokenizer.json spell each byte of a token as one printable character."""


def _byte_characters() -> list[str]:
    """List the character of each byte: the Latin-1 character if it is printable, otherwise the next one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


BYTE_TO_CHARACTER = _byte_characters()
CHARACTER_TO_BYTE = {character: byte for byte, character in enumerate(BYTE_TO_CHARACTER)}
BYTES_IN_VOCABULARY_ORDER = sorted(range(256), key=BYTE_TO_CHARACTER.__getitem__)  # GPT-2's ids 0 to 255


def to_bytes(token: str) -> bytes:
    """Return the bytes that a token of vocab.json spells. A token outside GPT-2's alphabet is encoded as UTF-8."""
    try:
        return bytes(map(CHARACTER_TO_BYTE.__getitem__, token))
    except KeyError:
        return token.encode("utf-8")


def to_characters(token: bytes) -> str:
    """Spell a token as vocab.json does."""
    return "".join(map(BYTE_TO_CHARACTER.__getitem__, token))
