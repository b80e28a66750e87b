"""A conversation in a terminal: lines that can be edited, and text that is wrapped while it comes."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.cells import cell_len

PROMPT = "> "


def on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def line_reader() -> Callable[[], str]:
    """A function that reads a line: with editing and history on a terminal, as it is from a file or a pipe.

    It raises EOFError at the end, and KeyboardInterrupt after Ctrl-C, with the unfinished line as its argument.
    """
    if not on_a_terminal():
        return lambda: input(PROMPT if sys.stdin.isatty() else "")
    try:
        import prompt_toolkit  # here, because it is an extra: tinyllm-numpy[chat]
    except ModuleNotFoundError:
        click.echo("prompt_toolkit is not installed, so lines cannot be edited: pip install 'tinyllm-numpy[chat]'", err=True)
        return lambda: input(PROMPT)
    session: Any = prompt_toolkit.PromptSession(history=prompt_toolkit.history.InMemoryHistory())

    def read() -> str:
        try:
            return session.prompt([("bold", PROMPT)])
        except KeyboardInterrupt:
            raise KeyboardInterrupt(session.default_buffer.text) from None

    return read


class Wrapped:
    """Text that comes in pieces, broken between words at the terminal's width. Lines and indentation are kept.

    A tab is written as four spaces, and other control characters, which could confuse the terminal, are not written.

    write: where it goes. width(): the cells of a line, asked for before each word, because windows change their size.
    """

    def __init__(self, write: Callable[[str], Any], width: Callable[[], int]):
        self.write, self.width = write, width
        self.column = 0
        self.held = ""  # white space and the beginning of a word that follows it

    def feed(self, text: str) -> None:
        """Write the words that are complete; a word wider than a line is broken where the line ends."""
        text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text.replace("\t", "    "))
        *whole, self.held = re.findall(r"\n|[^\S\n]*[^\s]*", self.held + text)[:-1] or [""]
        for part in whole:
            self._put(part)
        if "\n" in self.held or cell_len(self.held) >= self.width():
            self._put(self.held)
            self.held = ""

    def finish(self) -> None:
        """Write what is left, and end the line."""
        self._put(self.held)
        self.held = ""
        self.write("\n")
        self.column = 0

    def _put(self, part: str) -> None:
        word = part.lstrip(" ")
        if part == "\n":
            self._newline()
            return
        if word and self.column and self.column + cell_len(part) > self.width():
            self._newline()
            part = word
        shown = ""
        for character in part:
            if self.column + cell_len(character) > self.width():
                shown, self.column = shown + "\n", 0
            shown += character
            self.column += cell_len(character)
        self.write(shown)

    def _newline(self) -> None:
        self.write("\n")
        self.column = 0


def terminal_width() -> int:
    """The cells of a line; the last one stays free, where some terminals would wrap by themselves."""
    return max(shutil.get_terminal_size().columns - 1, 20)
