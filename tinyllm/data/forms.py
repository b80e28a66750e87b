"""Forms and the sentences that say them, letters and the replies that they got: written for tinyllm, no download.

A form is "field[value], field[value]"; some fields are left out, so that a model learns to say what is there and no more.
"""

from .order import key, mix

PLACES = ("Mill Lane", "the harbour", "Station Road", "the old town", "Kirkwood", "the east end")
FIELDS = {
    "kind": ("café", "restaurant", "pub", "tea room", "bakery"),
    "name": ("The Blue Heron", "Corner House", "Bella Vista", "Nine Lanterns", "The Copper Pot", "Miller's", "Tide & Thyme"),
    "food": ("Indian", "Greek", "French", "vegetarian", "Japanese", "home-made"),
    "price": ("cheap", "moderate", "high"),
    "area": PLACES,
    "children": ("yes", "no"),
    "rating": ("1 of 5", "3 of 5", "5 of 5"),
}
OPENINGS = ("{name} is a {kind}", "There is a {kind} called {name}")
AT = {"cheap": "for little money", "moderate": "at moderate prices", "high": "at high prices"}
COSTS = {"cheap": "where a meal costs little", "moderate": "with moderate prices", "high": "with high prices"}
CHILDREN = {"yes": "children are welcome", "no": "it is not meant for children"}
RATING = {"1 of 5": "guests did not like it", "3 of 5": "guests found it fair", "5 of 5": "guests love it"}

LETTERS = (
    ("When do you open on {day}?", "Thank you for asking. On {day} we open at nine and close at six."),
    ("I would like to change my appointment to {day}.", "Of course. I have moved your appointment to {day}."),
    (
        "My order of the {thing} has not arrived.",
        "I am sorry. I will find out where the {thing} is and write again.",
    ),
    ("The {thing} arrived broken. What can I do?", "I am sorry. Please keep the {thing}; a new one is on its way to you."),
    ("Do you have the {thing} in another colour?", "Yes, the {thing} comes in grey and in green as well."),
    ("How much does the {thing} cost?", "The price of the {thing} is on its page; sending it is free."),
    ("Can I return the {thing}?", "Yes. You can send the {thing} back within thirty days."),
    ("Please send the invoice for the {thing} again.", "With pleasure. The invoice for the {thing} is attached."),
    ("Could we meet on {day} to talk about it?", "Yes, {day} suits me well. Shall we say ten o'clock?"),
    ("I cannot come on {day}, I am ill.", "Get well soon. Let us know when we can replace {day}."),
    ("Many thanks for the {thing}!", "You are welcome. Enjoy the {thing}!"),
    ("Is there a table for {number} on {day}?", "Yes, there is. I have written down a table for {number} on {day}."),
    ("We are {number} people now, not two.", "That is no trouble. The table is for {number} now."),
)
GREETINGS = ("Hello, ", "Good morning. ", "", "Dear team, ", "Hi! ")
THINGS = ("lamp", "blue jacket", "kettle", "garden chair", "bell", "winter boots", "desk", "radio", "umbrella", "clock")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = ("three", "four", "five", "six", "seven", "eight")


def form_pairs(size: int = 3000) -> list[tuple[str, tuple[str, ...]]]:
    """(form, its sentence), always the same ones."""
    made = dict(_form(i) for i in range(size))
    return [(form, (sentence,)) for form, sentence in made.items()]


def reply_pairs(size: int = 2500) -> list[tuple[str, tuple[str, ...]]]:
    """(letter, its reply), always the same ones."""
    made = {}
    for i in range(size):
        letter, reply = LETTERS[_draw(i, 0) % len(LETTERS)]
        gaps = {"thing": _one_of(THINGS, i, 1), "day": _one_of(DAYS, i, 2), "number": _one_of(NUMBERS, i, 3)}
        made[_one_of(GREETINGS, i, 4) + letter.format(**gaps)] = reply.format(**gaps)
    return [(letter, (reply,)) for letter, reply in made.items()]


def _form(i: int) -> tuple[str, str]:
    form = {field: _one_of(values, i, turn) for turn, (field, values) in enumerate(FIELDS.items())}
    form = {f: value for turn, (f, value) in enumerate(form.items()) if f in ("name", "kind") or _draw(i, 20 + turn) % 3}
    sentence = _one_of(OPENINGS, i, 40).format(**form)
    if "area" in form:
        sentence += f" near {form['area']}"
    if "food" in form:
        sentence += f" that sells {form['food']} food"
    if "price" in form:
        sentence += f" {(AT if 'food' in form else COSTS)[form['price']]}"
    rest = [said[form[field]] for field, said in (("children", CHILDREN), ("rating", RATING)) if field in form]
    if rest:
        sentence += ". " + ", and ".join(rest).capitalize()
    return ", ".join(f"{field}[{value}]" for field, value in form.items()), f"{sentence}."


def _draw(i: int, turn: int) -> int:
    return int(mix(key(i, turn)))


def _one_of(values: tuple[str, ...], i: int, turn: int) -> str:
    return values[_draw(i, turn) % len(values)]


MADE = {"forms": form_pairs, "replies": reply_pairs}  # their names as data
