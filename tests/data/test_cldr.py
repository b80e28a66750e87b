"""Places and dates from CLDR, through Babel."""

from __future__ import annotations

import sys

import pytest

import tinyllm
from tinyllm.data import DataError
from tinyllm.data.cldr import letter_pairs, locale, place_names, places
from tinyllm.data.text_pairs import read_pairs
from tinyllm.tasks.pairs import Translation
from tinyllm.training.trainer import Watcher


@pytest.fixture
def babel():
    return pytest.importorskip("babel", reason="the extra babel is not installed")


def test_places_with_dates(babel):
    english, german = locale("en"), locale("de")
    codes = places(english, german)
    assert {"AT", "XK", "Europe/Vienna", "Europe/Brussels"} <= set(codes) and not {"ZZ", "XA", "Etc/UTC", "150"} & set(codes)
    assert [place_names(side)["Europe/Brussels"] for side in (english, german)] == ["Brussels", "Brüssel"]
    pairs = letter_pairs("en", "de", 400)
    assert pairs == letter_pairs("en", "de", 400) and len({a for a, _ in pairs}) > 390
    for i, (source, (target,)) in enumerate(pairs[:40]):
        assert source.rpartition(", ")[2] == target.rpartition(" ")[2]  # the year
        assert ("day, " in source) == (i % 2 == 0)
    assert any(source.startswith("Brussels, ") and target.startswith("Brüssel, ") for source, (target,) in pairs)


def test_it_is_data_for_a_translation(babel):
    pairs = read_pairs("cldr", "en", "fr")
    assert len(pairs) == 4000 and read_pairs("cldr", "en").references == read_pairs("cldr", "en", "de").references
    task = Translation(data=["cldr"], target=["fr"])
    assert task.prefix_of(0) == "translate English to French: " and task.name_of(0) == "translation_en_to_fr"
    sizes = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8, "num_layers": 1, "tokenizer": "unigram:300"}
    with tinyllm.kernels.use("reference"):
        _, tokenizer = tinyllm.train(
            "t5", "translation", data=["cldr"], target=["pt-BR"], steps=1, eval_texts=1, watcher=Watcher(), **sizes
        )
    assert tokenizer.decode(tokenizer.encode("sábado")) == "sábado"


@pytest.mark.parametrize("name", ["klingon", "xx", "", "e n"])
def test_an_unknown_language_is_a_mistake(babel, name):
    with pytest.raises(DataError, match="CLDR knows no language"):
        letter_pairs("en", name)


def test_without_babel_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel.dates", None)
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(DataError, match=r'pip install "tinyllm-numpy\[babel\]"'):
        read_pairs("cldr")
