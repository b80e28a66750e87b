"""From a text to the words of a SentencePiece-style vocabulary, in which a space is written U+2581, here SPACE.

Two ways, for the two libraries whose ids we give: `SentencePieceSpacing` is what a .model's normalizer_spec says,
`Pipeline` is a tokenizer.json's normalizer and pre_tokenizer. Each has normalize(text), words(text, first), to_json().
"""

import base64
import unicodedata
from collections.abc import Callable, Sequence

import regex

from .added import WHITE_SPACE, any_of
from .charsmap import Charsmap
from .files import TokenizerError
from .json_parts import Json
from .words import compiled_pattern, cut

SPACE = "\u2581"
_WORDS = regex.compile(f"{SPACE}?[^{SPACE}]+|{SPACE}")
_BLACK = regex.compile(rf"[^{WHITE_SPACE}]+")


class SentencePieceSpacing:
    """SentencePiece's normaliser: the charsmap, spaces at the ends and double ones dropped, and one put first.

    user_defined: symbols that the charsmap does not touch.
    """

    def __init__(
        self,
        charsmap: bytes = b"",
        add_dummy_prefix: bool = True,
        remove_extra_whitespaces: bool = True,
        user_defined: Sequence[str] = (),
    ):
        self.charsmap = Charsmap(charsmap) if charsmap else None
        self.add_dummy_prefix = add_dummy_prefix
        self.remove_extra_whitespaces = remove_extra_whitespaces
        self._user_defined = any_of(user_defined)

    def normalize(self, text: str) -> str:
        if not text:
            return ""
        parts = self._user_defined.split(text) if self._user_defined else [text]
        if self.charsmap:
            parts[::2] = map(self.charsmap.by_longest_match, parts[::2])  # between the user's own symbols
        text = "".join(parts)
        if self.remove_extra_whitespaces:
            text = regex.sub(" {2,}", " ", text.strip(" "))
            if not text:
                return ""
        text = (SPACE if self.add_dummy_prefix else "") + text.replace(" ", SPACE)
        return text.rstrip(SPACE) if self.remove_extra_whitespaces else text

    def words(self, text: str, first: bool) -> list[str]:
        """All of it as one word: SentencePiece lets pieces span words."""
        return [text] if text else []

    def to_json(self, split: bool) -> tuple[Json | None, Json | None]:
        """The normalizer and pre_tokenizer that come to the same; split: no piece has a space after its beginning."""
        steps: list[Json] = []
        if self.charsmap:
            steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(self.charsmap.blob).decode()})
        if self.remove_extra_whitespaces:
            start, end = r"(?<![\s\S])", r"(?![\s\S])"  # of the text: ^ and $ are those of a line in the peer's engine
            ends = f"{start}[ {SPACE}]+{end}|{start} +|[ {SPACE}]+{end}"
            steps.append({"type": "Replace", "pattern": {"Regex": ends}, "content": ""})
            steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        if self.add_dummy_prefix:
            steps.append({"type": "Prepend", "prepend": SPACE})
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
        cutter = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}
        return {"type": "Sequence", "normalizers": steps}, cutter if split else None


class Pipeline:
    """The steps of a tokenizer.json.

    normalizers: as the file has them, in order. whitespace_split: white space is dropped and divides.
    metaspace: None, or when SPACE is put before a word that has none: "always", "first" (only at the beginning of the
    text), "never". metaspace_split: whether each SPACE then begins a new word.
    """

    def __init__(
        self,
        normalizers: Sequence[Json] = (),
        whitespace_split: bool = False,
        metaspace: str | None = "always",
        metaspace_split: bool = True,
    ):
        self.normalizers = list(normalizers)
        self.whitespace_split = whitespace_split
        self.metaspace = metaspace
        self.metaspace_split = metaspace_split
        self._steps = [normalizer_step(step) for step in self.normalizers]

    def normalize(self, text: str) -> str:
        for step in self._steps:
            text = step(text)
        return text

    def words(self, text: str, first: bool) -> list[str]:
        if not text:
            return []
        words = [(match[0], match.start()) for match in _BLACK.finditer(text)] if self.whitespace_split else [(text, 0)]
        if self.metaspace is None:
            return [word for word, _ in words]
        found: list[str] = []
        for word, at in words:
            word = word.replace(" ", SPACE)
            wanted = self.metaspace == "always" or (self.metaspace == "first" and first and at == 0)
            if wanted and not word.startswith(SPACE):
                word = SPACE + word
            found += cut(_WORDS, word) if self.metaspace_split else [word]
        return found

    def to_json(self, split: bool) -> tuple[Json | None, Json | None]:
        metaspace = {
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": self.metaspace,
            "split": self.metaspace_split,
        }
        cutters = [{"type": "WhitespaceSplit"}] * self.whitespace_split + [metaspace] * (self.metaspace is not None)
        return _sequence(self.normalizers, "normalizers"), _sequence(cutters, "pretokenizers")


def _sequence(steps: list[Json], inner: str) -> Json | None:
    if len(steps) < 2:
        return steps[0] if steps else None
    return {"type": "Sequence", inner: steps}


def normalizer_step(step: Json) -> Callable[[str], str]:
    """The function that a normalizer of a tokenizer.json stands for."""
    kind = step["type"]
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return lambda text: unicodedata.normalize(kind, text)
    if kind == "Precompiled":
        blob = base64.b64decode(step["precompiled_charsmap"] or "")
        return Charsmap(blob).by_grapheme if blob else str
    if kind == "Prepend":
        return lambda text: step["prepend"] + text if text else text
    if kind == "Lowercase":
        return lambda text: "".join([character.lower() for character in text])
    if kind == "Strip":
        left, right = WHITE_SPACE * step["strip_left"], WHITE_SPACE * step["strip_right"]
        return lambda text: text.lstrip(left).rstrip(right)
    if kind == "Replace":
        pattern = step["pattern"]
        if "String" in pattern:
            return lambda text: text.replace(pattern["String"], step["content"])
        compiled = compiled_pattern(pattern["Regex"])
        return lambda text: compiled.sub(lambda _: step["content"], text)
    raise TokenizerError(f"the normalizer {kind} is not supported: {step}")
