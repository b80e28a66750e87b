"""`tinyllm chat` in a terminal: commands, Ctrl-C, and answers that are wrapped while they come."""

from __future__ import annotations

import re
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import tinyllm
from tinyllm.commands import chat as chat_command
from tinyllm.commands import terminal
from tinyllm.commands.terminal import Wrapped, line_reader
from tinyllm.generation.chat import extend
from tinyllm.models import GPT
from tinyllm.tokenizers import ByteTokenizer


def wrapped(pieces, width):
    written = []
    output = Wrapped(written.append, lambda: width)
    for piece in pieces:
        output.feed(piece)
    output.finish()
    return "".join(written)


@given(st.lists(st.text("ab \n日é", max_size=8), max_size=12), st.integers(4, 12))
def test_lines_fit_and_words_stay_whole(pieces, width):
    text = "".join(pieces)
    shown = wrapped(pieces, width)
    assert shown == wrapped([text], width)
    assert all(cell_len(line) <= width for line in shown.split("\n"))
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)
    for word in text.split():
        assert word in shown or cell_len(word) >= width - 1 or any(cell_len(letter) > 1 for letter in word)
    if all(cell_len(line) < width for line in text.split("\n")):
        assert shown == text + "\n"


def test_wrapping():
    assert wrapped(["The qu", "ick brown f", "ox jumps"], 10) == "The quick\nbrown fox\njumps\n"
    assert wrapped(["    indented\n\nnext"], 20) == "    indented\n\nnext\n"
    assert wrapped(["abcdefghijkl mn"], 5) == "abcde\nfghij\nkl mn\n"
    assert wrapped(["日本語のテキスト"], 6) == "日本語\nのテキ\nスト\n"
    assert wrapped(["a\tb\x1b[31mc\r\n"], 20) == "a    b[31mc\n\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path, tokenizer = tmp_path_factory.mktemp("chat") / "model", ByteTokenizer()
    tinyllm.save(path, extend(GPT.tiny(vocab_size=257, n_positions=64), tokenizer), tokenizer)
    return path


def talk(monkeypatch, model, events, replies=()):
    """What the terminal shows, and what the model was asked; events: lines, or exceptions, of the keyboard."""
    keyboard, asked, answers = iter(events), [], iter(replies)

    def read():
        event = next(keyboard, EOFError())
        if isinstance(event, BaseException):
            raise event
        return event

    def reply(self, text):
        asked.append((text, [message["content"] for message in self.system]))
        for piece in next(answers, ["yes"]):
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    monkeypatch.setattr(chat_command, "on_a_terminal", lambda: True)
    monkeypatch.setattr(chat_command, "line_reader", lambda: read)
    monkeypatch.setattr("tinyllm.generation.chat.Chat.reply", reply)
    result = CliRunner().invoke(chat_command.command, [str(model)])
    assert result.exit_code == 0, result.output
    return result.output, asked


def test_commands(monkeypatch, model):
    lines = ["/help", "/system", "Hi", "/system Be kind. ", "/system", "Hi", "/reset", "/foo bar", "/usr/bin?", "/quit", "x"]
    shown, asked = talk(monkeypatch, model, lines)
    assert asked == [("Hi", []), ("Hi", ["Be kind."]), ("/usr/bin?", ["Be kind."])]
    assert "There is no system message" in shown and "\nBe kind.\n" in shown
    assert "There is no command /foo. /help lists the commands." in shown
    assert all(name in shown for name in ("/help", "/reset", "/system TEXT", "/quit", "Ctrl-C"))
    assert all(len(line) < 60 for line in shown.splitlines())


def test_control_c(monkeypatch, model):
    """It stops an answer; on a line with text it clears the line; twice on an empty one it ends the conversation."""
    stop = KeyboardInterrupt
    events = ["one", stop("half"), stop("half"), stop(""), "two", stop(""), stop("half"), stop(""), stop(""), "three"]
    shown, asked = talk(monkeypatch, model, events, [["a", "b ", stop()], ["c"]])
    assert [text for text, _ in asked] == ["one", "two"]
    assert "ab  [stopped]\n" in shown and shown.count("Press Ctrl-C again") == 3


def test_an_error_does_not_end_the_conversation(monkeypatch, model):
    shown, asked = talk(monkeypatch, model, ["one", "two"], [[ValueError("roles must alternate")], ["fine"]])
    assert "Error: roles must alternate\nfine\n" in shown and len(asked) == 2


def test_plain_lines_without_prompt_toolkit(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "on_a_terminal", lambda: True)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    monkeypatch.setattr("builtins.input", lambda prompt: f"{prompt}line")
    assert line_reader()() == "> line"
    assert "prompt_toolkit is not installed" in capsys.readouterr().err


def test_lines_are_edited_and_kept():
    """Left and Up, as keys of a terminal, and what remains after Ctrl-C."""
    pytest.importorskip("prompt_toolkit")
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with pytest.MonkeyPatch.context() as patch, create_pipe_input() as keys:
        patch.setattr(terminal, "on_a_terminal", lambda: True)
        with create_app_session(input=keys, output=DummyOutput()):
            read = line_reader()
            keys.send_text("helo\x1b[Dl\r")
            assert read() == "hello"
            keys.send_text("\x1b[A\r")
            assert read() == "hello"
            keys.send_text("half\x03")
            with pytest.raises(KeyboardInterrupt, match="half"):
                read()
            keys.send_text("\x04")
            with pytest.raises(EOFError):
                read()
