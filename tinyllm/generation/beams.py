"""Beam search: the likeliest text, looked for among several at a time (Sutskever et al. 2014; Wu et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .options import require, require_number, require_whole
from .sampling import Sampler, as_scores, log_softmax
from .sessions import Session


@dataclass
class Search:
    """One row's search. A score is a sum of log-probabilities, of a finished text divided by its length to a power."""

    prompt: int  # how many tokens of the row were given
    beams: list[float] = field(default_factory=lambda: [0.0])  # the scores of those that run, falling
    finished: list[tuple[float, list[int]]] = field(default_factory=list)  # the best, falling
    open: bool = True


def beam_search(
    session: Session,
    sampler: Sampler,
    max_new_tokens: int,
    ends: Sequence[int],
    num_beams: int,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
) -> list[list[int]]:
    """The new tokens of the best text found for each row of the session; transformers' definitions throughout.

    In each step the continuations of all beams compete, and num_beams that have not ended go on. Finished texts compete by
    score / length^length_penalty, the length that of the new tokens: above 0 longer ones are favoured, below 0 shorter.
    early_stopping: True ends when num_beams have finished; False when no beam, judged by its length now, can be better than
    the worst of these; "never" judges by the longest that it may become.
    """
    require_whole("num_beams", num_beams, 1)
    require_number("length_penalty", length_penalty)
    most = 700 / math.log(max(max_new_tokens, 2))  # a power of the length that is still a number
    wanted = f"between -{most:.0f} and {most:.0f} for {max_new_tokens} new tokens"
    require(abs(length_penalty) < most, "length_penalty", length_penalty, wanted)
    require(early_stopping in (True, False, "never"), "early_stopping", early_stopping, "True, False or 'never'")
    searches = [Search(len(row)) for row in session.rows]
    n_candidates = max(2, 1 + len(ends)) * num_beams  # enough, though each beam may end with each of the ends
    for length in range(1, max_new_tokens + 1):
        scores = log_softmax(np.array([as_scores(logits) for logits in session.logits()]))
        scores = np.array([sampler.penalized(*given) for given in zip(scores, session.rows)])
        going: list[tuple[int, int]] = []  # (row of the session, its next token)
        first = 0
        for search in (search for search in searches if search.open):
            last = first + len(search.beams)
            totals = (scores[first:last] + np.array(search.beams)[:, None]).ravel()
            running: list[tuple[float, int, int]] = []
            ended: list[tuple[float, list[int]]] = []
            for rank, candidate in enumerate(largest(totals, n_candidates)):
                if totals[candidate] == -np.inf:
                    break  # the rest cannot be
                beam, token = divmod(int(candidate), scores.shape[1])
                if token not in ends and length < max_new_tokens:
                    running.append((totals[candidate], first + beam, token))
                elif rank < num_beams:
                    text = [*session.rows[first + beam][search.prompt :], token]
                    ended.append((totals[candidate] / length**length_penalty, text))
            full = len(search.finished) == num_beams
            if not (full and early_stopping is True):
                search.finished = sorted(search.finished + ended, key=lambda text: -text[0])[:num_beams]
            running = running[:num_beams]
            search.beams = [score for score, _, _ in running]
            search.open = can_improve(search, num_beams, length, max_new_tokens, length_penalty, early_stopping)
            going += [(row, token) for _, row, token in running if search.open]
            first = last
        if not going:
            break
        session.select([row for row, _ in going])
        session.append([token for _, token in going])
    return [search.finished[0][1] if search.finished else [] for search in searches]


def can_improve(
    search: Search, num_beams: int, length: int, max_length: int, length_penalty: float, early_stopping: bool | str
) -> bool:
    """Whether a running beam may yet come before one of the finished texts."""
    if not search.beams or len(search.finished) < num_beams:
        return bool(search.beams)
    if early_stopping is True:
        return False
    best_length = max_length if early_stopping == "never" and length_penalty > 0 else length
    return search.beams[0] / best_length**length_penalty > search.finished[-1][0]


def largest(values: np.ndarray, n: int) -> np.ndarray:
    """Where the n largest values lie, falling."""
    n = min(n, len(values))
    found = np.sort(np.argpartition(-values, n - 1)[:n])
    return found[np.argsort(-values[found], kind="stable")]
