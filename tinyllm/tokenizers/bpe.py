"""Byte-level byte-pair encoding (Sennrich et al. 2016, section 3.2; over bytes: Radford et al. 2019, section 2.2).

A text is cut into words by a pattern, a word into bytes, and then the pair of neighbours that training merged first is
merged, again and again, until no pair is left that training has merged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import regex

from .added import AddedToken
from .base import Settings, Tokenizer, by_id, check_special, no_such_id
from .byte_characters import BYTE_TO_CHARACTER, BYTES_IN_VOCABULARY_ORDER, to_bytes, to_characters
from .files import TokenizerError, write_json, write_text
from .json_parts import envelope
from .json_steps import Json, sequence
from .merges import Pair, learn_merges, merge
from .normalizers import normalizing
from .splitting import isolated, splitting
from .words import Cache, count_words

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT2 = regex.compile(GPT2_PATTERN)


class BPETokenizer(Tokenizer):
    """Byte-level BPE as in GPT-2, OPT, RoBERTa, LLaMA 3, Qwen2, SmolLM.

    vocab: each token as vocab.json writes it -> id.
    merges: pairs of such tokens, the first merged first.
    patterns: a text is cut by each in turn, and then, unless use_regex is False, by GPT-2's.
    add_prefix_space: a space goes before each part that GPT-2's pattern cuts, unless it begins with one.
    normalizers: steps of a tokenizer.json, applied first. before, after: pre-tokenizers of a tokenizer.json that cut before
    GPT-2's pattern does (following `patterns`), or after it, where a text is written in GPT-2's byte characters (Falcon).
    ignore_merges: a word that is a token as a whole is that token, whatever the merges say (LLaMA 3).
    rank_by_result: merges rank by the id of what they give, as tiktoken has it, and not by their place in merges.
    unknown, fuse_unknown: the token for bytes that the vocabulary lacks, and whether several in a row give one. Without it
    such bytes vanish, as in the tokenizers library. A vocabulary with all 256 bytes, as train gives, has nothing unknown.
    """

    cleans_up = False

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        settings: Settings | None = None,
        *,
        patterns: Sequence[str] = (),
        use_regex: bool = True,
        add_prefix_space: bool = False,
        normalizers: Sequence[Json] = (),
        before: Sequence[Json] = (),
        after: Sequence[Json] = (),
        ignore_merges: bool = False,
        rank_by_result: bool = False,
        unknown: str | None = None,
        fuse_unknown: bool = False,
    ):
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.normalizers = tuple(normalizers)
        self.before = (*map(isolated, patterns), *before)
        self.after = tuple(after)
        self.use_regex = use_regex
        self.add_prefix_space = add_prefix_space
        self.ignore_merges = ignore_merges
        self.unknown = unknown
        self.fuse_unknown = fuse_unknown

        self._token = by_id(self.vocab)
        self._bytes = [None if token is None else to_bytes(token) for token in self._token]
        self._id_of_byte = [self.vocab.get(character) for character in BYTE_TO_CHARACTER]
        self._merged: dict[Pair, tuple[int, int]] = {}  # pair -> rank of the merge, id of the result
        for rank, (left, right) in enumerate(self.merges):
            try:
                pair, result = (self.vocab[left], self.vocab[right]), self.vocab[left + right]
            except KeyError as error:
                raise TokenizerError(
                    f"merge {rank} ({left!r} {right!r}) needs the token {error.args[0]!r}, which the vocabulary lacks: "
                    "the vocabulary and the merges belong to different tokenizers"
                ) from None
            self._merged[pair] = (result if rank_by_result else rank), result
        self._normalizing = normalizing(self.normalizers)
        self._before, self._after = splitting(self.before), splitting(self.after)
        self._words = Cache(self._encode_word)
        super().__init__(settings)

    # Encoding ------------------------------------------------------------------------------------------------------

    def _normalize(self, text: str) -> str:
        return self._normalizing(text)

    def _split(self, text: str) -> list[str]:
        """The words of a text."""
        words = self._before(text)
        if self.add_prefix_space:
            words = [word if word.startswith(" ") else " " + word for word in words]
        if self.use_regex:
            words = list(chain.from_iterable(map(_GPT2.findall, words)))
        return words

    def _split_bytes(self, text: str) -> list[str]:
        """The words of a text, each in GPT-2's byte characters; `after` may cut within a character."""
        return [part for word in self._split(text) for part in self._after(to_characters(word.encode()))]

    def _encode_part(self, text: str, first: bool) -> list[int]:
        words = self._split_bytes(text) if self.after else self._split(text)
        return list(chain.from_iterable(map(self._words.__getitem__, words)))

    def _encode_word(self, word: str) -> list[int]:
        data = to_bytes(word) if self.after else word.encode()
        if self.ignore_merges:
            token = to_characters(data)
            whole = self.vocab.get(token)
            if whole is not None and token not in self._special:
                return [whole]
        ids = list(map(self._id_of_byte.__getitem__, data))
        return merge(self._known(ids) if None in ids else ids, self._merged)  # type: ignore[arg-type]

    def _known(self, ids: list[int | None]) -> list[int]:
        """The ids without None: bytes that the vocabulary lacks give the unknown token, or nothing."""
        unknown = self.vocab.get(self.unknown) if self.unknown is not None else None
        known: list[int] = []
        previous: int | None = -1
        for id in ids:
            if id is not None:
                known.append(id)
            elif unknown is not None and not (self.fuse_unknown and previous is None):
                known.append(unknown)
            previous = id
        return known

    # Decoding and saving -------------------------------------------------------------------------------------------

    def _piece(self, id: int, first: bool) -> bytes:
        piece = self._bytes[id] if 0 <= id < len(self._bytes) else None
        if piece is None:
            raise no_such_id(id, self.vocab_size)
        return piece

    def _added_piece(self, token: AddedToken, first: bool) -> bytes:
        """The bytes that its characters spell, if all of them do: the ByteLevel decoder reads every token so."""
        return to_bytes(token.content)

    def _tokens(self) -> list[str | None]:
        return self._token

    def _to_json(self) -> Json:
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": self.add_prefix_space,
            "trim_offsets": True,
            "use_regex": self.use_regex,
        }
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": self.unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": self.fuse_unknown,
            "byte_fallback": False,
            "ignore_merges": self.ignore_merges,
            "vocab": self.vocab,
            "merges": [" ".join(merge) for merge in self.merges] if self._joinable() else list(map(list, self.merges)),
        }
        return envelope(
            self,
            normalizer=sequence(self.normalizers, "normalizers"),
            pre_tokenizer=sequence([*self.before, byte_level, *self.after], "pretokenizers"),
            decoder=byte_level,
            model=model,
        )

    def _joinable(self) -> bool:
        """Whether "left right" says what a merge is: in GPT-2's byte characters there is no space."""
        return not any(" " in left + right for left, right in self.merges)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, and GPT-2's vocab.json and merges.txt if these can say the same."""
        super().save(directory)
        if not self._joinable():
            return
        write_json(Path(directory) / "vocab.json", self.vocab)
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]
        write_text(Path(directory) / "merges.txt", "\n".join(lines) + "\n")

    # Training ------------------------------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = ("<|endoftext|>",),
        progress: Callable[[int, int], None] | None = None,
        *,
        patterns: Sequence[str] = (),
        use_regex: bool = True,
        min_frequency: int = 2,
    ) -> "BPETokenizer":
        """Learn merges from a text, or from any iterable of texts: the most frequent pair first, ties by smaller ids.

        The vocabulary is the 256 bytes in GPT-2's order, the merges, and then the special tokens: vocab_size in all, or
        fewer when no pair is left that occurs min_frequency times. progress(done, total) is called after each 100 merges.
        Special tokens in the texts stand apart from what is learned.
        """
        if vocab_size < 256 + len(special_tokens):
            raise TokenizerError(
                f"vocab_size {vocab_size} is too small: 256 bytes and {len(special_tokens)} special tokens "
                f"need {256 + len(special_tokens)}"
            )
        byte_ids = {byte: id for id, byte in enumerate(BYTES_IN_VOCABULARY_ORDER)}
        bare = cls({}, [], patterns=patterns, use_regex=use_regex)
        counts = count_words(texts, special_tokens, bare._split)
        words = [[byte_ids[byte] for byte in word.encode()] for word in counts]
        tokens = [BYTE_TO_CHARACTER[byte] for byte in BYTES_IN_VOCABULARY_ORDER]
        room = vocab_size - len(special_tokens)
        merges = learn_merges(words, list(counts.values()), tokens, room, min_frequency, progress)
        check_special(special_tokens, tokens)
        added = [AddedToken(content, len(tokens) + i) for i, content in enumerate(special_tokens)]
        vocab = {token: id for id, token in enumerate([*tokens, *special_tokens])}
        return cls(vocab, merges, Settings(added), patterns=patterns, use_regex=use_regex)
