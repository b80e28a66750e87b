"""WordPiece, as BERT uses it (Devlin et al. 2019, section 3; Schuster & Nakajima 2012).

A text is normalised and cut at white space and punctuation. Each word then gives, from its left end on, the longest piece
that the vocabulary has; pieces that continue a word are written with "##" before them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from .added import WHITE_SPACE, AddedToken, AddedTokens
from .base import Settings, Template, Tokenizer, by_id, check_special, no_such_id, well_formed
from .bert_characters import PUNCTUATION, BertNormalizer, character_class
from .decoders import wordpiece_text
from .files import TokenizerError, write_text
from .json_parts import envelope
from .json_steps import Json
from .merges import learn_merges
from .words import Cache, count_letters, count_words

_WORDS = re.compile(rf"[{character_class(PUNCTUATION)}]|[^{character_class(PUNCTUATION)}{WHITE_SPACE}]+")

NORMALIZER_KEYS = ("lowercase", "strip_accents", "clean_text", "handle_chinese_chars")  # of BertNormalizer, in our files

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieceTokenizer(Tokenizer):
    """vocab: token -> id. A word with a part that no piece covers, or longer than longest_word, is the unknown token."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        settings: Settings | None = None,
        *,
        normalizer: BertNormalizer | None = None,
        unknown: str = "[UNK]",
        prefix: str = "##",
        longest_word: int = 100,
        tidy: bool = True,
    ):
        self.vocab = dict(vocab)
        self.normalizer = BertNormalizer() if normalizer is None else normalizer
        self.unknown = unknown
        self.prefix = prefix
        self.longest_word = longest_word
        self.tidy = tidy
        self._token = by_id(self.vocab)
        self._longest_piece = max(map(len, self.vocab), default=0)
        self._words = Cache(self._encode_word)
        super().__init__(settings)

    # Encoding ------------------------------------------------------------------------------------------------------

    def _normalize(self, text: str) -> str:
        return self.normalizer(text)

    def _encode_part(self, text: str, first: bool) -> list[int]:
        return list(chain.from_iterable(map(self._words.__getitem__, _WORDS.findall(text))))

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        start = 0 if len(word) <= self.longest_word else None
        while start is not None and start < len(word):
            start = self._longest_match(word, start, ids)
        return ids if start is not None else [self._unknown_id()]

    def _longest_match(self, word: str, start: int, ids: list[int]) -> int | None:
        """Append the id of the longest piece that begins at start, and give its end; None where there is none."""
        prefix = self.prefix if start else ""
        for end in range(min(len(word), start + self._longest_piece), start, -1):
            id = self.vocab.get(prefix + word[start:end])
            if id is not None:
                ids.append(id)
                return end
        return None

    def _unknown_id(self) -> int:
        if self.unknown not in self.vocab:
            raise TokenizerError(
                f"the text has a word that no pieces make up, and the vocabulary has no {self.unknown!r} for it"
            )
        return self.vocab[self.unknown]

    def encode_with_offsets(
        self, text: str, add_special_tokens: bool = False, allow_special: bool | None = None
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode`, and for each token where it stands in the text: text[start:end].

        A special token that add_special_tokens adds stands at (0, 0). Text that is half a surrogate pair is replaced first.
        """
        text = well_formed(text)
        allow_special = self.settings.parse_special if allow_special is None else allow_special
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for part, token, start in self._raw_added.split(text, allow_special):
            if token is not None:
                ids.append(token.id)
                offsets.append((start, start + len(part)))
                continue
            normalized, origins = self.normalizer.with_origins(part)
            for id, begin, end in self._spans(normalized, allow_special):
                ids.append(id)
                offsets.append((start + origins[begin], start + origins[end - 1] + 1))
        if add_special_tokens:
            places = iter(offsets)
            ids, sources = self.wrap(ids)[0], self.wrap([-1] * len(ids))[0]
            offsets = [next(places) if source == -1 else (0, 0) for source in sources]
        return ids, offsets

    def _spans(self, text: str, allow_special: bool) -> Iterable[tuple[int, int, int]]:
        """(id, start, end) of the tokens of a normalised part."""
        added = self._normalized_added or AddedTokens(())
        for part, token, at in added.split(text, allow_special):
            if token is not None:
                yield token.id, at, at + len(part)
                continue
            for match in _WORDS.finditer(part):
                start, stop = at + match.start(), at + match.end()
                for id in self._words[match[0]]:
                    end = (
                        stop if id == self.vocab.get(self.unknown) else start + self._length(id, start == at + match.start())
                    )
                    yield id, start, end
                    start = end

    def _length(self, id: int, begins: bool) -> int:
        return len(self._token[id] or "") - (0 if begins else len(self.prefix))

    # Decoding and saving -------------------------------------------------------------------------------------------

    def _piece(self, id: int, first: bool) -> bytes:
        token = self._token[id] if 0 <= id < len(self._token) else None
        if token is None:
            raise no_such_id(id, self.vocab_size)
        return self._joined(token, first)

    def _added_piece(self, token: AddedToken, first: bool) -> bytes:
        return self._joined(token.content, first)

    def _joined(self, token: str, first: bool) -> bytes:
        return wordpiece_text(token, first, self.prefix, self.tidy).encode()

    def _tokens(self) -> list[str | None]:
        return self._token

    def _to_json(self) -> Json:
        normalizer = {"type": "BertNormalizer", **{key: getattr(self.normalizer, key) for key in NORMALIZER_KEYS}}
        model = {
            "type": "WordPiece",
            "unk_token": self.unknown,
            "continuing_subword_prefix": self.prefix,
            "max_input_chars_per_word": self.longest_word,
            "vocab": self.vocab,
        }
        decoder = {"type": "WordPiece", "prefix": self.prefix, "cleanup": self.tidy}
        cutter = {"type": "BertPreTokenizer"}
        return envelope(self, normalizer=normalizer, pre_tokenizer=cutter, decoder=decoder, model=model)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and vocab.txt, one token a line."""
        super().save(directory)
        lines = [f"[unused{id}]" if token is None else token for id, token in enumerate(self._token)]
        write_text(Path(directory) / "vocab.txt", "\n".join(lines) + "\n")

    # Training ------------------------------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = BERT_SPECIAL,
        progress: Callable[[int, int], None] | None = None,
        *,
        normalizer: BertNormalizer | None = None,
        alphabet: int = 1000,
        min_frequency: int = 2,
    ) -> "WordPieceTokenizer":
        """Learn a vocabulary from a text, or from any iterable of texts.

        Pieces grow as in byte-pair encoding, by the pair of neighbours that occurs most, which is how BERT-style
        vocabularies are trained today: Google never published the likelihood criterion's code. The vocabulary is the special
        tokens, the `alphabet` most frequent characters (as first and as later letters) and the merged pieces: vocab_size in
        all, or fewer when no pair is left that occurs min_frequency times. Words with a rarer character teach nothing.
        """
        bare = cls({}, normalizer=normalizer)
        counts = count_words(texts, special_tokens, lambda part: _WORDS.findall(bare.normalizer(part)))
        tokens = [*special_tokens, *_letters(counts, alphabet)]
        ids = {token: id for id, token in enumerate(tokens)}
        if vocab_size < len(tokens):
            raise TokenizerError(
                f"vocab_size {vocab_size} is too small: {len(special_tokens)} special tokens and the letters of the text "
                f"need {len(tokens)}; ask for more, or for a smaller alphabet than {alphabet}"
            )
        spelled = {word: [word[0], *("##" + letter for letter in word[1:])] for word in counts}
        words = {word: [ids[piece] for piece in pieces] for word, pieces in spelled.items() if ids.keys() >= set(pieces)}
        kept = [counts[word] for word in words]
        learn_merges(list(words.values()), kept, tokens, vocab_size, min_frequency, progress, _join)
        check_special(special_tokens, tokens[len(special_tokens) :])
        return cls(*bert_vocabulary(tokens, special_tokens), normalizer=normalizer)


def _join(left: str, right: str) -> str:
    return left + right.removeprefix("##")


def _letters(counts: Counter[str], limit: int) -> list[str]:
    """The most frequent characters of the words, in code point order: those that begin a word, then those that go on."""
    kept = {letter for letter, _ in sorted(count_letters(counts).items(), key=lambda item: (-item[1], item[0]))[:limit]}
    first = {word[0] for word in counts}
    later = {letter for word in counts for letter in word[1:]}
    return sorted(first & kept) + ["##" + letter for letter in sorted(later & kept)]


def bert_vocabulary(tokens: Sequence[str], special: Iterable[str] = BERT_SPECIAL) -> tuple[dict[str, int], Settings]:
    """A vocabulary in order, and BERT's settings for it: [CLS] a [SEP], [CLS] a [SEP] b [SEP] with types 0 and 1."""
    vocab = {token: id for id, token in enumerate(tokens)}
    settings = Settings([AddedToken(token, vocab[token]) for token in special if token in vocab])
    if "[CLS]" in vocab and "[SEP]" in vocab:
        cls, sep = vocab["[CLS]"], vocab["[SEP]"]
        single = ((cls, 0), ("A", 0), (sep, 0))
        settings.template = Template(single, (*single, ("B", 1), (sep, 1)))
    return vocab, settings
