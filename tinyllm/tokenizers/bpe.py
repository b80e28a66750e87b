"""Byte-level byte-pair encoding (Sennrich et al. 2016, section 3.2; over bytes: Radford et al. 2019, section 2.2).

A text is cut into words by a pattern, a word into bytes, and then the pair of neighbours that training merged first is
merged, again and again, until no pair is left that training has merged.
"""

import heapq
import operator
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import regex

from .added import AddedToken, AddedTokens
from .base import Settings, Tokenizer, by_id, no_such_id, well_formed
from .files import TokenizerError, write_json, write_text

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

Pair = tuple[int, int]


def _byte_characters() -> list[str]:
    """GPT-2 writes each byte as one printable character: itself where Latin-1 prints it, else U+0100 and on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


BYTE_TO_CHARACTER = _byte_characters()
CHARACTER_TO_BYTE = {character: byte for byte, character in enumerate(BYTE_TO_CHARACTER)}
BYTES_IN_VOCABULARY_ORDER = sorted(range(256), key=BYTE_TO_CHARACTER.__getitem__)  # GPT-2's ids 0 to 255


def to_bytes(token: str) -> bytes:
    """The bytes that a token of vocab.json stands for; a token outside GPT-2's alphabet stands for itself."""
    try:
        return bytes(map(CHARACTER_TO_BYTE.__getitem__, token))
    except KeyError:
        return token.encode("utf-8")


def to_characters(token: bytes) -> str:
    """A token as vocab.json writes it."""
    return "".join(map(BYTE_TO_CHARACTER.__getitem__, token))


class BPETokenizer(Tokenizer):
    """Byte-level BPE as in GPT-2, OPT, RoBERTa, LLaMA 3, Qwen2, SmolLM.

    vocab: each token as vocab.json writes it -> id.
    merges: pairs of such tokens, the first merged first.
    patterns: a text is cut by each in turn, and then, unless use_regex is False, by GPT-2's.
    add_prefix_space: a space goes before each part that GPT-2's pattern cuts, unless it begins with one.
    normalization: "NFC" and the like, applied first.
    ignore_merges: a word that is a token as a whole is that token, whatever the merges say (LLaMA 3).
    rank_by_result: merges rank by the id of what they give, as tiktoken has it, and not by their place in merges.
    unknown, fuse_unknown: the token for bytes that the vocabulary lacks, and whether several in a row give one. Without it
    such bytes vanish, as in the tokenizers library. A vocabulary with all 256 bytes, as train gives, has nothing unknown.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        settings: Settings | None = None,
        *,
        patterns: Sequence[str] = (),
        use_regex: bool = True,
        add_prefix_space: bool = False,
        normalization: str | None = None,
        ignore_merges: bool = False,
        rank_by_result: bool = False,
        unknown: str | None = None,
        fuse_unknown: bool = False,
    ):
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.patterns = tuple(patterns)
        self.use_regex = use_regex
        self.add_prefix_space = add_prefix_space
        self.normalization = normalization
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
        self._before = [compiled_pattern(pattern) for pattern in self.patterns]
        self._words = Cache(self._encode_word)
        super().__init__(settings)

    # Encoding ------------------------------------------------------------------------------------------------------

    def _normalize(self, text: str) -> str:
        return unicodedata.normalize(self.normalization, text) if self.normalization else text  # type: ignore[arg-type]

    def _split(self, text: str) -> list[str]:
        """The words of a text."""
        words = [text]
        for pattern in self._before:
            words = [word for part in words for word in cut(pattern, part)]
        if self.add_prefix_space:
            words = [word if word.startswith(" ") else " " + word for word in words]
        if self.use_regex:
            words = list(chain.from_iterable(map(_GPT2.findall, words)))
        return words

    def _encode_part(self, text: str, first: bool) -> list[int]:
        return list(chain.from_iterable(map(self._words.__getitem__, self._split(text))))

    def _encode_word(self, word: str) -> list[int]:
        if self.ignore_merges:
            whole = self.vocab.get(to_characters(word.encode()))
            if whole is not None:
                return [whole]
        ids = list(map(self._id_of_byte.__getitem__, word.encode()))
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

    def _tokens(self) -> list[str | None]:
        return self._token

    def _to_json(self) -> dict[str, Any]:
        from .tokenizer_json import bpe_to_json

        return bpe_to_json(self)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, and GPT-2's vocab.json and merges.txt."""
        super().save(directory)
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
        special = AddedTokens(AddedToken(content, 0) for content in special_tokens)
        counts: Counter[str] = Counter()
        for text in [texts] if isinstance(texts, str) else texts:
            for part, token, _ in special.split(well_formed(text)):
                if token is None:
                    counts.update(bare._split(part))
        words = [[byte_ids[byte] for byte in word.encode()] for word in counts]
        tokens = [BYTE_TO_CHARACTER[byte] for byte in BYTES_IN_VOCABULARY_ORDER]
        room = vocab_size - len(special_tokens)
        merges = learn_merges(words, list(counts.values()), tokens, room, min_frequency, progress)
        added = [AddedToken(content, len(tokens) + i) for i, content in enumerate(special_tokens)]
        vocab = {token: id for id, token in enumerate([*tokens, *special_tokens])}
        return cls(vocab, merges, Settings(added), patterns=patterns, use_regex=use_regex)


class Cache(dict[str, list[int]]):
    """Word -> ids, worked out at the first look. It forgets everything when it is full, and never keeps a long word."""

    def __init__(self, encode: Callable[[str], list[int]], size: int = 1 << 17, longest: int = 256):
        self.encode = encode
        self.size = size
        self.longest = longest

    def __missing__(self, word: str) -> list[int]:
        ids = self.encode(word)
        if len(word) <= self.longest:
            if len(self) >= self.size:
                self.clear()
            self[word] = ids
        return ids


def merge(ids: list[int], merged: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge neighbours, the pair of lowest rank first and the leftmost of equals, until no pair of them has a rank."""
    if len(ids) > 48:
        return _merge_long(ids, merged)
    ids = list(ids)
    found = [merged.get(pair, NEVER) for pair in pairwise(ids)]  # found[i]: rank and result of ids[i], ids[i + 1]
    while found:
        best = min(found)
        if best is NEVER:
            break
        i = found.index(best)
        ids[i : i + 2] = [best[1]]
        del found[i]
        if i > 0:
            found[i - 1] = merged.get((ids[i - 1], ids[i]), NEVER)
        if i < len(found):
            found[i] = merged.get((ids[i], ids[i + 1]), NEVER)
    return ids


NEVER = (1 << 62, -1)


def _merge_long(ids: list[int], merged: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """The same in n log n: a heap of the candidates, and a linked list of what is left."""
    symbols = list(ids)
    before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
    heap: list[tuple[int, int, int, Pair]] = []

    def consider(i: int) -> None:
        j = after[i] if i >= 0 else len(ids)
        found = merged.get((symbols[i], symbols[j])) if j < len(ids) else None
        if found:
            heapq.heappush(heap, (found[0], i, found[1], (symbols[i], symbols[j])))

    for i in range(len(ids)):
        consider(i)
    while heap:
        _, i, result, pair = heapq.heappop(heap)
        j = after[i]
        if j == len(ids) or (symbols[i], symbols[j]) != pair:
            continue  # one of the two has been merged since
        symbols[i], symbols[j] = result, GONE
        after[i] = after[j]
        if after[j] < len(ids):
            before[after[j]] = i
        consider(before[i])
        consider(i)
    return [symbol for symbol in symbols if symbol != GONE]


GONE = -1


def learn_merges(
    words: list[list[int]],
    counts: list[int],
    tokens: list[str],
    vocab_size: int,
    min_frequency: int,
    progress: Callable[[int, int], None] | None = None,
    join: Callable[[str, str], str] = operator.add,
) -> list[tuple[str, str]]:
    """The pairs to merge, in order; appends what they give to tokens, up to vocab_size. Overwrites the words.

    words: ids, into tokens; counts: how often each word occurs. Each pair keeps its count and the words it may be in, so
    that a merge touches those words alone; a heap holds the counts, and an entry that has grown stale is corrected when it
    comes up. Two pairs may give one token ("a" + "bc", "ab" + "c").
    """
    count_of: defaultdict[Pair, int] = defaultdict(int)
    words_of: defaultdict[Pair, set[int]] = defaultdict(set)
    for w, (word, count) in enumerate(zip(words, counts)):
        for pair in pairwise(word):
            count_of[pair] += count
            words_of[pair].add(w)
    heap = [(-count, pair) for pair, count in count_of.items()]
    heapq.heapify(heap)

    ids = {token: id for id, token in enumerate(tokens)}
    learned: dict[Pair, tuple[str, str]] = {}
    start = len(tokens)
    while heap and len(tokens) < vocab_size:
        count, pair = heapq.heappop(heap)
        if pair in learned:
            continue
        if -count != count_of[pair]:
            if count_of[pair] > 0:
                heapq.heappush(heap, (-count_of[pair], pair))
            continue
        if -count < min_frequency:
            break
        learned[pair] = parts = tokens[pair[0]], tokens[pair[1]]
        new = ids.setdefault(join(*parts), len(tokens))
        if new == len(tokens):
            tokens.append(join(*parts))
            if progress and (new - start) % 100 == 99:
                progress(new + 1 - start, vocab_size - start)
        born: set[Pair] = set()
        for w in words_of.pop(pair):
            _merge_in_word(words[w], pair, new, counts[w], w, count_of, words_of, born)
        for child in born:
            heapq.heappush(heap, (-count_of[child], child))
    if progress:
        progress(len(tokens) - start, vocab_size - start)
    return list(learned.values())


def _merge_in_word(
    word: list[int],
    pair: Pair,
    new: int,
    count: int,
    w: int,
    count_of: defaultdict[Pair, int],
    words_of: defaultdict[Pair, set[int]],
    born: set[Pair],
) -> None:
    """Replace the pair in a word by the new id, left to right, and keep the counts of the pairs around it right."""
    left, right = pair
    i = 0
    while True:
        try:
            i = word.index(left, i, len(word) - 1)
        except ValueError:
            return
        if word[i + 1] == right:
            if i > 0:
                count_of[word[i - 1], left] -= count
                child = (word[i - 1], new)
                count_of[child] += count
                words_of[child].add(w)
                born.add(child)
            if i + 2 < len(word):
                count_of[right, word[i + 2]] -= count
                child = (new, word[i + 2])
                count_of[child] += count
                words_of[child].add(w)
                born.add(child)
            word[i : i + 2] = [new]
        i += 1


def compiled_pattern(pattern: str) -> regex.Pattern[str]:
    """A pattern of a tokenizer.json, whose ^ and $ are those of each line."""
    try:
        return regex.compile(pattern, regex.MULTILINE)
    except regex.error as error:
        raise TokenizerError(f"the pattern {pattern!r} does not compile: {error}") from None


def cut(pattern: regex.Pattern[str], text: str) -> list[str]:
    """The matches of a pattern and what lies between them, in order."""
    words = pattern.findall(text) if not pattern.groups else []
    if sum(map(len, words)) == len(text):
        return words
    words, done = [], 0
    for match in pattern.finditer(text):
        words += [text[done : match.start()], match[0]]
        done = match.end()
    return [word for word in [*words, text[done:]] if word]


_GPT2 = regex.compile(GPT2_PATTERN)
