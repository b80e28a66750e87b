"""From tokens to text, one token at a time: a tokenizer.json's decoder, and SentencePiece's own.

A decoder has feed(token, id), which returns the text that is complete, and finish(), which returns the rest. A step of a
tokenizer.json's decoder has the same two methods, but takes and returns lists of tokens.
"""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import regex

from .byte_characters import to_bytes
from .files import TokenizerError
from .json_steps import Json, flat, refuse
from .normalizers import replacer

SPACE = "\u2581"  # how SentencePiece writes a space


class Decoder(Protocol):
    def feed(self, token: str, id: int) -> str: ...

    def finish(self) -> str: ...


class Step(Protocol):
    def feed(self, tokens: list[str]) -> list[str]: ...

    def finish(self) -> list[str]: ...


class Each:
    """A function of each token; whether the token is the first one is its second argument."""

    def __init__(self, function: Callable[[str, bool], str]):
        self.function = function
        self.first = True

    def feed(self, tokens: list[str]) -> list[str]:
        found = [self.function(token, self.first and at == 0) for at, token in enumerate(tokens)]
        self.first = self.first and not tokens
        return found

    def finish(self) -> list[str]:
        return []


class ByteFallback:
    """Tokens <0x00> to <0xFF> become text, a whole run of them together.

    A run that is not UTF-8 gives one U+FFFD for each byte, as in the tokenizers library.
    """

    def __init__(self) -> None:
        self.run = bytearray()

    def feed(self, tokens: list[str]) -> list[str]:
        found: list[str] = []
        for token in tokens:
            if match := _BYTE.fullmatch(token):
                self.run.append(int(match[1], 16))
            else:
                found += [*self.finish(), token]
        return found

    def finish(self) -> list[str]:
        run, self.run = bytes(self.run), bytearray()
        try:
            return [run.decode()] if run else []
        except UnicodeDecodeError:
            return ["\N{REPLACEMENT CHARACTER}"] * len(run)


_BYTE = regex.compile("<0x([0-9A-Fa-f]{2}|[+][0-9A-Fa-f])>")


class ByteLevel:
    """GPT-2's byte characters become the bytes that they spell, and those UTF-8 text."""

    def __init__(self) -> None:
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, tokens: list[str]) -> list[str]:
        return [self.utf8.decode(b"".join(map(to_bytes, tokens)))]

    def finish(self) -> list[str]:
        return [self.utf8.decode(b"", final=True)]


class StripStart:
    """Strip after Fuse: up to `count` times `content` at the beginning of the text."""

    def __init__(self, content: str, count: int):
        self.content = content
        self.count = count

    def feed(self, tokens: list[str]) -> list[str]:
        text = "".join(tokens)
        while self.count and text.startswith(self.content):
            text = text[1:]
            self.count -= 1
        self.count = 0 if text else self.count
        return [text]

    def finish(self) -> list[str]:
        return []


class JsonDecoder:
    """The decoder of a tokenizer.json, given as the list of its steps; without any, a space goes between two tokens."""

    def __init__(self, steps: Sequence[Json]):
        self.steps = _steps(steps) if steps else [Each(lambda token, first: token if first else f" {token}")]

    def feed(self, token: str, id: int) -> str:
        tokens = [token]
        for step in self.steps:
            tokens = step.feed(tokens)
        return "".join(tokens)

    def finish(self) -> str:
        tokens: list[str] = []
        for step in self.steps:
            tokens = step.feed(tokens) + step.finish() if tokens else step.finish()
        return "".join(tokens)


def _steps(parts: Sequence[Json]) -> list[Step]:
    """The steps that a decoder's parts stand for. After Fuse the text is one token, of which only the start is known."""
    found: list[Step] = []
    fused = False
    for part in parts:
        kind = part["type"]
        if kind == "Fuse":
            fused = True
        elif kind == "Strip" and fused and part["stop"] == 0:
            found.append(StripStart(part["content"], part["start"]))
        elif fused:
            raise refuse(part, "as decoder after Fuse")
        elif kind == "ByteLevel":
            found.append(ByteLevel())
            fused = True
        elif kind in _MAKE:
            found.append(_MAKE[kind](part))
        else:
            raise refuse(part, "as decoder")
    return found


def _metaspace(part: Json) -> Step:
    space = part["replacement"]
    always = "always" if part.get("add_prefix_space", True) else "never"
    dropped = part.get("prepend_scheme", always) != "never"  # all of them, in the first token, wherever they are
    return Each(lambda token, first: token.replace(space, "" if first and dropped else " "))


def _strip(part: Json) -> Step:
    start, stop = (regex.compile(f"{regex.escape(part['content'])}{{0,{part[side]}}}") for side in ("start", "stop"))

    def strip(token: str, _: bool) -> str:
        token = token[start.match(token).end() :]
        return token[: len(token) - stop.match(token[::-1]).end()]

    return Each(strip)


def _replace(part: Json) -> Step:
    replace = replacer(part)
    return Each(lambda token, _: replace(token))


def _wordpiece(part: Json) -> Step:
    prefix, cleanup = part["prefix"], part.get("cleanup", True)
    return Each(lambda token, first: wordpiece_text(token, first, prefix, cleanup))


_MAKE: dict[str, Callable[[Json], Step]] = {
    "ByteFallback": lambda part: ByteFallback(),
    "Metaspace": _metaspace,
    "Replace": _replace,
    "Strip": _strip,
    "WordPiece": _wordpiece,
}

# What decoding takes back: the space that cutting at punctuation put before these.
_TIDY = [(f" {mark}", mark) for mark in ".?!,"] + [(" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" do not", " don't")]
_TIDY += [(f" {end}", end) for end in ("'s", "'ve", "'re")]


def wordpiece_text(token: str, first: bool, prefix: str, tidy: bool) -> str:
    """A token as it follows others: a space before a word, none before the rest of one."""
    if not first:
        token = token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
    for spaced, tidied in _TIDY if tidy else ():
        token = token.replace(spaced, tidied)
    return token


class SentencePieceDecoder:
    """SentencePiece's own way (SentencePieceProcessor::Decode).

    byte_of: the byte of each byte piece, by id. surface: the text of pieces that have another text than their spelling.
    strip: SPACEs are dropped at the beginning of the text, "one", "all" (one of each piece, until there is text) or "none".
    denormalize: what the whole text goes through at its end, so that nothing is complete before.
    """

    def __init__(
        self,
        byte_of: Mapping[int, bytes],
        surface: Mapping[int, str],
        strip: str,
        denormalize: Callable[[str], str] | None = None,
    ):
        self.byte_of = byte_of
        self.surface = surface
        self.strip = strip
        self.denormalize = denormalize
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="tinyllm.each_byte")
        self._begins = strip != "none"
        self._kept: list[str] = []

    def feed(self, token: str, id: int) -> str:
        if id in self.byte_of:
            return self._given(self._utf8.decode(self.byte_of[id]))
        before = self._given(self._utf8.decode(b"", final=True))
        return before + self._given(self.surface[id] if id in self.surface else self._text(token))

    def _text(self, piece: str) -> str:
        if self._begins and piece.startswith(SPACE):
            piece = piece[1:]
            self._begins = self.strip == "all"
        return piece.replace(SPACE, " ")

    def _given(self, text: str) -> str:
        self._begins = self._begins and not text
        if self.denormalize is None:
            return text
        self._kept.append(text)
        return ""

    def finish(self) -> str:
        text = self._given(self._utf8.decode(b"", final=True))
        return text if self.denormalize is None else self.denormalize("".join(self._kept))


def decoder_steps(part: Json | None) -> list[Json]:
    """The steps of a tokenizer.json's decoder, after checking that each is supported; a decoder without steps fuses."""
    steps = flat(part, "decoders") or ([] if part is None else [{"type": "Fuse"}])
    try:
        _steps(steps)
    except (KeyError, TypeError) as error:
        raise TokenizerError(f"its decoder is damaged: {type(error).__name__} {error}") from None
    return steps


def each_byte(error: UnicodeError) -> tuple[str, int]:
    """An error handler for decoding: one U+FFFD for each byte that is not UTF-8, as SentencePiece does it."""
    assert isinstance(error, UnicodeDecodeError)
    return "\N{REPLACEMENT CHARACTER}" * (error.end - error.start), error.end


codecs.register_error("tinyllm.each_byte", each_byte)
