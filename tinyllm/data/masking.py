"""What BERT is pretrained on: pairs of passages from whole documents, with words hidden (Devlin et al. 2019, section 3.1).

B batch, T the longest row of the batch, V vocabulary. A row is [CLS] a [SEP] b [SEP]. tokens (B, T) int64; targets (B, T)
int64, what stood where a word is hidden, -100 elsewhere; token_types (B, T) int64, 0 for a, 1 for b; attention_mask (B, T)
bool; follows (B,) int64, 0 where b followed a, 1 where it is from elsewhere: in this order the arguments of BERT.loss.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..tokenizers.base import Tokenizer
from ..tokenizers.wordpiece import WordPieceTokenizer
from .batches import IGNORED, Row
from .files import DataError
from .order import key, shuffled
from .padding import right_padded
from .sentences import sentences

SHORT = 0.1  # of the rows are made short, of any length, since texts in use are
HIDDEN, SWAPPED = 0.8, 0.1  # of the chosen positions become [MASK], another token; the rest stay as they are


@dataclass(frozen=True)
class Sentences:
    """Documents in sentences: the tokens of all, (N,); where each sentence begins, (S + 1,); its document's number, (S,)."""

    tokens: np.ndarray
    starts: np.ndarray
    document: np.ndarray

    @classmethod
    def of(cls, documents: Iterable[str], tokenizer: Tokenizer, longest: int) -> Self:
        """Split documents into sentences of at most `longest` tokens. Longer sentences are cut."""
        tokens, lengths, document = [], [], []
        for number, text in enumerate(documents):
            for sentence in sentences(text, capitals=False):
                ids = np.array(tokenizer.encode(sentence, allow_special=False), np.int32)
                for begin in range(0, len(ids), longest):
                    tokens.append(ids[begin : begin + longest])
                    lengths.append(len(tokens[-1]))
                    document.append(number)
        if not tokens:
            raise DataError("there is no sentence to learn from")
        return cls(np.concatenate(tokens), np.concatenate([[0], np.cumsum(lengths)]), np.array(document))

    def __getitem__(self, numbers: slice) -> np.ndarray:
        """Return the tokens of consecutive sentences."""
        return self.tokens[self.starts[numbers.start] : self.starts[numbers.stop]]

    def split(self, fraction: float) -> tuple[Self, Self]:
        """(to learn from, held out): the held-out part is the last `fraction` of the tokens, and begins with a document
        where one begins near."""
        if not 0 < fraction < 1:
            raise DataError(f"the validation part must be a fraction between 0 and 1, not {fraction}")
        cut = int(np.searchsorted(self.starts, (1 - fraction) * len(self.tokens)))
        firsts = np.flatnonzero(np.diff(self.document)) + 1
        near = firsts[np.argmin(abs(firsts - cut))] if len(firsts) else cut
        if abs(self.starts[near] - self.starts[cut]) <= fraction * len(self.tokens) / 2:
            cut = int(near)
        if not 0 < cut < len(self.document):
            raise DataError(f"{len(self.document)} sentences are too few to keep a fraction of {fraction} for validation")
        return self._part(0, cut), self._part(cut, len(self.document))

    def _part(self, first: int, end: int) -> Self:
        begin = self.starts[first]
        return type(self)(
            self.tokens[begin : self.starts[end]], self.starts[first : end + 1] - begin, self.document[first:end]
        )


class MaskedPairs(Row):
    """Shuffled batches of pairs with hidden words, without end; every passage of the text comes once an epoch.

    A passage is as many sentences of one document as make a row of `length` tokens. Each time it comes it is cut in two
    anew, or its second part is replaced by text from elsewhere, each half of the time; and other words are hidden. All of it
    follows from the seed, the epoch and the passage: the batch at any position can be asked for. An epoch's last batch is
    filled up from the next epoch.

    pairs: False gives one passage a row, [CLS] a [SEP], and no `follows`. share: of the positions that are to be guessed.
    whole_words: all pieces of a word are hidden together.
    """

    def __init__(
        self,
        text: Sentences,
        tokenizer: Tokenizer,
        batch_size: int,
        length: int,
        seed: int = 0,
        pairs: bool = True,
        share: float = 0.15,
        whole_words: bool = False,
    ):
        super().__init__()
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}, but a batch needs at least 1 row: give 1 or more")
        if not 0 < share < 1:
            raise DataError(f"the share of hidden words must lie between 0 and 1, and is {share}")
        self.text, self.tokenizer, self.length, self.seed = text, tokenizer, length, seed
        self.pairs, self.share = pairs, share
        self.batch_size = self.step = batch_size
        self.room = length - len(tokenizer.wrap([], [] if pairs else None)[0])
        self.passages = passages(text, self.room)
        self.count = len(self.passages)
        if pairs and self.count < 2:
            raise DataError(f"{len(text.tokens)} tokens are too few for pairs of passages of {length}: give more text")
        self.special = special_ids(tokenizer)
        self.continues = continuing(tokenizer) if whole_words else None

    def at(self, position: int) -> tuple[np.ndarray, ...]:
        places = position + np.arange(self.batch_size)
        epochs, index = np.divmod(places, self.count)
        rows = []
        for epoch, i in zip(epochs.tolist(), index):
            which = int(shuffled(i[None], self.count, key(self.seed, epoch))[0])
            rows.append(self.row(which, epoch))
        return self.padded(rows)

    def one_pass(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Every passage once, in order, always the same: the batches for validation. The last may have fewer rows."""
        for first in range(0, self.count, self.batch_size):
            yield self.padded([self.row(i, 0) for i in range(first, min(first + self.batch_size, self.count))])

    def identity(self) -> dict[str, int]:
        return {"tokens": len(self.text.tokens), "passages": self.count, "length": self.length, "seed": self.seed}

    def row(self, passage: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """tokens, targets, token_types (n,) of a passage in an epoch, and whether its second part is from elsewhere."""
        random = np.random.default_rng([self.seed, epoch, passage])
        first, end = self.passages[passage].tolist()
        if random.random() < SHORT:
            most = self.text.starts[first] + random.integers(2, self.room + 1)
            end = max(first + 1, int(np.searchsorted(self.text.starts[: end + 1], most, side="right")) - 1)
        if self.pairs:
            a, b, elsewhere = self.pair(first, end, random)
            ids, types = self.tokenizer.wrap(a.tolist(), b.tolist())
        else:
            ids, types = self.tokenizer.wrap(self.text[first:end].tolist())
            elsewhere = 0
        tokens, targets = self.hide(np.array(ids), random)
        return tokens, targets, np.array(types), elsewhere

    def pair(self, first: int, end: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """The sentences [first, end) as two parts, or as one and a part from elsewhere; and which it is, 0 or 1."""
        middle = int(random.integers(first + 1, end)) if end - first > 1 else end
        a = self.text[first:middle]
        if middle < end and random.random() < 0.5:
            return a, self.text[middle:end], 0
        other = self.other_place(first, end, random)
        return a, self.text.tokens[self.text.starts[other] :][: max(1, self.room - len(a))], 1

    def other_place(self, first: int, end: int, random: np.random.Generator) -> int:
        """A sentence of another document; where there is but one, of another passage."""
        document = self.text.document
        if document[0] != document[-1]:
            first, end = np.searchsorted(document, [document[first], document[first] + 1]).tolist()
        place = int(random.integers(len(document) - (end - first)))
        return place if place < first else place + end - first

    def hide(self, tokens: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """tokens (n,) with words hidden, and targets (n,)."""
        which = chosen(tokens, ~self.special[tokens], self.share, self.continues, random)
        targets = np.full(len(tokens), IGNORED)
        targets[which] = tokens[which]
        what, others = random.random(len(which)), random.integers(len(self.special), size=len(which))
        given = np.where(what < HIDDEN + SWAPPED, others, tokens[which])
        tokens[which] = np.where(what < HIDDEN, self.tokenizer.mask_id, given)
        return tokens, targets

    def padded(self, rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]) -> tuple[np.ndarray, ...]:
        tokens, targets, types, elsewhere = zip(*rows)
        tokens, mask = right_padded(tokens, self.tokenizer.pad_id or 0)
        batch = (tokens, right_padded(targets, IGNORED)[0], right_padded(types, 0)[0], mask)
        return (*batch, np.array(elsewhere)) if self.pairs else batch


def passages(text: Sentences, room: int) -> np.ndarray:
    """The text cut into passages of at most `room` tokens of one document each -> (P, 2), [first, end) of the sentences."""
    made, first = [], 0
    for i in range(1, len(text.document) + 1):
        over = i == len(text.document) or text.document[i] != text.document[first]
        if over or text.starts[i + 1] - text.starts[first] > room:
            made.append((first, i))
            first = i
    return np.array(made)


def chosen(
    tokens: np.ndarray, allowed: np.ndarray, share: float, continues: np.ndarray | None, random: np.random.Generator
) -> np.ndarray:
    """Positions (m,) of the share of the allowed ones, one at least, that are to be guessed; with `continues` (V,) bool, the
    pieces that go on with a word, whole words alone: the first that fit of a shuffled row of them."""
    places = allowed.nonzero()[0]
    number = max(1, round(share * len(places)))
    if continues is None:
        return random.permutation(places)[:number]
    word = np.cumsum(~continues[tokens[places]] | (np.diff(places, prepend=-2) > 1))  # of each place, counted from 1
    sizes = np.bincount(word)[1:]
    picked, total = np.zeros(len(sizes), bool), 0
    for i in random.permutation(len(sizes)).tolist():
        if total + sizes[i] <= number or total == 0:
            picked[i] = True
            total += sizes[i]
    return places[picked[word - 1]]


def special_ids(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens are never hidden, (V,) bool. DataError where the tokenizer is not made for this."""
    if tokenizer.mask_id is None or not tokenizer.wrap([])[0]:
        raise DataError("this tokenizer has no [MASK], [CLS] and [SEP], which masked words need: train a WordPiece one")
    special = np.zeros(tokenizer.vocab_size, bool)
    special[list(tokenizer.special_tokens.values())] = True
    return special


def continuing(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens go on with a word, (V,) bool."""
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise DataError(f"whole words are known of WordPiece tokenizers alone, and this is a {type(tokenizer).__name__}")
    return np.array([(tokenizer.id_to_token(i) or "").startswith(tokenizer.prefix) for i in range(tokenizer.vocab_size)])
