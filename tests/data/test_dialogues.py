"""Dialogues in every form that users have them, and refusals that name the entry."""

import json

import pytest

from tinyllm.data import DataError, read_dialogues, stdlib_dialogues

HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.mark.parametrize(
    "entry",
    [
        {"messages": HELLO},
        {"category": "greetings", "turns": ["Hello", "Hi"]},
        {"instruction": "Hello", "output": "Hi"},
        {"instruction": "Hello", "context": "", "response": "Hi"},
    ],
)
@pytest.mark.parametrize("lines", [True, False])
def test_forms(tmp_path, entry, lines):
    path = tmp_path / "dialogues.json"
    path.write_text(
        f"{json.dumps(entry)}\n\n{json.dumps(entry)}\n" if lines else json.dumps([entry, entry]), encoding="utf-8"
    )
    assert read_dialogues(path) == [HELLO, HELLO]


def test_input_of_an_instruction(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"instruction": "Translate", "input": "ja", "output": "yes"}), encoding="utf-8")
    assert read_dialogues(path)[0][0]["content"] == "Translate\n\nja"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"turns": ["a", "b"]}\n{"turns": ["a", 3]}', "line 2, turn 2: it should be a text"),
        (b'{"instruction": "a"}', "line 1: a dialogue has messages, turns, or a question and its answer"),
        (b"Hello", "neither JSON nor JSON lines"),
        (b"\n", "holds no rows"),
        (b'{"turns": "\xff"}', r"not UTF-8 text \(byte 0xFF at offset 11\)"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_dialogue_is_named(tmp_path, content, message):
    path = tmp_path / "dialogues.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_dialogues(path)


def test_real_files(shared_data):
    assert len(read_dialogues(shared_data / "chatterbot/english.jsonl")) == 861
    assert len(read_dialogues(shared_data / "instructions/dolly_subset.jsonl")) == 3337
    assert len(read_dialogues(shared_data / "instructions/instruction-data.json")) == 935


def test_the_embedded_dialogues():
    dialogues = stdlib_dialogues()
    assert len(dialogues) > 500
    assert dialogues == stdlib_dialogues()
    assert [message["role"] for message in dialogues[0]] == ["user", "assistant"]
    assert any("shutil.copy" in dialogue[0]["content"] for dialogue in dialogues)
