"""Byte-pair merges (Sennrich et al. 2016, section 3.2), applied to the ids of a word or learned from counted words."""

import heapq
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise

Pair = tuple[int, int]


def merge(ids: list[int], merged: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge neighbours until no pair of them has a rank. The pair of lowest rank merges first, the leftmost of equals."""
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
    """Merge in n log n steps, with a heap of the candidate pairs and a linked list of the symbols that are left."""
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
    """Return the pairs to merge, in order, and append the merged tokens to `tokens`, up to vocab_size.

    words: lists of indices into tokens, which are overwritten. counts: how often each word occurs.
    Each pair keeps its count and the set of words that may contain it, so a merge touches only those words. A heap holds
    the counts, and a stale entry is corrected when it is popped. Two pairs may give the same token ("a" + "bc", "ab" + "c").
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
    """Replace the pair in a word by the new id, from left to right, and update the counts of the pairs around it."""
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
