"""Language models on plain text: nats a token, perplexity, and bits per byte, which is comparable between tokenizers.

A text is read in windows of L tokens, each S tokens (the stride) after the last, and every token but the first counts once:
in the first window that predicts it. With S = L windows do not overlap: the last token of one is the first of the next, so a
token has from 1 to L tokens before it. With S < L it has at least L - S, which costs L / S times as much computation and
gives a lower loss; windows are then those of transformers' page "Perplexity of fixed-length models".

Tokens are those of tokenizer.encode(text, add_special_tokens=True). Several documents follow on each other, with the
end-of-text token between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..data.batches import IGNORED
from ..data.files import DataError
from ..data.padding import right_padded
from ..data.sources import open_source
from ..models import LanguageModel
from ..tokenizers import Tokenizer
from .intervals import Statistic, ratio
from .losses import OnBatch, frequency_losses, in_batches, loss_measures, rows_at_once, token_losses
from .result import Prediction, Scored
from .settings import Settings

LONGEST = 2048  # tokens in a window where `length` does not say more
SHOWN = 64  # tokens before a window's targets that a prediction shows as its input
BLOCK, MOST_BLOCKS, FEW_BLOCKS = 256, 2000, 20  # bytes of text in a block of the bootstrap, and how many blocks there are


def evaluate_text(
    model: LanguageModel, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """loss, perplexity and bits_per_byte of a text, a folder, a data set by name, or texts:TABLE."""
    texts = list(open_source(data, quiet=True, encoding=settings.encoding))
    tokens, size = stream(tokenizer, texts), sum(len(text.encode("utf-8")) for text in texts)
    if len(tokens) < 2:
        raise DataError(f"{data} has {len(tokens)} tokens, and a loss needs 2 at least: give a longer text")
    length = settings.length or min(model.max_length, LONGEST)
    stride = settings.stride or length
    if length > model.max_length:
        raise ValueError(
            f"length is {length}, and this model takes {model.max_length} tokens: pass {model.max_length} or less"
        )
    if stride > length:
        raise ValueError(
            f"stride is {stride}, and a window has {length} tokens: pass {length} or less, so that none is skipped"
        )
    windows = list(windows_of(len(tokens), length, stride))[: settings.limit or None]
    if windows[-1][2] < len(tokens):  # limited
        tokens = tokens[: windows[-1][2]]
        size = len(tokenizer.decode(tokens.tolist(), skip_special_tokens=True).encode("utf-8"))
    losses, predictions = np.zeros(len(tokens)), []
    for group in in_batches(windows, rows_at_once(model, length, settings.batch_size), on_batch):
        found, likeliest = token_losses(model, window_batch(tokens, group))
        for (begin, first, end), row, best in zip(group, found, likeliest):
            here = slice(first - begin - 1, end - begin - 1)
            losses[first:end] = row[here]
            parts = tokens[max(begin, first - SHOWN) : first], tokens[first:end], best[here]
            read, right, said = (tokenizer.decode(part.tolist()) for part in parts)
            predictions.append(Prediction(read, right, said, -float(row[here].mean())))
    return Scored(
        "token", len(tokens) - 1, text_measures(losses[1:], size),
        "frequencies of this text's tokens", text_measures(frequency_losses(tokens[1:]), size),
        predictions, {"stride": stride, "length": length},
    )  # fmt: skip


def stream(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """The tokens of documents, (N,) int64, with the end-of-text token between them."""
    ids: list[int] = []
    for i, text in enumerate(texts):
        ids += [tokenizer.eos_id] if i and tokenizer.eos_id is not None else []
        ids += tokenizer.encode(text, add_special_tokens=True)
    return np.array(ids, np.int64)


def windows_of(count: int, length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, first, end) of each window: it reads the tokens from `begin` on and predicts first, ..., end - 1."""
    reach = length + 1 if stride == length else length  # without overlap, all outputs of a window are used
    first = 1
    for begin in range(0, count, stride):
        end = min(begin + reach, count)
        yield begin, first, end
        if end == count:
            return
        first = end


def window_batch(tokens: np.ndarray, windows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """tokens (B, T) and targets (B, T), -100 where another window counts. No token sees the padding, which follows."""
    rows, targets = [], []
    for begin, first, end in windows:
        rows.append(tokens[begin : end - 1])
        targets.append(np.where(np.arange(begin + 1, end) >= first, tokens[begin + 1 : end], IGNORED))
    return right_padded(rows, 0)[0], right_padded(targets, IGNORED)[0]


def text_measures(losses: np.ndarray, size: int) -> dict[str, Statistic]:
    """The measures of a text of `size` bytes, whose tokens have these losses.

    Neighbours are alike, so the bootstrap samples blocks of consecutive tokens, of about BLOCK bytes: the same blocks of the
    text for every tokenizer.
    """
    blocks = max(min(FEW_BLOCKS, size), min(size // BLOCK, MOST_BLOCKS), 1)
    block = np.arange(len(losses)) * blocks // len(losses)
    sums, counts = (np.bincount(block, weights, blocks) for weights in (losses, np.ones(len(losses))))
    spread = np.stack([sums / math.log(2), counts * size / len(losses)], 1)  # bits, bytes
    return {**loss_measures(sums, counts), "bits_per_byte": Statistic(spread, ratio)}
