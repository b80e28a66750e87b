"""Pairs of texts that need no file: dates in six languages, and Python functions with a sentence about what they do."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from .files import DataError
from .order import key, mix
from .stdlib import first_sentence, stdlib_functions

DATES, FUNCTIONS = "dates", "functions"  # their names as data

MadePairs = list[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Language:
    """What a language is called, and how it writes a date: the names, and forms with {weekday}, {day}, {month}, {year}."""

    name: str  # in English
    weekdays: str  # from Monday on
    months: str  # from January on
    short: str  # without the weekday
    full: str  # with it
    first: str | None = None  # the first day of a month, where it is no plain 1

    def write(self, date: datetime.date, with_weekday: bool) -> str:
        return (self.full if with_weekday else self.short).format(
            weekday=self.weekdays.split()[date.weekday()],
            day=self.first if self.first and date.day == 1 else date.day,
            month=self.months.split()[date.month - 1],
            year=date.year,
        )


LANGUAGES = {
    "en": Language(
        "English",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "January February March April May June July August September October November December",
        "{month} {day}, {year}", "{weekday}, {month} {day}, {year}",
    ),
    "de": Language(
        "German",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "{day}. {month} {year}", "{weekday}, {day}. {month} {year}",
    ),
    "fr": Language(
        "French",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "{day} {month} {year}", "{weekday} {day} {month} {year}", first="1er",
    ),
    "es": Language(
        "Spanish",
        "lunes martes miércoles jueves viernes sábado domingo",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "{day} de {month} de {year}", "{weekday}, {day} de {month} de {year}",
    ),
    "it": Language(
        "Italian",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "{day} {month} {year}", "{weekday} {day} {month} {year}",
    ),
    "ro": Language(
        "Romanian",
        "luni marți miercuri joi vineri sâmbătă duminică",
        "ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie decembrie",
        "{day} {month} {year}", "{weekday}, {day} {month} {year}",
    ),
}  # fmt: skip
FIRST_DAY, DAYS = datetime.date(1900, 1, 1), 73_000  # two centuries


def date_pairs(source: str, target: str, size: int = 4000) -> MadePairs:
    """Dates of the last century and of this one in two of LANGUAGES, half of them with the weekday; always the same ones."""
    if unknown := [name for name in (source, target) if name not in LANGUAGES]:
        raise DataError(f"dates are known in {', '.join(LANGUAGES)}, and not in {unknown[0]!r}")
    pairs: MadePairs = []
    for i in range(size):
        date = date_of(i)
        pairs.append((LANGUAGES[source].write(date, i % 2 == 0), (LANGUAGES[target].write(date, i % 2 == 0),)))
    return pairs


def date_of(i: int) -> datetime.date:
    """One of the last century or of this one, always the same for the same number."""
    return FIRST_DAY + datetime.timedelta(days=int(mix(key(i))) % DAYS)


def function_pairs() -> MadePairs:
    """Functions of Python's standard library, without their documentation, and its first sentence; each body once."""
    made: dict[str, str] = {}
    for node in stdlib_functions():
        sentence = first_sentence(ast.get_docstring(node) or "", shortest=15, longest=100)
        if sentence[:1].isalpha():
            made.setdefault(code_without_documentation(node), sentence)
    return [(code, (sentence,)) for code, sentence in made.items()]


def code_without_documentation(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    body: Iterable[ast.stmt] = node.body[1:] or [ast.Pass()]
    bare = ast.FunctionDef(node.name, node.args, list(body), [], node.returns, lineno=1, col_offset=0)
    return ast.unparse(ast.fix_missing_locations(bare))
