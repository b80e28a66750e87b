"""Learning a unigram vocabulary (Kudo 2018, section 3.2): begin with too many pieces, and drop those that matter least.

All ways to cut a word are the paths of a lattice with one edge for each piece at each place. Expectation maximisation on
it gives each piece its probability; then the pieces whose loss would cost the least likelihood go, and so on until few
enough are left. One set of arrays holds the lattices of all words, so that a step is a few NumPy calls for each position.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

LONGEST_PIECE = 16
LONGEST_WORD = 32  # a longer word is learned from in parts
SEEDS = 10  # how many times the pieces wanted there are to begin with, at most
KEEP = 0.75  # the share of the pieces that a round of pruning keeps
RARE = 0.5  # pieces expected to occur less often than this go at once


class Lattice:
    """Edges (word, start, end, piece), int32 (E,) each: the piece could be word[start:end]."""

    def __init__(self, edges: np.ndarray, words: int):
        """edges (4, E)."""
        self.words = words
        self.width = int(edges[2].max(initial=0)) + 1
        self.by_end = edges[:, np.lexsort((edges[0], edges[2]))]
        self.by_start = edges[:, np.lexsort((edges[0], -edges[1]))]

    def only(self, kept: np.ndarray) -> "Lattice":
        """The lattice of the pieces that are kept (bool, by piece), numbered anew without gaps."""
        edges = self.by_end[:, kept[self.by_end[3]]]
        edges[3] = (np.cumsum(kept) - 1)[edges[3]]
        return Lattice(edges, self.words)

    def expected(self, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """How often each piece is expected to occur: the posterior of its edges, each word counting counts (W,) times."""
        forward = self._sweep(
            self.by_end, 2, 1, scores, log_sum
        )  # (W, width): log probability of word[:end], summed over cuts
        backward = self._sweep(self.by_start, 1, 2, scores, log_sum)  # of word[start:]
        word, start, end, piece = self.by_end
        posterior = np.exp(forward[word, start] + scores[piece] + backward[word, end] - backward[word, 0])
        return np.bincount(piece, weights=posterior * counts[word], minlength=len(scores))

    def best(self, scores: np.ndarray) -> np.ndarray:
        """The log probability of each word's most probable cut (W,)."""
        return self._sweep(self.by_start, 1, 2, scores, np.maximum.reduceat)[:, 0]

    def _sweep(self, edges: np.ndarray, to: int, fro: int, scores: np.ndarray, reduce: Callable) -> np.ndarray:
        """Position by position, reduce over the edges that lead to it; edges are sorted by position `to`, then by word."""
        total = np.zeros((self.words, self.width))
        for first, last in runs(edges[to]):
            word, piece = edges[0, first:last], edges[3, first:last]
            values = total[word, edges[fro, first:last]] + scores[piece]
            begins = np.flatnonzero(np.diff(word, prepend=-1))
            total[word[begins], edges[to, first]] = reduce(values, begins)
        return total


def runs(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where each run of equal values begins and ends."""
    begins = np.flatnonzero(np.diff(values, prepend=-1))
    yield from zip(begins.tolist(), [*begins[1:].tolist(), len(values)])


def log_sum(values: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """log sum exp over each stretch of values."""
    highest = np.maximum.reduceat(values, begins)
    shifted = values - np.repeat(highest, np.diff(begins, append=len(values)))
    return highest + np.log(np.add.reduceat(np.exp(shifted), begins))


def all_edges(words: Sequence[str], id_of: dict[str, int], grow: bool, whole: bool) -> Lattice:
    """The lattice of words over the pieces of id_of, which grows by every substring met if asked to.

    whole: whether a word may be one piece by itself.
    """
    columns = [array("i") for _ in range(4)]
    for w, word in enumerate(words):
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST_PIECE) + 1):
                piece = id_of.setdefault(word[start:end], len(id_of)) if grow else id_of.get(word[start:end])
                if piece is not None and (whole or end - start < len(word)):
                    for column, value in zip(columns, (w, start, end, piece)):
                        column.append(value)
    return Lattice(np.array([np.frombuffer(column, dtype=np.int32) for column in columns]), len(words))


def learn_pieces(
    counts: Mapping[str, int],
    letters: Sequence[str],
    size: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, float]]:
    """The `size` best pieces and their log probabilities, the most probable first; every letter is one of them.

    counts: how often each word occurs; words with other letters are passed over.
    """
    known = {word: count for word, count in counts.items() if set(letters) >= set(word)}
    parts = [(word[at : at + LONGEST_WORD], n) for word, n in known.items() for at in range(0, len(word), LONGEST_WORD)]
    words, weights = [word for word, _ in parts], np.array([n for _, n in parts], dtype=np.float64)
    id_of = {letter: id for id, letter in enumerate(letters)}
    lattice = all_edges(words, id_of, grow=True, whole=True)
    pieces = np.array(list(id_of), dtype=object)
    needed = np.arange(len(pieces)) < len(letters)
    lengths = np.array([len(piece) for piece in pieces])

    frequency = np.bincount(lattice.by_end[3], weights=weights[lattice.by_end[0]], minlength=len(pieces))
    worth = np.where(needed, np.inf, np.where(frequency > 1, frequency * lengths, 0))
    kept = (worth > 0) & top(worth, max(SEEDS * size, len(letters)))
    start = np.maximum(frequency * lengths, RARE)[kept]
    pieces, needed, lattice = pieces[kept], needed[kept], lattice.only(kept)
    spelled = all_edges(list(pieces), {piece: id for id, piece in enumerate(pieces)}, grow=False, whole=False)
    scores = np.log(start / start.sum())

    first, rounds = len(pieces), 0
    while True:
        for _ in range(2):
            expected = lattice.expected(scores, weights)
            kept = needed | (expected >= RARE)
            pieces, needed, expected = pieces[kept], needed[kept], expected[kept]
            lattice, spelled = lattice.only(kept), _without(spelled, kept)
            scores = maximize(expected)
        rounds += 1
        if progress:
            progress(min(first - len(pieces), first - size), max(first - size, 1))
        if len(pieces) <= 1.1 * size:
            break
        # What the text's log likelihood loses without a piece: each time it occurs, the next best way to spell it instead.
        loss = np.where(needed, np.inf, expected * (scores - spelled.best(scores)))
        kept = top(loss, max(int(KEEP * len(pieces)), int(1.1 * size)))
        pieces, needed, scores = pieces[kept], needed[kept], scores[kept]
        lattice, spelled = lattice.only(kept), _without(spelled, kept)
    kept = top(np.where(needed, np.inf, scores), size)
    order = np.argsort(-scores[kept], kind="stable")
    return [(str(piece), float(score)) for piece, score in zip(pieces[kept][order], scores[kept][order])]


def _without(spelled: Lattice, kept: np.ndarray) -> Lattice:
    """The lattice of the pieces' own spellings where words, too, are pieces and go."""
    edges = spelled.by_end[:, kept[spelled.by_end[0]] & kept[spelled.by_end[3]]]
    number = np.cumsum(kept) - 1
    edges[0], edges[3] = number[edges[0]], number[edges[3]]
    return Lattice(edges, int(kept.sum()))


def top(values: np.ndarray, size: int) -> np.ndarray:
    """Which values are the `size` largest; of equal ones those that come first."""
    kept = np.zeros(len(values), dtype=bool)
    kept[np.argsort(-values, kind="stable")[:size]] = True
    return kept


def maximize(expected: np.ndarray) -> np.ndarray:
    """Log probabilities from expected counts, exp(digamma(count)) in place of the count: rare pieces fade faster.

    That is the mean of log p under the Dirichlet posterior (Bishop 2006, equation 10.66), as SentencePiece does it.
    A letter that is kept although it is rare counts as RARE.
    """
    expected = np.maximum(expected, RARE)
    return digamma(expected) - digamma(expected.sum())


def digamma(x: np.ndarray) -> np.ndarray:
    """d log Gamma(x) / dx for x > 0: recurrence up to 6, then the asymptotic series (Abramowitz & Stegun 6.3.5, 6.3.18)."""
    x = np.array(x, dtype=np.float64)
    result = np.zeros_like(x)
    for _ in range(6):
        small = x < 6
        result -= np.where(small, 1 / x, 0)
        x += small
    inverse = 1 / (x * x)
    return result + np.log(x) - 0.5 / x - inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))
