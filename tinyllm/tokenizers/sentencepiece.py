"""SentencePiece-style tokenizers (Kudo & Richardson 2018): a space is a letter like others, U+2581, and no text is unknown
where bytes stand in for characters that the vocabulary lacks. Here what both kinds share, and byte-pair encoding (LLaMA 2).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import regex

from .added import AddedToken, any_of
from .base import Settings, Template, Tokenizer, no_such_id
from .files import TokenizerError
from .json_parts import Json, envelope
from .merges import Pair, learn_merges, merge
from .spacing import SPACE, Pipeline, SentencePieceSpacing
from .words import Cache, count_letters, count_words, cut

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class SentencePieceTokenizer(Tokenizer):
    """What byte-pair encoding and unigram share; a subclass gives `_encode_word`.

    pieces: the vocabulary by id.
    byte_fallback: what no piece covers becomes the pieces of its bytes, <0x00> to <0xFF>; else the unknown token.
    fuse_unknown: several unknown characters in a row give one unknown token.
    strip: what decoding drops of the text's first piece: "one" SPACE, "all" it begins with, or "none".
    unknown_text: what the unknown token decodes to; None: its own spelling.
    """

    def __init__(
        self,
        pieces: Sequence[str | None],
        spacing: SentencePieceSpacing | Pipeline,
        settings: Settings | None = None,
        *,
        unknown: int | None = None,
        byte_fallback: bool = False,
        fuse_unknown: bool = True,
        strip: str = "one",
        unknown_text: str | None = None,
    ):
        self.pieces = list(pieces)
        self.spacing = spacing
        self.unknown = unknown
        self.byte_fallback = byte_fallback
        self.fuse_unknown = fuse_unknown
        self.strip = strip
        self.unknown_text = unknown_text
        self._id = {piece: id for id, piece in enumerate(self.pieces) if piece is not None}
        self._byte_ids = [self._id.get(piece) for piece in BYTE_PIECES] if byte_fallback else [None] * 256
        self._byte_of = {id: bytes([byte]) for byte, id in enumerate(self._byte_ids) if id is not None}
        self._words = Cache(self._encode_word)
        super().__init__(settings)

    def _normalize(self, text: str) -> str:
        return self.spacing.normalize(text)

    def _encode_part(self, text: str, first: bool) -> list[int]:
        return list(chain.from_iterable(map(self._words.__getitem__, self.spacing.words(text, first))))

    def _encode_word(self, word: str) -> list[int]:
        raise NotImplementedError

    def _without_piece(self, text: str, ids: list[int]) -> None:
        """Append what stands for text that has no piece: its bytes' pieces, if all are there, or the unknown token."""
        byte_ids = [self._byte_ids[byte] for byte in text.encode()]
        if None not in byte_ids:
            ids += byte_ids  # type: ignore[arg-type]
        elif self.unknown is not None:
            ids.append(self.unknown)

    def _piece(self, id: int, first: bool) -> bytes:
        piece = self.pieces[id] if 0 <= id < len(self.pieces) else None
        if piece is None:
            raise no_such_id(id, self.vocab_size)
        if id in self._byte_of:
            return self._byte_of[id]
        return self._unescaped(piece if id != self.unknown or self.unknown_text is None else self.unknown_text, first)

    def _added_piece(self, token: AddedToken, first: bool) -> bytes:
        if token.id == self.unknown and self.unknown_text is not None:
            return self.unknown_text.encode()
        return self._unescaped(token.content, first)

    def _unescaped(self, piece: str, first: bool) -> bytes:
        if first and self.strip == "all":
            piece = piece.lstrip(SPACE)
        elif first and self.strip == "one":
            piece = piece.removeprefix(SPACE)
        return piece.replace(SPACE, " ").encode()

    def _tokens(self) -> list[str | None]:
        return self.pieces

    def _json_of(self, model: Json, user_defined: Iterable[str], split: bool) -> Json:
        """The tokenizer.json of a model of this vocabulary.

        user_defined: pieces that are taken from the text as they are, which are added tokens there.
        split: whether each word is encoded separately, because no piece has a space after its beginning.
        """
        normalizer, pre_tokenizer = self.spacing.to_json(split)
        spec = envelope(self, normalizer=normalizer, pre_tokenizer=pre_tokenizer, decoder=self._decoder_json(), model=model)
        more = [AddedToken(piece, self._id[piece], special=False) for piece in user_defined]
        spec["added_tokens"] = sorted([*spec["added_tokens"], *map(vars, more)], key=lambda token: token["id"])
        return spec

    def _decoder_json(self) -> Json:
        if self.strip == "all":
            return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
        spaces = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
        steps = [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]
        if self.strip == "one":
            steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        return {"type": "Sequence", "decoders": steps}


class SentencePieceBPETokenizer(SentencePieceTokenizer):
    """Byte-pair encoding over characters, as in LLaMA 2 and Mistral.

    merges: (left piece, right piece, rank); of the pairs of neighbours the one of lowest rank merges first, the leftmost of
    equals. frozen: pieces that are taken from the text as they are and never merge (SentencePiece's user-defined symbols).
    ignore_merges: a word that is a piece as a whole is that piece.
    """

    cleans_up = False

    def __init__(
        self,
        pieces: Sequence[str | None],
        merges: Iterable[tuple[str, str, int]],
        spacing: SentencePieceSpacing | Pipeline,
        settings: Settings | None = None,
        *,
        frozen: Sequence[str] = (),
        ignore_merges: bool = False,
        **options: Any,
    ):
        super().__init__(pieces, spacing, settings, **options)
        self.merges = list(merges)
        self.frozen = tuple(frozen)
        self.ignore_merges = ignore_merges
        self._merged: dict[Pair, tuple[int, int]] = {}
        for left, right, rank in self.merges:
            if left + right not in self._id:
                raise TokenizerError(f"the merge {left!r} {right!r} gives {left + right!r}, which is no piece")
            self._merged[self._symbol(left), self._symbol(right)] = rank, self._id[left + right]
        self._frozen = any_of(self.frozen)
        # Where no merge reaches over the end of a word into the next SPACE, words can be merged, and kept, on their own.
        reaches = any(regex.search(f"[^{SPACE}]{SPACE}", left + right) for left, right, _ in self.merges)
        self._by_word = SPACE in self._id and not (reaches or frozen or ignore_merges)

    def _symbol(self, part: str) -> int:
        """The id of a part of a merge. A character that is no piece has an id past the vocabulary's end."""
        if part in self._id:
            return self._id[part]
        if len(part) != 1:
            raise TokenizerError(f"a merge needs {part!r}, which is no piece")
        return len(self.pieces) + ord(part)

    def _encode_part(self, text: str, first: bool) -> list[int]:
        words = self.spacing.words(text, first)
        if self._by_word:
            words = [word for part in words for word in cut(_WORD, part)]
        return list(chain.from_iterable(map(self._words.__getitem__, words)))

    def _encode_word(self, word: str) -> list[int]:
        if self.ignore_merges and word in self._id:
            return [self._id[word]]
        ids: list[int] = []
        for part in self._frozen.split(word) if self._frozen else [word]:
            if part in self.frozen:
                ids.append(self._id[part])
            else:
                self._encode_letters(part, ids)
        return ids

    def _encode_letters(self, text: str, ids: list[int]) -> None:
        past = len(self.pieces)
        unknown_before = False
        for symbol in merge([self._id.get(letter, past + ord(letter)) for letter in text], self._merged):
            if symbol < past:
                ids.append(symbol)
            elif not (unknown_before and self.fuse_unknown and not self.byte_fallback):
                self._without_piece(chr(symbol - past), ids)
            unknown_before = symbol >= past

    def _to_json(self) -> Json:
        known = set(self.pieces)
        merges = sorted((merge for merge in self.merges if {*merge[:2]} <= known), key=lambda merge: merge[2])
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if self.unknown is None else self.pieces[self.unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": self.fuse_unknown,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": self.ignore_merges,
            "vocab": {piece: id for id, piece in enumerate(self.pieces) if piece is not None},
            "merges": [[left, right] for left, right, _ in merges],
        }
        return self._json_of(model, self.frozen, split=False)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = ("<unk>", "<s>", "</s>"),
        progress: Callable[[int, int], None] | None = None,
        *,
        coverage: float = 0.9995,
        min_frequency: int = 2,
    ) -> "SentencePieceBPETokenizer":
        """Learn a vocabulary like LLaMA 2's from a text, or from any iterable of texts.

        It is the special tokens, the 256 bytes, the most frequent characters (a share `coverage` of all), and the merged
        pieces: vocab_size in all, or fewer when no pair is left that occurs min_frequency times. Digits never merge; letters
        never merge with other characters; line breaks are bytes. encode(..., add_special_tokens=True) puts <s> first.
        """
        normalizers: list[dict[str, Any]] = [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        ]
        spacing = Pipeline(normalizers, metaspace=None)
        counts = count_words(texts, special_tokens, lambda part: training_words(part, spacing))
        letters = frequent_letters(counts, coverage)
        tokens = [*special_tokens, *BYTE_PIECES, *letters]
        if vocab_size < len(tokens):
            raise TokenizerError(
                f"vocab_size {vocab_size} is too small: {len(special_tokens)} special tokens, 256 bytes and {len(letters)} "
                f"characters need {len(tokens)}; ask for more, or for less coverage than {coverage}"
            )
        ids = {token: id for id, token in enumerate(tokens)}
        known = {word: count for word, count in counts.items() if ids.keys() >= set(word)}
        words = [[ids[letter] for letter in word] for word in known]
        learned = learn_merges(words, list(known.values()), tokens, vocab_size, min_frequency, progress)
        merges = [(left, right, rank) for rank, (left, right) in enumerate(learned)]
        settings = trained_settings(tokens, special_tokens, bos_first=True)
        unknown = ids.get("<unk>")
        return cls(tokens, merges, spacing, settings, unknown=unknown, byte_fallback=True)


_WORD = regex.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")

# What training takes for a word: letters, a digit, other signs, each with one SPACE before it; or several SPACEs.
_TRAINING_WORD = regex.compile(
    rf"{SPACE}?[\p{{L}}\p{{M}}]+|\p{{N}}|{SPACE}?[^{SPACE}\n\p{{L}}\p{{M}}\p{{N}}]+|{SPACE}+(?={SPACE}[^{SPACE}])|{SPACE}+"
)


def training_words(text: str, spacing: SentencePieceSpacing | Pipeline) -> list[str]:
    """The words of a text that pieces are learned from."""
    return [found for word in spacing.words(spacing.normalize(text), True) for found in _TRAINING_WORD.findall(word)]


def frequent_letters(counts: Mapping[str, int], coverage: float) -> list[str]:
    """The most frequent characters that make up a share `coverage` of the words, the most frequent first; SPACE always."""
    frequency = count_letters(counts)
    frequency.setdefault(SPACE, 0)
    ordered = sorted(frequency.items(), key=lambda item: (item[0] != SPACE, -item[1], item[0]))
    wanted = coverage * sum(frequency.values())
    kept: list[str] = []
    for letter, count in ordered:
        if wanted <= 0 and kept:
            break
        kept.append(letter)
        wanted -= count
    return kept


def trained_settings(tokens: Sequence[str], special_tokens: Sequence[str], bos_first: bool) -> Settings:
    """Settings of a vocabulary trained here: <s> before a text (LLaMA), or </s> after it (T5), where it has that token."""
    ids = {token: id for id, token in enumerate(tokens)}
    settings = Settings([AddedToken(content, ids[content]) for content in special_tokens])
    settings.template = template_of(ids.get("<s>") if bos_first else None, None if bos_first else ids.get("</s>"))
    return settings


def template_of(bos: int | None, eos: int | None) -> Template:
    """bos before each text and eos after it, where they are given."""
    before = ((bos, 0),) if bos is not None else ()
    after = ((eos, 0),) if eos is not None else ()
    return Template((*before, ("A", 0), *after), (*before, ("A", 0), *after, *before, ("B", 0), *after))
