"""Dialogues in every form that users have them, and refusals that name the entry."""

import json

import pytest

from tinyllm.data import DataError, read_dialogues
from tinyllm.tasks.chat import ChatTask

HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.mark.parametrize(
    "entry",
    [
        {"messages": HELLO},
        {"category": "greetings", "turns": ["Hello", "Hi"]},
        {"instruction": "Hello", "output": "Hi"},
        {"instruction": "Hello", "context": "", "response": "Hi"},
        {"question": "Hello", "answer": "Hi"},
        {"prompt": "Hello", "completion": "Hi"},
        {"input": "Hello", "output": "Hi"},
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]},
        {"messages": [{"role": "User", "content": "Hello"}, {"role": "Assistant", "content": "Hi"}]},
        {"turns": [{"speaker": "A", "utterance": "Hello"}, {"speaker": "B", "utterance": "Hi"}]},
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
        (b'{"messages": []}', "line 1: its messages or turns should be a list with something in it"),
        (b'{"turns": []}', "line 1: its messages or turns should be a list with something in it"),
        (b'{"turns": ["a"]}', "line 1: the assistant says nothing"),
        (b'{"turns": ["a", " "]}', "line 1: the assistant says nothing"),
        (b'{"messages": [{"role": "tool", "content": "a"}]}', "line 1, message 1: its role is 'tool'"),
        (b'{"messages": [{"role": "user"}]}', "line 1, message 1: it should have a role and a content"),
        (b'{"messages": [3]}', "line 1, message 1"),
        (b'{"messages": "Hello"}', "line 1: its messages or turns should be a list"),
        (b'{"instruction": "a", "context": ["b"], "output": "c"}', "line 1: its context is .* should be a text"),
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


def test_tables_of_questions_and_answers(tmp_path):
    for name, between in [("rows.csv", ","), ("rows.tsv", "\t"), ("rows2.csv", ";")]:
        (tmp_path / name).write_text(f"question{between}answer\nHello{between}Hi\n", encoding="utf-8")
        assert read_dialogues(tmp_path / name) == [HELLO]


def test_dialogues_with_one_system_prompt_are_divided_by_what_the_user_says(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    rows = [
        {"messages": [system, {"role": "user", "content": f"Say {i % 10}"}, {"role": "assistant", "content": "Yes"}]}
        for i in range(40)
    ]
    path = tmp_path / "dialogues.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    learned, held_out = ChatTask(data=[str(path)], val_fraction=0.3).parts
    asked = [{dialogue[1]["content"] for dialogue in part} for part in (learned, held_out)]
    assert len(learned) + len(held_out) == 40 and len(asked[0] | asked[1]) == 10 and not asked[0] & asked[1]
