"""Places and dates between any two languages of the world, as a letter begins: "Vienna, March 3, 2025".

The names are those of the Unicode Common Locale Data Repository (Unicode License v3), which the package Babel brings along
(BSD-3-Clause): countries, and the cities that stand for time zones; Babel writes the dates.
"""

from __future__ import annotations

from typing import Any

from .files import DataError
from .made import MadePairs, date_of
from .order import key, mix

CLDR = "cldr"  # its name as data
NO_PLACES = {"ZZ", "XA", "XB"}  # unknown, and made-up languages for tests


def letter_pairs(source: str, target: str, size: int = 4000) -> MadePairs:
    """Places with dates in two of CLDR's languages ("en", "pt_BR"), half of them with the weekday; always the same ones.

    Raises DataError where Babel is missing, and for a language that CLDR does not know.
    """
    try:
        from babel.dates import format_date
    except ModuleNotFoundError:
        raise DataError('the data "cldr" needs the package babel: pip install "tinyllm-numpy[babel]"') from None
    here, there = locale(source), locale(target)
    names = [(place_names(here)[place], place_names(there)[place]) for place in places(here, there)]
    pairs: MadePairs = []
    for i in range(size):
        date, form = date_of(i), "full" if i % 2 == 0 else "long"
        place = names[int(mix(key(i, 1))) % len(names)]
        both = [f"{name}, {format_date(date, form, language)}" for name, language in zip(place, (here, there))]
        pairs.append((both[0], (both[1],)))
    return pairs


def locale(name: str) -> Any:
    """Babel's Locale of a language's code."""
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise DataError(f"CLDR knows no language {name!r}: give its code, such as en, de, pt_BR or zh_Hant") from None


class Names(dict):
    """Places by CLDR's codes. A city that a language calls as English does is not in its data, but in its code."""

    def __missing__(self, code: str) -> str:
        return code.rpartition("/")[2].replace("_", " ")


def place_names(language: Any) -> Names:
    cities = {zone: found["city"] for zone, found in language.time_zones.items() if "city" in found}
    return Names({**language.territories, **cities})


def places(here: Any, there: Any) -> list[str]:
    """The codes of the places: countries (two letters) that both languages name, cities that one of them does."""
    both = place_names(here).keys() & place_names(there).keys()
    either = place_names(here).keys() | place_names(there).keys()
    countries = {p for p in both if len(p) == 2 and p.isalpha()} - NO_PLACES
    return sorted(countries | {p for p in either if "/" in p and not p.startswith("Etc/")})
