"""From a text to the words of a SentencePiece-style vocabulary, in which a space is written U+2581, here SPACE.

Two ways, for the two libraries whose ids we give: `SentencePieceSpacing` is what a .model's normalizer_spec says,
`Pipeline` is a tokenizer.json's normalizer and pre_tokenizer. Each has normalize(text), words(text, first), to_json().
"""

import base64
from collections.abc import Callable, Iterable, Sequence

import regex

from .added import any_of
from .charsmap import Charsmap
from .decoders import SPACE
from .files import TokenizerError
from .json_steps import Json, sequence
from .normalizers import normalizing
from .patterns import cut
from .splitting import splitter


class SentencePieceSpacing:
    """SentencePiece's normaliser (Normalizer::Normalize): the charsmap, no double spaces, and one space added.

    user_defined: symbols that are copied as they are.
    suffix: the added space follows the text instead of preceding it.
    escape: spaces are written as SPACE.
    """

    def __init__(
        self,
        charsmap: bytes = b"",
        add_dummy_prefix: bool = True,
        remove_extra_whitespaces: bool = True,
        user_defined: Sequence[str] = (),
        suffix: bool = False,
        escape: bool = True,
    ):
        self.charsmap = Charsmap(charsmap) if charsmap else None
        self.add_dummy_prefix = add_dummy_prefix
        self.remove_extra_whitespaces = remove_extra_whitespaces
        self.user_defined = tuple(user_defined)
        self.suffix = suffix
        self.space = SPACE if escape else " "
        self._kept = any_of(user_defined)

    def normalize(self, text: str) -> str:
        if not text:
            return ""
        parts: Iterable[str] = self._parts(text)
        if self.remove_extra_whitespaces:
            if all(part == " " for part in parts):
                return ""
            parts = without_double_spaces(parts)
        text = "".join(parts).replace(" ", self.space)
        if self.add_dummy_prefix and not self.suffix:
            text = self.space + text
        if self.remove_extra_whitespaces:
            text = text.rstrip(self.space)
        return text + self.space if self.add_dummy_prefix and self.suffix else text

    def _parts(self, text: str) -> Sequence[str]:
        """The steps in which SentencePiece reads a text: a symbol of the user's, a rule of the charsmap, or a character."""
        if self.charsmap:
            return self.charsmap.parts(text, self._kept)
        if self._kept is None:
            return text
        return [match[0] for match in regex.finditer(rf"{self._kept.pattern}|[\s\S]", text)]

    def words(self, text: str, first: bool) -> list[str]:
        """All of it as one word: SentencePiece lets pieces span words."""
        return [text] if text else []

    def to_json(self, split: bool) -> tuple[Json | None, Json | None]:
        """The normalizer and pre_tokenizer that come to the same, as far as a tokenizer.json can say it.

        split: no piece has a space after its beginning, so that each word can be encoded separately.
        """
        hidden = {symbol: chr(PRIVATE_USE + i) for i, symbol in enumerate(filter(self._changes, self.user_defined))}
        steps = [_replace(symbol, hidden[symbol]) for symbol in sorted(hidden, key=len, reverse=True)]
        if self.charsmap:
            steps.append(_replace("\r\n", self.charsmap.by_longest_match("\r\n")))  # one grapheme, for the peer one rule
            steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(self.charsmap.blob).decode()})
        start, end = r"(?<![\s\S])", r"(?![\s\S])"  # of the text: ^ and $ are those of a line in the peer's engine
        if self.remove_extra_whitespaces:
            spaces = "[ ]" if self.space == " " else f"[ {SPACE}]"
            ends = f"{start}{spaces}+{end}|{start} +|{spaces}+{end}"
            steps.append({"type": "Replace", "pattern": {"Regex": ends}, "content": ""})
            steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        if self.add_dummy_prefix and self.suffix:
            steps.append({"type": "Replace", "pattern": {"Regex": rf"(?<=[\s\S]){end}"}, "content": self.space})
        elif self.add_dummy_prefix:
            steps.append({"type": "Prepend", "prepend": self.space})
        steps += [_replace(private, symbol) for symbol, private in hidden.items()]
        if self.space == SPACE:
            steps.append(_replace(" ", SPACE))
        cutter = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}
        return sequence(steps, "normalizers"), cutter if split else None

    def _changes(self, symbol: str) -> bool:
        """Whether a symbol would not be itself any more if it were text like other text."""
        mapped = self.charsmap.by_longest_match(symbol) if self.charsmap else symbol
        return mapped != symbol or (self.remove_extra_whitespaces and " " in symbol)


PRIVATE_USE = 0xF0000  # a tokenizer.json writes a symbol of the user's as such a character while text is normalised


def without_double_spaces(parts: Iterable[str]) -> list[str]:
    """The parts without the spaces at the beginning, and without those that follow a part that ends in a space."""
    kept: list[str] = []
    space = True
    for part in parts:
        part = part.lstrip(" ") if space else part
        if part:
            kept.append(part)
            space = part.endswith(" ")
    return kept


def _replace(string: str, content: str) -> Json:
    return {"type": "Replace", "pattern": {"String": string}, "content": content}


class Pipeline:
    """The steps of a tokenizer.json.

    normalizers, cutters: the normalizers and pre-tokenizers as the file has them, in order. Beside those that cut there is
    Metaspace: it writes spaces as SPACE, and puts a SPACE before a word that has none ("always"; "first", only at the
    beginning of the text; "never"); if `split`, each SPACE then begins a new word.
    """

    def __init__(self, normalizers: Sequence[Json] = (), cutters: Sequence[Json] = ()):
        self.normalizers = list(normalizers)
        self.cutters = list(cutters)
        self._normalize = normalizing(self.normalizers)
        self._cut = [metaspace(step) if step["type"] == "Metaspace" else _keeping_first(step) for step in self.cutters]
        self.needs_start = any(prepend_scheme(step) == "first" for step in self.cutters if step["type"] == "Metaspace")

    def normalize(self, text: str) -> str:
        return self._normalize(text)

    def words(self, text: str, first: bool) -> list[str]:
        """The words of a text; `first`: it is the beginning of the text that was given."""
        words = [(text, first)] if text else []
        for cut_word in self._cut:
            words = [found for word, begins in words for found in cut_word(word, begins)]
        return [word for word, _ in words]

    def to_json(self, split: bool) -> tuple[Json | None, Json | None]:
        return sequence(self.normalizers, "normalizers"), sequence(self.cutters, "pretokenizers")


Cutter = Callable[[str, bool], list[tuple[str, bool]]]  # a word, and whether it begins the text -> several such


def metaspace(step: Json) -> Cutter:
    space, scheme = step["replacement"], prepend_scheme(step)
    if scheme not in ("always", "first", "never"):
        raise TokenizerError(f"Metaspace with prepend_scheme {scheme!r} is not supported: {step}")
    pattern = regex.compile(rf"{regex.escape(space)}?[^{regex.escape(space)}]+|{regex.escape(space)}")

    def words(word: str, first: bool) -> list[tuple[str, bool]]:
        word = word.replace(" ", space)
        if (scheme == "always" or (scheme == "first" and first)) and not word.startswith(space):
            word = space + word
        found = cut(pattern, word) if step.get("split", True) else [word]
        return [(part, first and at == 0) for at, part in enumerate(found)]

    return words


def prepend_scheme(step: Json) -> str:
    """Metaspace's prepend_scheme; files older than tokenizers 0.15 have add_prefix_space in its place."""
    return step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")


def _keeping_first(step: Json) -> Cutter:
    split = splitter(step)

    def words(word: str, first: bool) -> list[tuple[str, bool]]:
        found = split(word)
        return [(part, first and at == 0 and word.startswith(part)) for at, part in enumerate(found)]

    return words
