"""What every tokenizer does: encode, decode, batches, special tokens, streaming, saving."""

import codecs
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .added import AddedToken, AddedTokens, well_formed
from .cleanup import Cleanup
from .decoders import Decoder, JsonDecoder
from .files import TokenizerError, write_json
from .json_steps import Json
from .patterns import LimitError

CLEAN_UP = "clean_up_tokenization_spaces"
ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")

# What a special token is for, where nothing but its spelling tells.
CONVENTIONS = {
    "<s>": ("bos",),
    "</s>": ("eos",),
    "<pad>": ("pad",),
    "<|pad|>": ("pad",),
    "<unk>": ("unk",),
    "<mask>": ("mask",),
    "<|endoftext|>": ("bos", "eos"),
    "<|begin_of_text|>": ("bos",),
    "<|end_of_text|>": ("eos",),
    "[PAD]": ("pad",),
    "[UNK]": ("unk",),
    "[CLS]": ("cls",),
    "[SEP]": ("sep",),
    "[MASK]": ("mask",),
}


@dataclass(frozen=True)
class Template:
    """The special tokens that a model expects around a text, and around a pair of texts.

    Each is a sequence of (item, token type): an id, or "A" for the first text, "B" for the second.
    """

    single: tuple[tuple[int | str, int], ...] = (("A", 0),)
    pair: tuple[tuple[int | str, int], ...] = (("A", 0), ("B", 1))


@dataclass
class Settings:
    """What a tokenizer is beside its vocabulary and its rules.

    tokenizer.json holds the first five, tokenizer_config.json the others.
    """

    added: Sequence[AddedToken] = ()
    template: Template = field(default_factory=Template)
    decoder: Sequence[Json] | None = None  # the steps of a tokenizer.json's decoder; None: that of the tokenizer's class
    truncation: Json | None = None  # what encode_batch cuts off
    padding: Json | None = None  # how encode_batch fills up
    roles: Mapping[str, str | None] = field(default_factory=dict)  # "eos" -> "</s>"; None: it has no such token
    chat_template: str | None = None
    named_templates: dict[str, str] = field(default_factory=dict)  # chat templates for other uses: "tool_use", "rag"
    parse_special: bool = True  # text that spells a special token becomes that token
    config: dict[str, Any] = field(default_factory=dict)  # tokenizer_config.json as it was read
    file: Path | None = None  # where the tokenizer comes from, for messages


class Tokenizer:
    """Text to ids and back. A subclass gives `_encode_part`, `_piece` and `_tokens`; see each for what it promises."""

    cleans_up = True  # heeds clean_up_tokenization_spaces: byte-pair encoding does not, because its spaces are the text's

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or Settings()
        self.chat_template = self.settings.chat_template
        self.named_templates = dict(self.settings.named_templates)
        self._raw_added = AddedTokens(token for token in self.settings.added if not token.normalized)
        normalized = [token for token in self.settings.added if token.normalized]
        self._normalized_added = AddedTokens(normalized, self._normalize) if normalized else None
        self._added_by_id = {token.id: token for token in self.settings.added}
        self._special = frozenset(token.content for token in self.settings.added if token.special)
        self._roles = dict(self.settings.roles)
        for token in self.settings.added:
            for role in CONVENTIONS.get(token.content, ()) if token.special else ():
                self._roles.setdefault(role, token.content)

    # What a subclass gives -----------------------------------------------------------------------------------------

    def _normalize(self, text: str) -> str:
        """The text as the vocabulary wants it."""
        return text

    def _encode_part(self, text: str, first: bool) -> list[int]:
        """Ids of a normalised part between added tokens; `first` where it begins the whole text."""
        raise NotImplementedError

    def _encode_plain(self, text: str, first: bool) -> list[int]:
        """The same without any special token, however the text is spelled."""
        return self._encode_part(text, first)

    def _piece(self, id: int, first: bool) -> bytes:
        """UTF-8 bytes that the vocabulary's token adds to a text; `first` where nothing stands before it."""
        raise NotImplementedError

    def _added_piece(self, token: AddedToken, first: bool) -> bytes:
        """What an added token adds to a text."""
        return token.content.encode()

    def _tokens(self) -> list[str | None]:
        """The vocabulary as the file spells it, by id; None where an id is not in use."""
        raise NotImplementedError

    def _to_json(self) -> Json:
        """The tokenizer as tokenizer.json."""
        raise NotImplementedError

    def _starts(self, text: str, normalized: str) -> bool:
        """Whether the normalised text begins with what the text begins with, or with what was put before it."""
        return True

    def _decoder(self) -> Decoder | None:
        """A new decoder, which turns tokens as they are spelled into text; None: the bytes of `_piece` are the text."""
        return None if self.settings.decoder is None else JsonDecoder(self.settings.decoder)

    # Encoding ------------------------------------------------------------------------------------------------------

    def encode(
        self,
        text: str,
        add_special_tokens: bool = False,
        allow_special: bool | None = None,
        typed: Collection[int] = (),
    ) -> list[int]:
        """The ids of a text.

        add_special_tokens puts the model's own tokens around it (<s>, [CLS] ... [SEP], </s>; GPT-2 has none).
        allow_special: whether text that spells a special token, "</s>", becomes it. None: as the library does whose
        files these are; Hugging Face's tokenizer.json says yes; OpenAI's vocab.bpe and SentencePiece's .model say no.
        Pass False for text that a stranger wrote. Half a surrogate pair, which is no text, becomes U+FFFD.
        typed: the places of characters that belong to no special or added token, in a text that only partly is a stranger's.
        The ids are those of the whole text: only encode_batch cuts texts, if tokenizer.json has a section "truncation".
        """
        ids = self._encode(text, allow_special, typed)
        return self.wrap(ids)[0] if add_special_tokens else ids

    def encode_pair(self, first: str, second: str, allow_special: bool | None = None) -> tuple[list[int], list[int]]:
        """Ids and token types of two texts with the model's special tokens: BERT's [CLS] first [SEP] second [SEP]."""
        return self.wrap(self._encode(first, allow_special), self._encode(second, allow_special))

    def wrap(self, first: list[int], second: list[int] | None = None) -> tuple[list[int], list[int]]:
        """The ids of one text, or of two, with the model's special tokens around them; and the token types."""
        ids: list[int] = []
        types: list[int] = []
        for item, kind in self.settings.template.single if second is None else self.settings.template.pair:
            more = {"A": first, "B": second or []}[item] if isinstance(item, str) else [item]
            ids += more
            types += [kind] * len(more)
        return ids, types

    def encode_batch(
        self, texts: Iterable[str], add_special_tokens: bool = False, padding_side: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Texts of different lengths as ids (B, T) int64, padded, and a mask (B, T) bool, False at the padding.

        A tokenizer without a pad token pads with its end-of-text token, or with 0: the mask is what counts.
        The sections "truncation" and "padding" of a tokenizer.json are applied: the longest length, and to which length,
        on which side and with which id shorter rows are filled. padding_side: "left" or "right" in place of the file's.
        """
        padding = self.settings.padding or {}
        side = padding.get("direction", "Right").lower() if padding_side is None else padding_side
        if side not in ("left", "right"):
            raise ValueError(f"padding_side is 'left' or 'right', not {padding_side!r}")
        rows = [self._truncated(self._encode(text, None), add_special_tokens) for text in texts]
        fill = next((id for id in (padding.get("pad_id"), self.pad_id, self.eos_id) if id is not None), 0)
        tokens = np.full((len(rows), _width(rows, padding)), fill, dtype=np.int64)
        mask = np.zeros(tokens.shape, dtype=bool)
        for row, row_tokens, row_mask in zip(rows, tokens, mask):
            where = slice(0, len(row)) if side == "right" else slice(len(row_tokens) - len(row), None)
            row_tokens[where], row_mask[where] = row, True
        return tokens, mask

    def _truncated(self, ids: list[int], add_special_tokens: bool) -> list[int]:
        """The ids, cut as tokenizer.json says, with the model's special tokens around them if asked for."""
        truncation = self.settings.truncation
        if truncation is not None:
            around = len(self.wrap([])[0]) if add_special_tokens else 0
            room = max(truncation["max_length"] - around, 0)
            left = truncation.get("direction", "Right") == "Left"
            ids = ids[max(len(ids) - room, 0) :] if left else ids[:room]
        return self.wrap(ids)[0] if add_special_tokens else ids

    def _encode(self, text: str, allow_special: bool | None, typed: Collection[int] = ()) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"encode takes one text (str), not {type(text).__name__}; encode_batch takes several")
        allow_special = self.settings.parse_special if allow_special is None else allow_special
        try:
            return self._encode_text(well_formed(text), allow_special, typed)
        except LimitError as error:
            raise self._with_file(error) from None

    def _encode_text(self, text: str, allow_special: bool, typed: Collection[int]) -> list[int]:
        ids: list[int] = []
        encode = self._encode_part if allow_special else self._encode_plain
        for raw, token, start in self._raw_added.split(text, allow_special, typed):
            if token is not None:
                ids.append(token.id)
                continue
            part = self._normalize(raw)
            first = start == 0 and self._starts(raw, part)
            if self._normalized_added is None:
                ids += encode(part, first)
                continue
            inside = self._normalized_added.carried(typed, start, raw, part) if typed else ()
            for inner, inner_token, inner_start in self._normalized_added.split(part, allow_special, inside):
                if inner_token is None:
                    ids += encode(inner, first and inner_start == 0)
                else:
                    ids.append(inner_token.id)
        return ids

    def _with_file(self, error: LimitError) -> LimitError:
        return LimitError(f"{self.settings.file}: {error}") if self.settings.file else error

    # Decoding ------------------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids. Bytes that are no UTF-8 become U+FFFD.

        An id that the tokenizer does not have gives no text, as in transformers: models fill up their vocabularies. A
        negative one is a TokenizerError.
        """
        stream = StreamDecoder(self, skip_special_tokens)
        return "".join([*map(stream.feed, _integers(ids)), stream.finish()])

    def _spelled(self, id: int) -> str:
        """A token as a decoder takes it: as the vocabulary spells it, or, if it was added, as it is found in the text."""
        added = self._added_by_id.get(id)
        if added is not None:
            return self._normalize(added.content) if added.normalized else added.content
        token = self.id_to_token(id)
        if token is None:
            raise no_such_id(id, self.vocab_size)
        return token

    # The vocabulary ------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """How many rows an embedding of these ids needs: the largest id, plus one."""
        return max(len(self._tokens()), max(self._added_by_id, default=-1) + 1)

    def token_to_id(self, token: str) -> int | None:
        """The id of a token spelled as in the vocabulary's file, or None."""
        return self._ids().get(token)

    def vocabulary_id(self, token: str) -> int | None:
        """The id that the vocabulary itself, without the added tokens, gives a token, or None."""
        tokens = self._tokens()
        return tokens.index(token) if token in tokens else None

    def id_to_token(self, id: int) -> str | None:
        """The token as the vocabulary's file spells it ("Ġthe", "##ing", "▁a", "</s>"), or None."""
        if id in self._added_by_id:
            return self._added_by_id[id].content
        tokens = self._tokens()
        return tokens[id] if 0 <= id < len(tokens) else None

    def lacking(self, size: int) -> list[int]:
        """The ids below `size` that have no token here: in a model of that vocabulary they stand for nothing."""
        tokens, added = self._tokens(), self._added_by_id
        holes = (id for id, token in enumerate(tokens[:size]) if token is None)
        return [id for id in (*holes, *range(len(tokens), size)) if id not in added]

    def _ids(self) -> dict[str, int]:
        if not hasattr(self, "_ids_by_token"):
            self._ids_by_token = {token: id for id, token in enumerate(self._tokens()) if token is not None}
            self._ids_by_token |= {token.content: token.id for token in self.settings.added}
        return self._ids_by_token

    def _role(self, role: str) -> int | None:
        content = self._roles.get(role)
        return None if content is None else self._ids().get(content)

    bos_id = property(lambda self: self._role("bos"), doc="Id of the token that begins a text, or None.")
    eos_id = property(lambda self: self._role("eos"), doc="Id of the token that ends a text, or None.")
    pad_id = property(lambda self: self._role("pad"), doc="Id that fills the shorter rows of a batch, or None.")
    unk_id = property(lambda self: self._role("unk"), doc="Id of what the vocabulary lacks, or None.")
    cls_id = property(lambda self: self._role("cls"), doc="Id of BERT's first token, or None.")
    sep_id = property(lambda self: self._role("sep"), doc="Id of the token after each of BERT's texts, or None.")
    mask_id = property(lambda self: self._role("mask"), doc="Id of the token that hides a word, or None.")

    @property
    def special_tokens(self) -> dict[str, int]:
        """Every special token and its id."""
        return {token.content: token.id for token in self.settings.added if token.special}

    def add_special_tokens(self, contents: Iterable[str]) -> None:
        """Adds special tokens that are not there yet, with the ids that follow. A model needs a row for each of them."""
        new = [content for content in dict.fromkeys(contents) if content not in self._ids()]
        added = [AddedToken(content, self.vocab_size + i) for i, content in enumerate(new)]
        settings = replace(self.settings, added=[*self.settings.added, *added], chat_template=self.chat_template)
        Tokenizer.__init__(self, settings)
        self.__dict__.pop("_ids_by_token", None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, special_tokens={len(self.special_tokens)})"

    # Saving --------------------------------------------------------------------------------------------------------

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which tinyllm, tokenizers and transformers read.

        Each file is written whole or not at all.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "tokenizer.json", self._to_json())
        write_json(directory / "tokenizer_config.json", self._to_config())

    def _to_config(self) -> dict[str, Any]:
        config = {"tokenizer_class": "PreTrainedTokenizerFast", CLEAN_UP: False}
        config |= self.settings.config
        config |= {f"{role}_token": self._roles[role] for role in ROLES if role in self._roles}
        if not self.settings.parse_special:
            config["split_special_tokens"] = True
        config.pop("chat_template", None)
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        if self.named_templates:
            named = self.named_templates | ({} if self.chat_template is None else {"default": self.chat_template})
            config["chat_template"] = [{"name": name, "template": template} for name, template in named.items()]
        return config


class StreamDecoder:
    """Decodes ids one at a time, for a terminal: `feed` gives the text that is complete, `finish` what is left.

    A character whose bytes lie in several tokens appears when its last byte has come. All that is given, joined,
    is `tokenizer.decode` of all the ids.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = False):
        self.tokenizer = tokenizer
        self.skip_special_tokens = skip_special_tokens
        self._first = True
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder = tokenizer._decoder()
        self._cleanup = Cleanup() if tokenizer.cleans_up and tokenizer.settings.config.get(CLEAN_UP) else None

    def feed(self, id: int) -> str:
        if self._decoder is None:
            return self.tidy(self._utf8.decode(self.piece(operator.index(id))))
        try:
            token = self.tokenizer._spelled(operator.index(id))
            if self.skip_special_tokens and token in self.tokenizer._special:
                return ""
            return self.tidy(self._decoder.feed(token, id))
        except UnknownId:
            if id < 0:
                raise
            return ""
        except LimitError as error:
            raise self.tokenizer._with_file(error) from None

    def finish(self) -> str:
        return self.tidy(self._utf8.decode(b"", final=True) if self._decoder is None else self._decoder.finish(), True)

    def tidy(self, text: str, last: bool = False) -> str:
        """Decoded text as clean_up_tokenization_spaces has it."""
        return text if self._cleanup is None else self._cleanup.feed(text, last)

    def piece(self, id: int) -> bytes:
        """The bytes that the next token adds."""
        token = self.tokenizer._added_by_id.get(id)
        if token is not None and token.normalized:
            token = replace(token, content=self.tokenizer._normalize(token.content))
        if token is not None and self.skip_special_tokens and token.content in self.tokenizer._special:
            return b""
        try:
            added = self.tokenizer._added_piece
            piece = self.tokenizer._piece(id, self._first) if token is None else added(token, self._first)
        except UnknownId:
            if id < 0:
                raise
            return b""
        self._first = False
        return piece


def by_id(vocab: Mapping[str, int]) -> list[str | None]:
    """A vocabulary as a list, None where an id is not in use."""
    highest = 10 * len(vocab) + 1_000_000
    for token, id in vocab.items():
        if not isinstance(id, int) or not 0 <= id <= highest:
            raise TokenizerError(f"the token {token!r} has the id {id!r}, which cannot be right: ids count up from 0")
    tokens: list[str | None] = [None] * (max(vocab.values(), default=-1) + 1)
    for token, id in vocab.items():
        tokens[id] = token
    return tokens


def check_special(special_tokens: Iterable[str], tokens: Iterable[str]) -> None:
    """A TokenizerError if a special token is spelled like a token of the vocabulary, from which nothing would tell it."""
    both = sorted(set(special_tokens) & set(tokens))
    if both:
        raise TokenizerError(
            f"the special token {both[0]!r} is also a token of the vocabulary: "
            "choose a spelling that text does not have, such as '<|end|>'"
        )


def _width(rows: Sequence[Sequence[int]], padding: Json) -> int:
    """How long the rows of a batch become, by the padding section of a tokenizer.json."""
    width = max(map(len, rows), default=0)
    if isinstance(padding.get("strategy"), dict):
        width = max(width, padding["strategy"]["Fixed"])
    return width + -width % (padding.get("pad_to_multiple_of") or 1)


class UnknownId(TokenizerError):
    """An id that the vocabulary does not have."""


def no_such_id(id: int, size: int) -> UnknownId:
    """The error for an id that the vocabulary does not have."""
    return UnknownId(f"id {id} is not in this vocabulary of {size} tokens: is it another tokenizer's?")


def _integers(ids: Iterable[int]) -> list[int]:
    if isinstance(ids, str):
        raise TypeError("decode takes ids (integers), not text")
    return [operator.index(id) for id in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]
