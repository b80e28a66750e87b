"""Dialogues to learn from, in the forms of file that users have.

A dialogue is a list of messages, {"role": "user", "content": "Hello"}, as generation/chat.py takes it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import DataError

Dialogue = list[dict[str, str]]


def read_dialogues(path: str | Path) -> list[Dialogue]:
    """The dialogues of a JSON file (a list) or of JSON lines, each an object of one of these forms:

    {"messages": [{"role", "content"}, ...]}, {"turns": [text, text, ...]} (user and assistant in turn), turns as
    {"speaker", "utterance"} (whoever speaks first is the user: Schema-Guided Dialogue), or an instruction with its answer,
    {"instruction", "input" or "context" (may be missing), "output" or "response"}.
    Raises DataError, which names the file and the entry, for anything else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: byte {error.start} cannot be read") from None
    try:
        lines = text.split("\n")
        entries = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in lines if line.strip()]
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is neither JSON nor JSON lines: {error}") from None
    if not entries:
        raise DataError(f"{path} holds no dialogue")
    return [_dialogue(entry, f"{path}, entry {i + 1}") for i, entry in enumerate(entries)]


def _texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _dialogue(entry: Any, where: str) -> Dialogue:
    """One entry of a file in the common form."""
    if isinstance(entry, Mapping):
        messages, turns = entry.get("messages"), entry.get("turns")
        asked, answer = entry.get("instruction"), entry.get("output", entry.get("response"))
        more = entry.get("input", entry.get("context")) or ""
        if isinstance(messages, list) and all(
            isinstance(m, Mapping) and _texts((m.get("role"), m.get("content"))) for m in messages
        ):
            return [{"role": m["role"], "content": m["content"]} for m in messages]
        if isinstance(turns, list) and turns and all(isinstance(t, Mapping) and "utterance" in t for t in turns):
            turns = _alternating(turns)
        if isinstance(turns, list) and _texts(turns):
            return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
        if _texts((asked, answer, more)):
            return exchange(f"{asked}\n\n{more}" if more else str(asked), str(answer))
    raise DataError(f"{where}: a dialogue has messages, turns, or an instruction and its output; this is {str(entry)[:80]}")


def _alternating(turns: list[Any]) -> list[Any]:
    """What two speakers say in turn; several utterances of one in a row are joined."""
    said: list[Any] = []
    for i, turn in enumerate(turns):
        if i and turn.get("speaker") == turns[i - 1].get("speaker") and _texts((said[-1], turn["utterance"])):
            said[-1] = f"{said[-1]} {turn['utterance']}"
        else:
            said.append(turn["utterance"])
    return said


def exchange(question: str, answer: str) -> Dialogue:
    """A question and its answer as a dialogue."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
