"""The words of a text: encoded once each, and counted for training."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from .added import AddedToken, AddedTokens, well_formed

T = TypeVar("T")


class Cache(dict[str, T]):
    """A function of a word that is computed once for each word. A full cache is emptied; a long word is never kept."""

    def __init__(self, function: Callable[[str], T], size: int = 1 << 17, longest: int = 256):
        self.function = function
        self.size = size
        self.longest = longest

    def __missing__(self, word: str) -> T:
        result = self.function(word)
        if len(word) <= self.longest:
            if len(self) >= self.size:
                self.clear()
            self[word] = result
        return result


def count_words(
    texts: str | Iterable[str], special_tokens: Sequence[str], split: Callable[[str], Iterable[str]]
) -> Counter[str]:
    """Count the words that `split` finds in a text, or in several. Special tokens in the texts are not words."""
    special = AddedTokens(AddedToken(content, 0) for content in special_tokens)
    counts: Counter[str] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        for part, token, _ in special.split(well_formed(text)):
            if token is None:
                counts.update(split(part))
    return counts


def count_letters(counts: Mapping[str, int]) -> Counter[str]:
    """Count the letters of counted words."""
    frequency: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in word:
            frequency[letter] += count
    return frequency
