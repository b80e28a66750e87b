"""One token for each byte of the UTF-8 text: nothing to train, nothing unknown."""

from collections.abc import Sequence

from .added import AddedToken
from .base import Settings, Tokenizer, check_special, no_such_id
from .bpe import BPETokenizer
from .byte_characters import BYTE_TO_CHARACTER
from .json_steps import Json


class ByteTokenizer(Tokenizer):
    """Byte b has id b; special tokens come after, from 256 on."""

    cleans_up = False

    def __init__(self, special_tokens: Sequence[str] = ("<|endoftext|>",), settings: Settings | None = None):
        check_special(special_tokens, BYTE_TO_CHARACTER)
        added = [AddedToken(content, 256 + i) for i, content in enumerate(special_tokens)]
        super().__init__(settings or Settings(added))

    def _encode_part(self, text: str, first: bool) -> list[int]:
        return list(text.encode("utf-8"))

    def _piece(self, id: int, first: bool) -> bytes:
        if not 0 <= id < 256:
            raise no_such_id(id, self.vocab_size)
        return bytes([id])

    def _tokens(self) -> list[str | None]:
        return list(BYTE_TO_CHARACTER)

    def _to_json(self) -> Json:
        """Write byte-level BPE without a merge, which gives the same ids."""
        vocab = {character: byte for byte, character in enumerate(BYTE_TO_CHARACTER)}
        return BPETokenizer(vocab, [], self.settings, use_regex=False)._to_json()
