"""Words as the rows that an encoder reads, each with the place of its first piece. Training and inference both use these, so
that they cut and align words in the same way.

A text that is longer than a row is read in windows, each half a row further on. A word is looked at in the window whose
middle is nearest to it, where it has the most context on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenizers import BPETokenizer, Tokenizer
from .batches import IGNORED
from .encoder_rows import EncoderRow
from .files import DataError


@dataclass(frozen=True)
class WordRow(EncoderRow):
    """A window of a text. number: of the text; words (m,): the words of it that this row tells of; places (m,): where the
    first piece of each is in the row. A word without tokens is in no row."""

    number: int
    words: np.ndarray
    places: np.ndarray


def word_rows(
    tokenizer: Tokenizer, texts: Sequence[Sequence[str]], length: int, labels: Sequence[Sequence[int]] | None = None
) -> list[WordRow]:
    """The rows of texts that are given in words, each row of at most `length` tokens, special ones included.

    labels: a number for each word, which becomes the target of its first piece (Devlin et al. 2019, section 5.3); every
    other target is -100. Each word that has tokens is in exactly one row.
    """
    before, around = tokenizer.wrap([-1])[0].index(-1), len(tokenizer.wrap([])[0])
    room = length - around
    if room < 1:
        raise DataError(f"a row of {length} tokens has no room for a word beside {around} special tokens")
    rows = []
    for number, words in enumerate(texts):
        pieces = [encoded(tokenizer, word) for word in words]
        sizes = np.array([len(piece) for piece in pieces], np.int64)
        ids = [id for piece in pieces for id in piece]
        real = np.flatnonzero(sizes)  # the words that have tokens
        firsts = (np.cumsum(sizes) - sizes)[real]
        begins = window_begins(len(ids), room)
        nearest = np.searchsorted((begins[1:] + begins[:-1] + room - 1) / 2, firsts)  # bounds between the windows' middles
        for window, begin in enumerate(begins.tolist()):
            here = nearest == window
            if here.any():
                tokens, types = (np.array(part, np.int64) for part in tokenizer.wrap(ids[begin : begin + room]))
                targets, places = np.full(len(tokens), IGNORED), before + firsts[here] - begin
                if labels is not None:
                    targets[places] = np.asarray(labels[number], np.int64)[real[here]]
                rows.append(WordRow(tokens, types, targets, number, real[here], places))
    return rows


def window_begins(count: int, room: int) -> np.ndarray:
    """Where windows of `room` tokens begin so that they cover `count` tokens, half of each being new."""
    if count <= room:
        return np.zeros(min(count, 1), np.int64)
    return np.append(np.arange(0, count - room, max(room // 2, 1)), count - room)


def encoded(tokenizer: Tokenizer, word: str) -> list[int]:
    """The tokens of a word. Byte-pair encoding has other tokens for a word after a space, and words come after one."""
    return tokenizer.encode(f" {word}" if isinstance(tokenizer, BPETokenizer) else word, allow_special=False)
