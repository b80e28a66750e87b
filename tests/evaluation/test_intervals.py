"""Intervals: exact ones against scipy, bootstrap ones against the normal approximation, paired differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.evaluation.intervals import clopper_pearson, differences, mean, measures, share
from tinyllm.evaluation.labels import calibration


@given(st.integers(1, 400), st.floats(0, 1))
def test_clopper_pearson_is_scipys(n, part):
    stats = pytest.importorskip("scipy.stats", reason="scipy has exact intervals")
    right = round(part * n)
    expected = stats.binomtest(right, n).proportion_ci(method="exact")
    assert clopper_pearson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_clopper_pearson_by_hand():
    low, high = clopper_pearson(0, 10)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert clopper_pearson(10, 10)[1] == 1 and clopper_pearson(0, 0) == (0, 1)
    low, high = clopper_pearson(50_000, 100_000)  # no underflow
    assert 0.496 < low < 0.4975 and 0.5025 < high < 0.504


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval():
    scores = np.random.default_rng(0).normal(3, 2, 2000)
    found = measures({"score": mean(scores)}, 2000)["score"]
    spread = 1.96 * scores.std() / np.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - spread, abs=0.01)
    assert found.high == pytest.approx(scores.mean() + spread, abs=0.01)
    assert measures({"score": mean(scores)}, 2000)["score"] == found  # the seed is fixed


def test_a_share_has_the_exact_interval():
    found = measures({"accuracy": share([True] * 7 + [False] * 3)})["accuracy"]
    assert (found.value, found.low, found.high) == (0.7, *clopper_pearson(7, 10))


def test_differences_are_paired():
    random = np.random.default_rng(1)
    hard = random.normal(size=300) * 10  # how hard an example is, for both models alike
    a, b = hard + 0.5 + random.normal(size=300), hard + random.normal(size=300)
    found = differences({"score": mean(a)}, {"score": mean(b)})["score"]
    assert found.value == pytest.approx(a.mean() - b.mean()) and found.real and found.p < 0.01
    assert found.high - found.low < 0.5  # not that of two separate samples, about 3
    same = differences({"score": mean(a)}, {"score": mean(a)})["score"]
    assert (same.value, same.low, same.high, same.p, same.real) == (0, 0, 0, 1, False)
    with pytest.raises(ValueError, match="300 examples of one model and 299"):
        differences({"score": mean(a)}, {"score": mean(b[1:])})


def test_an_interval_holds_its_measure():
    confidence = np.full(200, 0.5)
    found = measures({"error": calibration(confidence, np.arange(200) % 2 == 0)})["error"]
    assert found.value == found.low == 0 < found.high < 0.1
