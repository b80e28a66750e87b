"""Explanations of Python's functions, and the dialogues of the default chatbot."""

import pytest

from tinyllm.data import library_dialogues
from tinyllm.data.library import GREETINGS, QUESTIONS, explanation, explanations

WELL_KNOWN = """
    len print sorted open range zip map sum min max abs round enumerate isinstance input str.split str.join
    list.append dict.get dict.items set.add json.dumps json.loads os.listdir os.mkdir os.path.join os.path.isfile
    os.path.basename shutil.copy math.sqrt random.choice random.randint random.shuffle re.sub re.compile time.sleep
    collections.Counter functools.reduce hashlib.sha256 itertools.product pathlib.Path subprocess.run textwrap.wrap
    operator.add
"""


def test_well_known_functions_are_explained() -> None:
    found = explanations()
    assert not [name for name in WELL_KNOWN.split() if name not in found]
    assert found["len"] == "Return the number of items in a container."
    assert found["math.sqrt"] == "Return the square root of x."
    assert found["random.choice"] == "Choose a random element from a non-empty sequence."
    assert not [name for name in found if "." in name and name.rpartition(".")[2].startswith("_") or name.endswith("Error")]
    for sentence in found.values():
        assert 12 <= len(sentence) <= 161 and sentence.endswith(".") and "->" not in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("documentation", "sentence"),
    {
        "Return x.": "",  # too short to say anything
        "Return the sum of x. More of it.": "Return the sum of x.",
        "f(x) -> y\n\nReturn the sum of all numbers, e.g. 3. That is it.": "Return the sum of all numbers, e.g. 3.",
        "f(x[, y]) -> a list of all names": "A list of all names.",
        "Test whether it is a file": "Test whether it is a file.",
        "This makes this:\n\n    with it.": "",
        "a lower-case note.\n\nThe real sentence follows.": "The real sentence follows.",
        "": "",
    }.items(),
)
def test_the_first_sentence(documentation: str, sentence: str) -> None:
    thing = type("Thing", (), {"__doc__": documentation})
    assert explanation(thing) == sentence


def test_dialogues_ask_in_several_ways() -> None:
    dialogues = library_dialogues()
    assert dialogues == library_dialogues()
    messages = [message["content"] for dialogue in dialogues for message in dialogue]
    answers = dict(zip(messages[::2], messages[1::2]))
    assert {len(dialogue) for dialogue in dialogues} == {2, 4, 6, 8}
    assert [message["role"] for message in dialogues[1]] == ["user", "assistant"] * 2
    assert {answers[question.format("shutil.copy")] for question in QUESTIONS} == {'Copy data and mode bits ("cp src dst").'}
    assert all(question in answers for question, _ in GREETINGS)
