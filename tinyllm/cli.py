"""The command line: `tinyllm NAME ...` runs `command` of tinyllm/commands/NAME.py, imported only then."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from typing import Any

import click

from . import __version__
from .data.names import near

# command -> its line in `tinyllm --help`
COMMANDS = {
    "train": "Train a model on text, or resume a run.",
    "finetune": "Teach a model a task: classification, conversation, translation, ...",
    "evaluate": "Measure a model on a file, with intervals and a baseline.",
    "generate": "Continue a text.",
    "classify": "Label texts with a fine-tuned classifier.",
    "answer": "Find the answers to questions in a text.",
    "tag": "Label each word of texts.",
    "embed": "Turn texts into vectors.",
    "fill-mask": "Tell which words may stand where a text has [MASK].",
    "chat": "Talk with a model that was trained on dialogue.",
    "translate": "Translate texts with a trained encoder-decoder.",
    "summarize": "Summarize texts with a trained model.",
    "quantize": "Write a model in 16, 8 or 4 bits a weight.",
    "merge": "Add the LoRA adapters of a model to its weights.",
    "export": "Write a model as a Hugging Face directory.",
    "gradcheck": "Compare every gradient with finite differences.",
    "data": "List and fetch well-known public data sets.",
    "info": "Versions, processor, threads and caches of this machine.",
}

PARAMETERS = "tinyllm.parameters"  # in click's meta: those of the command that runs

# what a user can put right: shown as one line, without a traceback
USER_ERRORS = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, MemoryError)


class Failure(click.ClickException):
    """An error as one red line on stderr; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.secho(f"Error: {self.message}", fg="red", err=True)


class Commands(click.Group):
    """The commands of COMMANDS, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"tinyllm.commands.{name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}: {near(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output has left: click knows what to do
        except USER_ERRORS as error:
            if ctx.params["debug"]:
                raise
            raise Failure(as_typed(message_of(error), ctx)) from None


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    """A warning as a line on stderr, without the line of the source that gave it."""
    click.secho(f"Warning: {message}", fg="yellow", err=True)


def message_of(error: BaseException) -> str:
    """What an error says; of the system's, the file first and no number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or type(error).__name__


def as_typed(message: str, ctx: click.Context) -> str:
    """The message with options as they are typed, --batch-size, in place of Python's names, batch_size or "batch_size".

    Names of one word are replaced at the beginning, in quotes, before "=" and before a number, where they cannot be mistaken
    for a word of the sentence.
    """
    flags = {p.name: p.opts[0] for p in ctx.meta.get(PARAMETERS, []) if p.opts[0].startswith("--")}
    for name, flag in flags.items():
        alone = rf"(?<![\w./\\-]){name}(?![\w/\\-]|\.\w)"
        message = re.sub(rf'"{name}"(?= is)', flag, message)
        message = re.sub(rf"{alone}=", f"{flag} ", message)
        message = re.sub(alone if "_" in name else rf"^{alone}(?= (is|are|must)\b)", flag, message)
    return re.sub(r"^(--[\w-]+ is .*), or None$", r"\1", message)  # who gives no value leaves the option out


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"tinyllm {__version__}")
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, envvar="TINYLLM_DEBUG", help="Show the whole traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli(debug: bool) -> None:
    """Language models from first principles, every gradient derived and written by hand.

    `tinyllm COMMAND --help` tells what a command does, with examples.
    """


def main(args: list[str] | None = None) -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" in its place
    os.environ.setdefault("PYTHONUTF8", "1")  # for processes that we start
    cli.main(args, prog_name="tinyllm")


if __name__ == "__main__":
    main()
