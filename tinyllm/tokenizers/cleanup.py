"""clean_up_tokenization_spaces: drop the spaces that cutting at punctuation left in a decoded text, as transformers does."""

from __future__ import annotations

# What is replaced, one after the other.
TIDIED = [(f" {mark}", mark) for mark in ".?!,"] + [(" ' ", "'"), (" n't", "n't")]
TIDIED += [(f" {end}", end) for end in ("'m", "'s", "'ve", "'re")]


class Cleanup:
    """The replacements on a text that comes in pieces. The joined results are those of the joined text."""

    def __init__(self) -> None:
        self.held = [""] * len(TIDIED)  # for each replacement, the end of its text that may begin a match

    def feed(self, text: str, last: bool = False) -> str:
        """The next piece of the text that is certain; `last`: no more will come."""
        for i, (spaced, tidy) in enumerate(TIDIED):
            text = (self.held[i] + text).replace(spaced, tidy)
            begun = next((n for n in range(len(spaced) - 1, 0, -1) if text.endswith(spaced[:n])), 0)
            keep = len(text) - (0 if last else begun)
            text, self.held[i] = text[:keep], text[keep:]
        return text
