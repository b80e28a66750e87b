"""A measure with its 95 % interval.

Every measure here is a function of sums over examples: accuracy of (right, 1), F1 of (both, ours, theirs), BLEU of the
counts of n-grams. So a bootstrap sample, in which example i comes w_i times, needs only the weighted sums:

    measure* = value(sum_i w_i rows_i),    w ~ multinomial(n; 1/n, ..., 1/n)

The interval is the central 95 % of the measures of the samples (Efron & Tibshirani 1993, section 13.3). It is widened to
hold the measure itself, which it can miss where samples are biased: that of a calibration error of 0 is above 0. A share
of examples that are right has an exact interval instead (Clopper & Pearson 1934).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
RESAMPLES = 1000
Value = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Measure:
    """A measure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Measure):
    """A measure of one model minus that of another on the same examples, with its 95 % interval.

    p: how often a difference of the other sign would be seen by chance, from 0 to 1 (two-sided bootstrap). real: whether the
    interval leaves out 0.
    """

    p: float

    @property
    def real(self) -> bool:
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Statistic:
    """A measure as a function of sums over examples: value(rows.sum(0)).

    rows (n, k) float64, a row for each example. exact: the rows are (1, 1) and (0, 1), and the measure is the share of the
    first kind.
    """

    rows: np.ndarray
    value: Value
    exact: bool = False

    @property
    def result(self) -> float:
        return float(self.value(self.rows.sum(0)))


def mean(scores: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None) -> Statistic:
    """The mean of scores, one for each example; with weights, sum(scores) / sum(weights), where scores are sums."""
    values = np.asarray(scores, np.float64)
    return Statistic(np.stack([values, np.ones_like(values) if weights is None else weights], 1), ratio)


def share(right: Sequence[bool] | np.ndarray) -> Statistic:
    """The share of examples that are right."""
    return Statistic(mean(np.asarray(right, np.float64)).rows, ratio, exact=True)


def ratio(sums: np.ndarray) -> float:
    """sums[0] / sums[1], 0 if there is nothing to divide by."""
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def f1_of(sums: np.ndarray) -> float:
    """2 both / (ours + theirs) of the sums (both, ours, theirs); 0 if there is nothing in common."""
    return float(2 * sums[0] / (sums[1] + sums[2])) if sums[0] else 0.0


def macro_f1_of(sums: np.ndarray) -> float:
    """The mean of f1_of over the kinds that occur. sums: (both, ours, theirs) of each kind in turn."""
    scores = [f1_of(kind) for kind in sums.reshape(-1, 3) if kind[1:].any()]
    return float(np.mean(scores)) if scores else 0.0


def measures(statistics: Mapping[str, Statistic], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Measure]:
    """Each statistic with its interval."""
    drawn = bootstrap({name: one for name, one in statistics.items() if not one.exact}, resamples, seed)
    found = {}
    for name, one in statistics.items():
        if one.exact:
            right, n = (round(number) for number in one.rows.sum(0).tolist())
            found[name] = Measure(one.result, *clopper_pearson(right, n))
        else:
            found[name] = Measure(one.result, *interval(drawn[name], one.result))
    return found


def differences(
    ours: Mapping[str, Statistic], theirs: Mapping[str, Statistic], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """ours - theirs of each measure that both have, by a paired bootstrap: both are measured on the same samples of examples
    (Koehn 2004). ValueError if they are not about equally many examples."""
    shared = [name for name in ours if name in theirs]
    if different := [name for name in shared if len(ours[name].rows) != len(theirs[name].rows)]:
        raise ValueError(
            f"{different[0]} is measured on {len(ours[different[0]].rows)} examples of one model and "
            f"{len(theirs[different[0]].rows)} of the other; a paired comparison needs the same examples"
        )
    drawn = [bootstrap({name: side[name] for name in shared}, resamples, seed) for side in (ours, theirs)]
    found = {}
    for name in shared:
        samples = drawn[0][name] - drawn[1][name]
        p = min(1.0, 2 * min((samples <= 0).mean(), (samples >= 0).mean()))
        value = ours[name].result - theirs[name].result
        found[name] = Difference(value, *interval(samples, value), float(p))
    return found


def bootstrap(statistics: Mapping[str, Statistic], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Each measure of each sample, (resamples,). Measures of equally many examples share their samples."""
    found: dict[str, np.ndarray] = {name: np.empty(resamples) for name in statistics}
    for n in {len(one.rows) for one in statistics.values()}:
        group = {name: one for name, one in statistics.items() if len(one.rows) == n}
        table = np.concatenate([one.rows for one in group.values()], 1)  # (n, all k)
        ends = np.cumsum([one.rows.shape[1] for one in group.values()])[:-1]
        random = np.random.default_rng(seed)
        for sample in range(resamples):
            weights = np.bincount(random.integers(n, size=n), minlength=n).astype(np.float64)
            for (name, one), sums in zip(group.items(), np.split(weights @ table, ends)):
                found[name][sample] = one.value(sums)
    return found


def interval(samples: np.ndarray, value: float) -> tuple[float, float]:
    """The central 95 % of samples, and the value."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(float(low), value), max(float(high), value)


def clopper_pearson(right: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, `right` of n: all p for which neither tail of the binomial is below 2.5 %."""
    if not n:
        return 0.0, 1.0
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # its logarithm
    k = np.arange(n + 1)
    ways = factorial[n] - factorial[k] - factorial[n - k]

    def tail(which: slice, p: float) -> float:
        return float(np.exp(ways[which] + k[which] * np.log(p) + (n - k[which]) * np.log1p(-p)).sum())

    low = 0.0 if right == 0 else crossing(lambda p: tail(slice(right, None), p) - (1 - LEVEL) / 2)
    high = 1.0 if right == n else crossing(lambda p: (1 - LEVEL) / 2 - tail(slice(None, right + 1), p))
    return low, high


def crossing(rising: Callable[[float], float]) -> float:
    """Where a rising function of p in (0, 1) is 0, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def as_json(measured: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Measures as --json writes them."""
    return {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in measured.items()}
