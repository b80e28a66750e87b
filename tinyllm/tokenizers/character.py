"""One token for each character that the training text has: the smallest vocabulary, and the longest sequences."""

from collections.abc import Iterable, Sequence

from .added import AddedToken
from .base import Settings, Tokenizer, check_special, no_such_id, well_formed
from .files import TokenizerError
from .json_parts import envelope
from .json_steps import Json

# The pre_tokenizer of our tokenizer.json: each character is a word.
EVERY_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}


class CharacterTokenizer(Tokenizer):
    """characters[i] has id i; special tokens come after."""

    def __init__(self, characters: Sequence[str], settings: Settings | None = None):
        self.characters = list(characters)
        self._id = {character: id for id, character in enumerate(self.characters)}
        super().__init__(settings)

    @classmethod
    def train(cls, texts: str | Iterable[str], special_tokens: Sequence[str] = ()) -> "CharacterTokenizer":
        """The characters of a text, or of several, in code point order, and then the special tokens."""
        found: set[str] = set()
        for text in [texts] if isinstance(texts, str) else texts:
            found.update(well_formed(text))
        if not found:
            raise TokenizerError("there are no characters to train on: the text is empty")
        characters = sorted(found)
        check_special(special_tokens, characters)
        added = [AddedToken(content, len(characters) + i) for i, content in enumerate(special_tokens)]
        return cls(characters, Settings(added))

    def _encode_part(self, text: str, first: bool) -> list[int]:
        try:
            return list(map(self._id.__getitem__, text))
        except KeyError as error:
            unknown = error.args[0]
        raise TokenizerError(
            f"{unknown!r} (U+{ord(unknown):04X}, character {text.index(unknown)} of the text) is not among the "
            f"{len(self.characters)} characters this tokenizer was trained on: leave it out, or train with text that has it"
        )

    def _piece(self, id: int, first: bool) -> bytes:
        if not 0 <= id < len(self.characters):
            raise no_such_id(id, self.vocab_size)
        return self.characters[id].encode()

    def _tokens(self) -> list[str | None]:
        return list(self.characters)

    def _to_json(self) -> Json:
        unknown = "<unknown character>"  # not in the vocabulary, so that an unknown character is an error there too
        model = {"type": "WordLevel", "vocab": dict(self._id), "unk_token": unknown}
        return envelope(self, pre_tokenizer=EVERY_CHARACTER, decoder={"type": "Fuse"}, model=model)
