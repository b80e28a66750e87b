"""`tinyllm chat MODEL`: a conversation, turn by turn."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from ..checkpoints.loading import load
from ..generation.chat import Chat
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice):
    model: Path  # a model that was trained on dialogue: of tinyllm, or a Hugging Face directory

    # Conversation
    system: str | None = None  # what the model is told before the conversation
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


@command_of(Options, EXAMPLES, name="chat")
def command(options: Options) -> None:
    """Talk with a model that was trained on dialogue.

    The format of the dialogue comes with the model's tokenizer. When a conversation no longer fits into the model's longest
    sequence, its oldest turns are forgotten. /reset begins anew, Ctrl-C ends an answer, /exit or Ctrl-D the conversation.
    """
    model, tokenizer = load(options.model, options.device)
    settings = {name: value for name, value in vars(options).items() if name not in ("model", "system", "device")}
    chat = Chat(model, tokenizer, options.system, **settings)  # type: ignore[arg-type]  # which checks it
    while (text := asked()) is not None:
        if text == "/reset":
            chat.reset()
        elif text:
            answer(chat, text)


def asked() -> str | None:
    """The next line that the user writes; None at the end."""
    try:
        text = input(click.style("> ", bold=True) if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        if sys.stdin.isatty():
            click.echo()
        return None
    return None if text == "/exit" else text


def answer(chat: Chat, text: str) -> None:
    try:
        for piece in chat.reply(text):
            click.echo(piece, nl=False)
    except KeyboardInterrupt:
        pass
    click.echo()
