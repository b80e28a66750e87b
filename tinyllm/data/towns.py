"""Questions on towns that were invented for tinyllm, in the form of SQuAD 2.0: answers stand in the paragraph. No download.

A paragraph tells five of six facts of a town, in sentences of changing form and order. Most questions ask for one that it
tells, some for the one that it does not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .order import key, shuffled

BEGINNINGS = ("Al", "Bran", "Cor", "Dun", "El", "Fen", "Gar", "Hol", "Ister", "Kal", "Lin", "Mor", "Nor", "Os", "Pel", "Tor")
ENDINGS = ("bach", "dale", "ford", "grad", "ham", "mouth", "ness", "stad", "ton", "vik", "wald", "wick")
RIVERS = ("Aver", "Brune", "Dell", "Esk", "Fyne", "Lorn", "Mede", "Ouse", "Rill", "Sarn", "Tave", "Wend")
PEOPLE = ("Ada", "Boris", "Clara", "David", "Emil", "Frida", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Leo", "Mara")
FAMILIES = ("Abel", "Brandt", "Carver", "Dorn", "Eklund", "Ferro", "Gray", "Holm", "Jensen", "Keller", "Lund", "Novak")
GOODS = (
    "cheese", "clocks", "glass", "honey", "ink", "lamps", "paper", "pottery", "rope", "salt", "shoes", "silk", "tea", "toys",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# fact -> (sentences, questions); {a} is the answer, {t} the town
FACTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "people": (
        ("{a} people live in {t}.", "The town has {a} inhabitants.", "{t} counts {a} inhabitants today."),
        ("How many people live in {t}?", "How many inhabitants does {t} have?"),
    ),
    "river": (
        ("It lies on the river {a}.", "The river {a} runs through {t}.", "Three bridges lead over its river, the {a}."),
        ("Which river runs through {t}?", "On which river does {t} lie?"),
    ),
    "year": (
        ("{t} was founded in {a}.", "The oldest houses of {t} were built in {a}.", "It has been a town since {a}."),
        ("When was {t} founded?", "Since when has {t} been a town?"),
    ),
    "mayor": (
        ("Its mayor is {a}.", "{a} is the mayor of {t}.", "The town is governed by {a}."),
        ("Who is the mayor of {t}?", "Who governs {t}?"),
    ),
    "goods": (
        ("The town is known for its {a}.", "Most of its workshops make {a}.", "From {t}, {a} is sold to all the world."),
        ("What is {t} known for?", "What do the workshops of {t} make?"),
    ),
    "market": (
        ("The market is held on {a}.", "Every {a} there is a market on the square.", "On {a} farmers come to its market."),
        ("On which day is the market of {t}?", "When is the market held in {t}?"),
    ),
}
COUNT = 180  # towns; the names allow for 192


def towns() -> dict[str, Any]:
    """The paragraphs and questions, as SQuAD's JSON has them."""
    names = [beginning + ending for beginning in BEGINNINGS for ending in ENDINGS]
    order = shuffled(np.arange(len(names)), len(names), key(2018))[:COUNT].tolist()
    paragraphs = [_paragraph(names[place], number) for number, place in enumerate(order)]
    return {"version": "v2.0", "data": [{"title": "Towns", "paragraphs": paragraphs}]}


def _paragraph(town: str, number: int) -> dict[str, Any]:
    def pick(options: Sequence[Any], *what: int) -> Any:
        return options[key(number, *what) % len(options)]

    values = {
        "people": f"{2 + key(number, 1) % 90},{key(number, 2) % 10}00",
        "river": pick(RIVERS, 3),
        "year": str(1100 + key(number, 4) % 800),
        "mayor": f"{pick(PEOPLE, 5)} {pick(FAMILIES, 6)}",
        "goods": pick(GOODS, 7),
        "market": pick(DAYS, 8),
    }
    facts = [list(FACTS)[place] for place in shuffled(np.arange(len(FACTS)), len(FACTS), key(number, 9)).tolist()]
    *told, untold = facts
    context, starts = f"{town} is a town in the {pick(('north', 'south', 'east', 'west'), 10)} of the country.", {}
    for fact in told:
        before, _, after = pick(FACTS[fact][0], 11, len(fact)).partition("{a}")
        context += " " + before.format(t=town)
        starts[fact] = len(context)
        context += values[fact] + after.format(t=town)
    asked = [*told[: 2 + number % 3], *([untold] if number % 2 else [])]
    questions = []
    for fact in asked:
        answers = [{"text": values[fact], "answer_start": starts[fact]}] if fact in starts else []
        question = pick(FACTS[fact][1], 12, len(fact)).format(t=town)
        questions.append({"id": f"{town}-{fact}", "question": question, "answers": answers, "is_impossible": not answers})
    return {"context": context, "qas": questions}
