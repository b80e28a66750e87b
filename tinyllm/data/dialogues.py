"""Dialogues to learn from, in the forms of file that users have.

A dialogue is a list of messages, {"role": "user", "content": "Hello"}, as generation/chat.py takes it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import DataError
from .reading import UTF8
from .tables import read_table

Dialogue = list[dict[str, str]]


SPEAKERS = {  # how files name the roles
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "bot": "assistant",
    "model": "assistant", "chatgpt": "assistant",
}  # fmt: skip
ASKED = ("instruction", "question", "prompt", "input", "user")  # columns of what is asked, and of the answer
ANSWERED = ("output", "response", "answer", "completion", "reply", "assistant")


def read_dialogues(path: str | Path, delimiter: str | None = None, encoding: str = UTF8) -> list[Dialogue]:
    """The dialogues of a JSON file (a list), of JSON lines, or of a table (tables.py). Each has one of these forms:

    {"messages": [{"role", "content"}, ...]}, or as ShareGPT has it {"conversations": [{"from", "value"}, ...]};
    {"turns": [text, text, ...]} (user and assistant in turn), turns as {"speaker", "utterance"} (the first speaker is the
    user: Schema-Guided Dialogue); or a question with its answer, {"instruction" or "question" or "prompt", "output" or
    "response" or "answer" or "completion"}, to which "input" or "context" may add a text.
    Roles are system, user and assistant, whatever their case; human is user, and gpt, bot and model are assistant.
    Raises DataError, which names the file and the line, for anything else, and for a dialogue without a word of the
    assistant.
    """
    table = read_table(path, [*ASKED, *ANSWERED], delimiter, encoding)
    return [dialogue(row, table.where(i)) for i, row in enumerate(table.rows)]


def first_request(messages: Dialogue) -> str:
    """What the user says first. It identifies a dialogue, because many begin with the same system prompt."""
    return next((message["content"] for message in messages if message["role"] == "user"), messages[0]["content"])


def dialogue(entry: Mapping[str, Any], where: str) -> Dialogue:
    """One entry of a file in the common form. where: what errors call it."""
    said = next((entry[name] for name in ("messages", "conversations", "conversation") if entry.get(name) is not None), None)
    turns = entry.get("turns")
    asked, answer = _first(entry, ASKED), _first(entry, ANSWERED)
    if said is not None:
        made = [_message(message, f"{where}, message {i}") for i, message in enumerate(_listed(said, where), 1)]
    elif turns is not None:
        made = _turns(_listed(turns, where), where)
    elif isinstance(asked, str) and isinstance(answer, str):
        more = entry.get("context") or (entry.get("input") if asked != entry.get("input") else None) or ""
        if not isinstance(more, str):
            raise DataError(f"{where}: its context is {str(more)[:60]!r}, and should be a text")
        made = exchange(f"{asked}\n\n{more}" if more else asked, answer)
    else:
        raise DataError(
            f"{where}: a dialogue has messages, turns, or a question and its answer ({', '.join(ASKED[:3])} and "
            f"{', '.join(ANSWERED[:4])}); this is {str(dict(entry))[:80]}"
        )
    if not any(message["role"] == "assistant" and message["content"].strip() for message in made):
        raise DataError(f"{where}: the assistant says nothing in it, so there is nothing to learn. Leave it out")
    return made


def _first(entry: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _listed(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise DataError(f"{where}: its messages or turns should be a list with something in it, and are {str(values)[:60]}")
    return values


def _message(message: Any, where: str) -> dict[str, str]:
    role = _first(message, ("role", "from")) if isinstance(message, Mapping) else None
    content = _first(message, ("content", "value")) if isinstance(message, Mapping) else None
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(f"{where}: it should have a role and a content, both texts, and is {str(message)[:80]}")
    if role.strip().lower() not in SPEAKERS:
        raise DataError(f"{where}: its role is {role!r}, and should be one of {', '.join(SPEAKERS)}")
    return {"role": SPEAKERS[role.strip().lower()], "content": content}


def _turns(turns: list[Any], where: str) -> Dialogue:
    """Turns of the user and the assistant; several utterances of one speaker in a row are joined."""
    said: list[tuple[Any, str]] = []
    for i, turn in enumerate(turns):
        speaker, text = (turn.get("speaker"), turn.get("utterance")) if isinstance(turn, Mapping) else (i, turn)
        if not isinstance(text, str):
            raise DataError(
                f"{where}, turn {i + 1}: it should be a text, or have a speaker and an utterance; it is {turn!r:.80}"
            )
        if said and said[-1][0] == speaker:
            text = f"{said.pop()[1]} {text}"
        said.append((speaker, text))
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, (_, text) in enumerate(said)]


def exchange(question: str, answer: str) -> Dialogue:
    """A question and its answer as a dialogue."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
