"""The unigram tokenizer of SentencePiece and T5 (Kudo 2018, section 3.2).

A segmentation x_1 ... x_n of a text has the probability p(x_1) ... p(x_n); a text gets the most probable one, found by the
Viterbi algorithm. A piece's score is log p.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from .added import AddedToken
from .base import Settings
from .decoders import SPACE
from .files import TokenizerError
from .json_steps import Json
from .sentencepiece import BYTE_PIECES, SentencePieceTokenizer, frequent_letters, trained_settings, training_words
from .spacing import Pipeline, SentencePieceSpacing
from .unigram_training import learn_pieces
from .words import Cache, count_words

Trie = dict[str, Any]  # letter -> the trie below it; "" -> (score, id) of the piece that ends here

FAR = 100_000.0  # past a log probability of -FAR, SentencePiece counts on from zero, so that float32 stays fine enough
UNKNOWN_PENALTY = 10.0  # a character that no piece covers costs this much more than the least probable piece


class UnigramTokenizer(SentencePieceTokenizer):
    """scores[i] is the log probability of pieces[i].

    matchable: the ids that text can give; None: all but special tokens.
    user_defined: ids of symbols whose score is 0, which is the best that there is, whatever the file says.
    single_precision: sums are rounded to float32, as SentencePiece's own are; that decides between segmentations that are
    equally probable ("a" + "aa", "aa" + "a"). The tokenizers library has float64.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        scores: Sequence[float],
        spacing: SentencePieceSpacing | Pipeline,
        settings: Settings | None = None,
        *,
        matchable: Sequence[int] | None = None,
        user_defined: Sequence[int] = (),
        single_precision: bool = False,
        **options: Any,
    ):
        super().__init__(pieces, spacing, settings, **options)
        at_zero = frozenset(user_defined)
        self.scores = [0.0 if id in at_zero else score for id, score in enumerate(scores)]
        self.single_precision = single_precision
        candidates = list(range(len(self.pieces)) if matchable is None else matchable)
        usual = [self.scores[id] for id in candidates if id not in at_zero]
        rounded = to_float32 if single_precision else float
        self._unknown_score = rounded(min(usual, default=0.0) - UNKNOWN_PENALTY)
        self._longest = max((len(pieces[id]) for id in candidates), default=1)
        self._trie = self._trie_of(candidates)
        plain = [id for id in candidates if pieces[id] not in self._special]  # a stranger's "</s>" is text
        self._plain_trie = self._trie if len(plain) == len(candidates) else self._trie_of(plain)
        self._plain_words = Cache(lambda word: self._encode_with(self._plain_trie, word))

    def _trie_of(self, ids: Iterable[int]) -> Trie:
        trie: Trie = {}
        for id in ids:
            node = trie
            for letter in str(self.pieces[id]):
                node = node.setdefault(letter, {})
            node[""] = self.scores[id], id
        return trie

    def _encode_plain(self, text: str, first: bool) -> list[int]:
        return list(chain.from_iterable(map(self._plain_words.__getitem__, self.spacing.words(text, first))))

    def _encode_word(self, word: str) -> list[int]:
        return self._encode_with(self._trie, word)

    def _encode_with(self, trie: Trie, word: str) -> list[int]:
        ids: list[int] = []
        unknown = ""
        for start, end, id in self._viterbi(trie, word):
            if id == self.unknown:
                unknown += word[start:end]
                continue
            if unknown:
                self._without_piece(unknown, ids)
            unknown = ""
            ids.append(id)
        if unknown:
            self._without_piece(unknown, ids)
        return ids

    def _viterbi(self, trie: Trie, word: str) -> list[tuple[int, int, int]]:
        """The most probable segmentation as (start, end, id); of equally probable ones, that found first from the left."""
        best: list[float | None] = [0.0] + [None] * len(word)  # of the segmentations of word[:end]
        came: list[tuple[int, int]] = [(0, 0)] * (len(word) + 1)  # the last piece of that segmentation: start, id
        unknown = -1 if self.unknown is None else self.unknown
        rounded = to_float32 if self.single_precision else float
        for start in range(len(word)):
            so_far = best[start]
            assert so_far is not None  # a character always leads on, known or unknown
            if so_far < -FAR and self.single_precision:
                for end in range(start, min(len(word), start + self._longest) + 1):
                    known = best[end]
                    best[end] = None if known is None else to_float32(known - so_far)
                so_far = 0.0
            node: Trie | None = trie
            covered = False
            for end in range(start + 1, len(word) + 1):
                node = node.get(word[end - 1])  # type: ignore[union-attr]
                if node is None:
                    break
                if "" not in node:
                    continue
                covered = covered or end == start + 1
                score, id = node[""]
                total, known = rounded(so_far + score), best[end]
                if known is None or total > known:
                    best[end], came[end] = total, (start, id)
            total, known = rounded(so_far + self._unknown_score), best[start + 1]
            if not covered and (known is None or total > known):
                best[start + 1], came[start + 1] = total, (start, unknown)
        path = []
        end = len(word)
        while end > 0:
            start, id = came[end]
            path.append((start, end, id))
            end = start
        return path[::-1]

    def _without_piece(self, text: str, ids: list[int]) -> None:
        if self.unknown is None and not self.byte_fallback:
            raise TokenizerError(f"no piece covers {text!r}, and the vocabulary has no unknown token for it")
        super()._without_piece(text, ids)

    def _to_json(self) -> Json:
        model = {
            "type": "Unigram",
            "unk_id": self.unknown,
            "vocab": [[piece, score] for piece, score in zip(self.pieces, self.scores)],
            "byte_fallback": self.byte_fallback,
        }
        split = not any(SPACE in piece[1:] for piece in self.pieces if piece is not None)
        return self._json_of(model, split)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = ("<pad>", "</s>", "<unk>"),
        progress: Callable[[int, int], None] | None = None,
        *,
        sentinels: int = 100,
        byte_fallback: bool = False,
        coverage: float = 0.9995,
    ) -> "UnigramTokenizer":
        """Learn a vocabulary like T5's from a text, or from any iterable of texts.

        It is the special tokens, the pieces, and last the sentinels of span corruption, <extra_id_99> down to <extra_id_0>:
        vocab_size in all, or fewer where the texts do not have as many substrings. Text is normalised by NFKC, and white
        space becomes single spaces. progress(done, total) is called after each round of pruning.
        encode(..., add_special_tokens=True) puts </s> last.
        """
        normalizers: list[dict[str, Any]] = [
            {"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Strip", "strip_left": True, "strip_right": True},
        ]
        metaspace: Json = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
        spacing = Pipeline(normalizers, [metaspace])
        counts = count_words(texts, special_tokens, lambda part: training_words(part, spacing))
        letters = frequent_letters(counts, coverage)
        before = [*special_tokens, *(BYTE_PIECES if byte_fallback else ())]
        room = vocab_size - len(before) - sentinels
        if room < len(letters):
            raise TokenizerError(
                f"vocab_size {vocab_size} is too small: {len(before)} special tokens and bytes, {sentinels} sentinels and "
                f"{len(letters)} characters need {len(before) + sentinels + len(letters)}"
            )
        learned = learn_pieces(counts, letters, room, progress)
        tokens = [*before, *(piece for piece, _ in learned)]
        scores = [0.0] * len(before) + [score for _, score in learned]
        decoder: list[Json] = [{"type": "ByteFallback"}, metaspace] if byte_fallback else [metaspace]
        settings = trained_settings(tokens, special_tokens, decoder, bos_first=False)
        settings.added = [*settings.added, *sentinel_tokens(len(tokens), sentinels)]
        unknown = tokens.index("<unk>") if "<unk>" in special_tokens else None
        return cls(tokens, scores, spacing, settings, unknown=unknown, byte_fallback=byte_fallback)


def sentinel_tokens(first_id: int, count: int = 100) -> list[AddedToken]:
    """T5's tokens for what span corruption took out: <extra_id_0> has the highest id."""
    return [AddedToken(f"<extra_id_{i}>", first_id + count - 1 - i) for i in reversed(range(count))]


def to_float32(value: float) -> float:
    """The nearest float32, as a float."""
    return _FLOAT32.unpack(_FLOAT32.pack(value))[0]


_FLOAT32 = struct.Struct("f")
