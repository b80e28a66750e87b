"""`tinyllm chat MODEL`: a conversation, turn by turn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import click

from ..checkpoints.loading import load
from ..generation.chat import Chat
from .options import OnDevice
from .options import command as command_of
from .terminal import Wrapped, line_reader, on_a_terminal, terminal_width


@dataclass
class Options(OnDevice):
    model: Path  # a model that was trained on dialogue: of tinyllm, or a Hugging Face directory

    # Conversation
    system: str | None = None  # what the model is told before the conversation
    template: str | None = None  # the name of the chat template, of a model that has several
    max_new_tokens: int = 300  # the longest answer

    # Choice of the next token
    temperature: float = 0.7  # 0: always the likeliest; 1: as the model says; above: more daring
    top_k: int | None = None  # only the k likeliest tokens
    top_p: float | None = 0.95  # only the likeliest tokens whose probabilities reach this sum
    min_p: float | None = None  # only tokens at least so likely as this share of the likeliest
    repetition_penalty: float = 1.0  # above 1: tokens that the conversation has already are less likely
    seed: int | None = None  # the same seed gives the same answers again


EXAMPLES = """
tinyllm chat runs/chat
tinyllm chat SmolLM2-135M-Instruct --system "Answer in one sentence." --temperature 0
echo "Hello!" | tinyllm chat runs/chat
"""


HELP = """
  /help          list these commands and keys
  /reset         forget the conversation and begin again
  /system TEXT   begin again with another system message
  /system        show the system message
  /quit          end the conversation, as Ctrl-D does
  Ctrl-C         stop an answer, or clear the line
  Ctrl-C twice   on an empty line: end the conversation
  Up, Down       earlier lines; Ctrl-R searches them
""".strip("\n")


@command_of(Options, EXAMPLES, name="chat")
def command(options: Options) -> None:
    """Talk with a model that was trained on dialogue.

    The format of the dialogue comes with the model's tokenizer. What you write is text alone, whatever special token it
    spells. When a conversation no longer fits into the model's longest sequence, its oldest turns are forgotten. /help lists
    what you can write besides questions. Ctrl-C stops an answer, /quit or Ctrl-D ends the conversation.
    """
    model, tokenizer = load(options.model, options.device)
    settings = {name: value for name, value in vars(options).items() if name not in ("model", "system", "device")}
    chat = Chat(model, tokenizer, options.system, **settings)  # type: ignore[arg-type]  # which checks it
    if on_a_terminal():
        click.echo("/help lists the commands. Ctrl-D ends the conversation.")
    read, warned = line_reader(), False
    while True:
        try:
            text = read().strip()
        except EOFError:
            break
        except KeyboardInterrupt as interrupt:
            if warned and not any(interrupt.args):
                break
            warned = not any(interrupt.args)
            if warned:
                click.echo("Press Ctrl-C again, or Ctrl-D, to end the conversation.")
            continue
        warned = False
        if text in ("/quit", "/exit"):
            break
        if re.fullmatch(r"/\w*(\s.*)?", text, re.DOTALL):
            obey(chat, text)
        elif text:
            answer(chat, text)


def obey(chat: Chat, text: str) -> None:
    """Carry out a line that begins with a slash and a word."""
    name, _, rest = text.partition(" ")
    if name == "/reset":
        chat.reset()
        said = "The conversation begins again."
    elif name == "/system" and rest.strip():
        chat.instruct(rest.strip())
        said = "The conversation begins again, with this system message."
    elif name == "/system":
        said = chat.system[0]["content"] if chat.system else "There is no system message. /system TEXT sets one."
    elif name == "/help":
        said = HELP
    else:
        said = f"There is no command {name}. /help lists the commands."
    if on_a_terminal() or name not in ("/reset", "/system"):
        click.echo(said)


def answer(chat: Chat, text: str) -> None:
    """Write what the model replies, piece by piece; Ctrl-C stops it."""
    if not on_a_terminal():
        for piece in chat.reply(text):
            click.echo(piece, nl=False)
        click.echo()
        return
    output = Wrapped(lambda piece: click.echo(piece, nl=False), terminal_width)
    try:
        for piece in chat.reply(text):
            output.feed(piece)
    except KeyboardInterrupt:
        output.feed(" [stopped]")
    except ValueError as error:  # the conversation goes on
        output.feed(f"Error: {error}")
    output.finish()
