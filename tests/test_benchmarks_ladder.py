"""The ladder of blogs/kernels.md: each of its steps gives the product, and its command prints a row for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def ladder(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import ladder

    return ladder


def test_all_steps_give_the_product_and_are_printed(ladder, capsys):
    ladder.main(["--tiny"])
    printed = capsys.readouterr().out
    for name in ladder.steps((96, 64, 192)):
        assert f"\n| {name} | " in printed
    assert printed.splitlines()[4].endswith("| 1.0 |")  # the first step, beside itself


def test_a_step_that_is_wrong_is_found(ladder, monkeypatch):
    monkeypatch.setattr(ladder, "steps", lambda sizes: {"half": lambda a, b, c: np.multiply(a @ b, 0.5, out=c)})
    with pytest.raises(ValueError, match=r"half: the product is wrong, by 5\.0e-01 of its size"):
        ladder.measure((96, 64, 192), 1)


def test_sizes_that_are_no_whole_tiles_are_refused(ladder, capsys):
    with pytest.raises(SystemExit):
        ladder.main(["--size", "97x64x192"])
    assert "97x64x192: here m must be a multiple of" in capsys.readouterr().err
