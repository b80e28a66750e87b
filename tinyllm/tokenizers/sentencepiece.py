"""SentencePiece-style tokenizers (Kudo & Richardson 2018): a space is a letter like others, U+2581, and no text is unknown
where bytes stand in for characters that the vocabulary lacks. Here what both kinds share, and byte-pair encoding (LLaMA 2).
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import regex

from .added import AddedToken, any_of
from .base import Settings, Template, Tokenizer, check_special
from .decoders import SPACE, Decoder, JsonDecoder, SentencePieceDecoder
from .files import TokenizerError
from .json_parts import envelope
from .json_steps import Json
from .merges import Pair, learn_merges, merge
from .patterns import cut
from .spacing import Pipeline, SentencePieceSpacing
from .words import Cache, count_letters, count_words

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class SentencePieceTokenizer(Tokenizer):
    """What byte-pair encoding and unigram share; a subclass gives `_encode_word`.

    pieces: the vocabulary by id.
    byte_fallback: what no piece covers becomes the pieces of its bytes, <0x00> to <0xFF>; else the unknown token.
    fuse_unknown: several unknown characters in a row give one unknown token.
    unknown_text: what the unknown token decodes to; None: its own spelling.
    denormalize: what a decoded text goes through (a .model's denormalizer).
    source: the bytes of the .model that all this comes from. They are saved within tokenizer.json, which cannot say
    everything that a .model says, and loaded from there.
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
        unknown_text: str | None = None,
        denormalize: Callable[[str], str] | None = None,
        source: bytes | None = None,
    ):
        self.pieces = list(pieces)
        self.spacing = spacing
        self.unknown = unknown
        self.byte_fallback = byte_fallback
        self.fuse_unknown = fuse_unknown
        self.unknown_text = unknown_text
        self.denormalize = denormalize
        self.source = source
        self._id = {piece: id for id, piece in enumerate(self.pieces) if piece is not None}
        self._byte_ids = [self._id.get(piece) for piece in BYTE_PIECES] if byte_fallback else [None] * 256
        self._byte_of = {id: bytes([byte]) for byte, id in enumerate(self._byte_ids) if id is not None}
        self._words = Cache(self._encode_word)
        super().__init__(settings)

    def _normalize(self, text: str) -> str:
        return self.spacing.normalize(text)

    def _starts(self, text: str, normalized: str) -> bool:
        """False if the normaliser has dropped the first character. Only prepend_scheme "first" asks for it."""
        if isinstance(self.spacing, SentencePieceSpacing) or not self.spacing.needs_start or not normalized:
            return True
        return self._normalize(text[1:]) != normalized

    def _encode_part(self, text: str, first: bool) -> list[int]:
        return list(chain.from_iterable(map(self._words.__getitem__, self.spacing.words(text, first))))

    def _encode_word(self, word: str) -> list[int]:
        raise NotImplementedError

    def _without_piece(self, text: str, ids: list[int]) -> None:
        """Append what stands for text that has no piece: its bytes' pieces, if all are there, or the unknown token."""
        if self._in_bytes(text):
            ids += [self._byte_ids[byte] for byte in text.encode()]  # type: ignore[misc]
        elif self.unknown is not None:
            ids.append(self.unknown)

    def _in_bytes(self, text: str) -> bool:
        """Whether the pieces of bytes can stand for a text."""
        return None not in [self._byte_ids[byte] for byte in text.encode()]

    def _decoder(self) -> Decoder:
        if self.settings.decoder is not None:
            return JsonDecoder(self.settings.decoder)
        surface = {} if self.unknown is None or self.unknown_text is None else {self.unknown: self.unknown_text}
        return SentencePieceDecoder(self._byte_of, surface, self._strip(), self.denormalize)

    def _strip(self) -> str:
        """Which SPACEs decoding drops at the beginning of a text: see SentencePieceDecoder."""
        spacing = self.spacing
        if not isinstance(spacing, SentencePieceSpacing):
            return "one"
        return "all" if spacing.remove_extra_whitespaces else "one" if spacing.add_dummy_prefix else "none"

    def _tokens(self) -> list[str | None]:
        return self.pieces

    def _json_of(self, model: Json, split: bool) -> Json:
        """The tokenizer.json of a model of this vocabulary.

        split: whether each word is encoded separately, because no piece has a space after its beginning.
        """
        normalizer, pre_tokenizer = self.spacing.to_json(split)
        if self.source is not None:
            model[SOURCE] = base64.b64encode(self.source).decode()
        return envelope(self, normalizer=normalizer, pre_tokenizer=pre_tokenizer, decoder=self._decoder_json(), model=model)

    def _decoder_json(self) -> Json:
        """The nearest to SentencePieceDecoder that a tokenizer.json has."""
        return {"type": "Sequence", "decoders": llama_decoder({"none": 0, "one": 1, "all": 1_000_000}[self._strip()])}


SOURCE = "sentencepiece"  # the key of tokenizer.json's model under which a .model is saved, in base64


def llama_decoder(strip: int = 1) -> list[Json]:
    """The decoder that LLaMA-like files have: spaces, bytes, and up to `strip` spaces dropped at the beginning."""
    spaces = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    steps: list[Json] = [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return [*steps, {"type": "Strip", "content": " ", "start": strip, "stop": 0}] if strip else steps


class SentencePieceBPETokenizer(SentencePieceTokenizer):
    """Byte-pair encoding over characters, as in LLaMA 2 and Mistral.

    merges: (left piece, right piece, rank); of the pairs of neighbours the one of lowest rank merges first, the leftmost of
    equals. frozen: pieces that are taken from the text as they are and never merge (SentencePiece's user-defined symbols).
    unused: ids of pieces that are merged and then taken apart again, as SentencePiece does with those that are marked so.
    reserved: ids of pieces that no text gives, however it is spelled (a .model's control symbols and bytes).
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
        unused: Sequence[int] = (),
        reserved: Sequence[int] = (),
        ignore_merges: bool = False,
        **options: Any,
    ):
        super().__init__(pieces, spacing, settings, **options)
        self.merges = list(merges)
        self.frozen = frozenset(frozen)
        self.unused = frozenset(unused)
        self.ignore_merges = ignore_merges
        absent = {id for id in (*unused, *reserved) if len(self.pieces[id] or "") == 1}
        self._letters = {piece: id for piece, id in self._id.items() if id not in absent}
        self._merged: dict[Pair, tuple[int, int]] = {}
        for left, right, rank in self.merges:
            if left + right not in self._id:
                raise TokenizerError(f"the merge {left!r} {right!r} gives {left + right!r}, which is no piece")
            self._merged[self._symbol(left), self._symbol(right)] = rank, self._id[left + right]
        self._frozen = any_of(self.frozen)
        # Where no merge reaches over the end of a word into the next SPACE, words can be merged, and kept, on their own.
        reaches = any(regex.search(f"[^{SPACE}]{SPACE}", left + right) for left, right, _ in self.merges)
        self._by_word = SPACE in self._letters and not (reaches or frozen or unused or ignore_merges)

    def _symbol(self, part: str) -> int:
        """The id of a part of a merge. A character that is no piece has an id past the vocabulary's end."""
        if part in self._letters:
            return self._letters[part]
        if len(part) != 1:
            raise TokenizerError(f"a merge needs {part!r}, which is no piece")
        return len(self.pieces) + ord(part)

    def _encode_part(self, text: str, first: bool) -> list[int]:
        words = self.spacing.words(text, first)
        if self._by_word:
            words = [word for part in words for word in cut(_WORD, part)]
        return list(chain.from_iterable(map(self._words.__getitem__, words)))

    def _encode_word(self, word: str) -> list[int]:
        if self.ignore_merges and word in self._id and word not in self._special:
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
        if self.unknown is None:  # text that has no piece is left out first: its neighbours may then merge
            text = "".join(letter for letter in text if letter in self._letters or self._in_bytes(letter))
        symbols = [self._letters.get(letter, past + ord(letter)) for letter in text]
        unknown_before = False
        for symbol in self._merge_unused(symbols) if self.unused else merge(symbols, self._merged):
            if symbol < past:
                ids.append(symbol)
            elif not (unknown_before and self.fuse_unknown and not self.byte_fallback):
                self._without_piece(chr(symbol - past), ids)
            unknown_before = symbol >= past

    def _merge_unused(self, symbols: list[int]) -> list[int]:
        """Merge, and then take unused pieces apart into the two that would last have made them in this text."""
        considered = _Considered(self._merged)
        stack = merge(symbols, considered)[::-1]
        found: list[int] = []
        while stack:
            symbol = stack.pop()
            if symbol in self.unused and symbol in considered.parts:
                stack += reversed(considered.parts[symbol])
            else:
                found.append(symbol)
        return found

    def _to_json(self) -> Json:
        ends = {piece for id, piece in enumerate(self.pieces) if id not in self.unused}  # what merges may begin and end with
        kept = [merge for merge in self.merges if {merge[0], merge[1], merge[0] + merge[1]} <= ends]
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if self.unknown is None else self.pieces[self.unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": self.fuse_unknown,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": self.ignore_merges or bool(self.frozen),
            "vocab": {piece: id for id, piece in enumerate(self.pieces) if piece is not None},
            "merges": [[left, right] for left, right, _ in sorted(kept, key=lambda merge: merge[2])],
        }
        spec = self._json_of(model, split=False)
        if self.frozen:  # each is a word by itself, and ignore_merges makes it the piece that it is
            longest_first = sorted(self.frozen, key=len, reverse=True)
            pattern = {"Regex": "|".join(map(regex.escape, longest_first))}
            spec["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        return spec

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
        spacing = Pipeline(normalizers)
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
        settings = trained_settings(tokens, special_tokens, llama_decoder(), bos_first=True)
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


class _Considered(dict[Pair, tuple[int, int]]):
    """Merges that remember which pair each result was last considered for."""

    def __init__(self, merged: Mapping[Pair, tuple[int, int]]):
        super().__init__(merged)
        self.parts: dict[int, Pair] = {}

    def get(self, pair: Pair, default: Any = None) -> Any:
        found = super().get(pair, default)
        if found is not default:
            self.parts[found[1]] = pair
        return found


def trained_settings(
    tokens: Sequence[str], special_tokens: Sequence[str], decoder: Sequence[Json], bos_first: bool
) -> Settings:
    """Settings of a vocabulary trained here: <s> before a text (LLaMA), or </s> after it (T5), where it has that token."""
    check_special(special_tokens, tokens[len(special_tokens) :])
    ids = {token: id for id, token in enumerate(tokens)}
    settings = Settings([AddedToken(content, ids[content]) for content in special_tokens], decoder=decoder)
    settings.template = template_of(ids.get("<s>") if bos_first else None, None if bos_first else ids.get("</s>"))
    return settings


def template_of(bos: int | None, eos: int | None) -> Template:
    """bos before each text and eos after it, where they are given."""
    before = ((bos, 0),) if bos is not None else ()
    after = ((eos, 0),) if eos is not None else ()
    return Template((*before, ("A", 0), *after), (*before, ("A", 0), *after, *before, ("B", 0), *after))
