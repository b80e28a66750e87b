"""Command-line options made from a dataclass, so that every option is said once: its name, type, default and help.

    @dataclass
    class Options:
        model: Path  # a field without a default is an argument

        # Sampling
        temperature: float = 0.8  # 0 is greedy
        stop: list[str] = field(default_factory=list)  # may be given several times

A field's help is the comment behind it, a comment on a line of its own begins a group in `--help`. Types: bool (--name and
--no-name), int, float, str, Path, Literal (a choice), any of them `| None`, list[...] (may be given several times) and
tuples of one length; a field of another type is no option. What a value must be beyond its type, the dataclass checks
itself, for Python and the shell alike.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import textwrap
import tokenize
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from ..cli import PARAMETERS
from ..data.names import near, nearest
from ..kernels.threads import set_threads


class PathType(click.Path):
    """A path. An empty one, which "$VARIABLE" may be, is an error and not the current folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; give a path.", parameter, ctx)
        return super().convert(value, parameter, ctx)


PATH = PathType(path_type=Path)
TYPES = {int: click.INT, float: click.FLOAT, str: click.STRING, Path: PATH}


def comments(cls: type) -> dict[str, tuple[str, str]]:
    """field -> (its group, its help) as the comments in the dataclass's source say, and in those that it inherits from;
    empty where there is no source."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(cls.__bases__):
        found |= comments(base) if dataclasses.is_dataclass(base) else {}
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:
        return found
    names = {field.name for field in dataclasses.fields(cls)}
    group = name = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        first = token.line.split(":")[0].strip()
        if token.type == tokenize.NAME and token.string == first and first in names:
            name = first
            found[name] = (group, "")
        elif token.type == tokenize.COMMENT and token.line.strip().startswith("#"):
            group, name = token.string.lstrip("# "), ""
        elif token.type == tokenize.COMMENT and name:
            found[name] = (group, sentence(token.string.removeprefix("# ")))
        elif token.type == tokenize.NEWLINE:
            name = ""
    return found


def sentence(text: str) -> str:
    """A comment as --help shows it."""
    return f"{text[:1].upper()}{text[1:].rstrip(',.')}." if text else ""


@dataclass(kw_only=True)
class OnDevice:
    """The options of a command that computes inherit from it."""

    # Numbers
    device: Literal["cpu", "cuda"] = "cpu"  # where the model computes; cuda needs an NVIDIA GPU


class Parameter(click.Option):
    """An option that knows its group in --help."""

    group = "Options"


class Argument(click.Argument):
    """An argument that has a help line, which click itself gives it from 8.5 on only."""

    about = ""


def parameters(cls: type, skip: Iterable[str] = (), group: str = "Options", defaults: dict[str, Any] | None = None):
    """The click parameters of a dataclass's fields.

    Keyword-only fields, which a class inherits from such as OnDevice, come last. With `defaults` (what to show as the
    default, where it is not the field's own) an option that is not given is None, so that one sees whether it was.
    """
    helps, hints = comments(cls), typing.get_type_hints(cls)
    made: list[click.Parameter] = []
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.kw_only is True):
        if field.name in skip:
            continue
        own_group, help = helps.get(field.name, ("", ""))
        type_options = _type_options(hints[field.name])
        if type_options is None:
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is dataclasses.MISSING:
            if type_options.pop("multiple", False):
                type_options["nargs"] = -1
            argument = Argument([field.name], **type_options)
            argument.about = help
            made.append(argument)
            continue
        flag = "--" + field.name.replace("_", "-")
        if hints[field.name] is bool:
            flag += "/--no-" + field.name.replace("_", "-")
        shown = (defaults or {}).get(field.name, default)
        option = Parameter(
            [flag, field.name],
            default=default if defaults is None else None,
            help=f"{help} {bracketed(shown)}".strip(),
            **type_options,
        )
        option.group = own_group or group
        made.append(option)
    return made


def _type_options(hint: Any) -> dict[str, Any] | None:
    """What click calls the type of a field; None where the shell cannot say such a value."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is bool:
        return {}
    if origin is typing.Literal:
        return {"type": Choice([str(choice) for choice in inside])}
    if origin in (types.UnionType, typing.Union):
        hints = [item for item in inside if item is not type(None)]
        if hints == [bool]:
            return {"type": click.BOOL}  # three values: yes, no, and not given
        return _type_options(hints[0]) if len(hints) == 1 else None
    if origin in (list, tuple):
        several = {"multiple": True} if origin is list else {"nargs": len(inside)}
        return {"type": TYPES[inside[0]], **several}
    return {"type": TYPES[hint]} if hint in TYPES else None


class Alternatives(tuple[tuple[str, Any], ...]):
    """Several defaults to show, each with the case in which it is used: (("", 4), ("with --init", 8))."""


def bracketed(default: Any) -> str:
    """[the default value] as --help shows it; "" where there is nothing to say."""
    if not isinstance(default, Alternatives):
        default = Alternatives([("", default)])
    shown = [f"{case}: {text}" if case else text for case, value in default if (text := _shown(value))]
    return f"[{'; '.join(shown)}]" if shown else ""


def _shown(value: Any) -> str:
    if value is None or value == "" or value == []:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_shown, value))
    if isinstance(value, str) and (value != value.strip() or not value.isprintable()):
        return repr(value)  # a line end, say, which would not be seen
    return str(value)


class Choice(click.Choice):
    """A choice whose error proposes the nearest one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        close = nearest(str(value), map(str, self.choices))
        return super().get_invalid_choice_message(value, ctx) + (f" Did you mean {close}?" if close else "")


class Group(click.Group):
    """A group whose error for an unknown command proposes the nearest one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known and not ctx.resilient_parsing:  # not completing
            ctx.fail(f"No such command {args[0]!r}: {near(args[0], known)}")
        return super().resolve_command(ctx, args)


def check_other(out: Path, *sources: Path | None) -> None:
    """ValueError where what is written would replace what is read."""
    for source in sources:
        if source is None:
            continue
        read, written = source.resolve(), out.resolve()
        if written.is_relative_to(read) or read.is_relative_to(written):
            where = f"is {source} itself" if written == read else f"and {source} are one inside the other"
            raise ValueError(f"{out} {where}, which is read: choose another directory to write")


def value_of(option: str, args: list[str]) -> str | None:
    """The value of an option among arguments that are not parsed yet."""
    for arg, following in zip(args, [*args[1:], None]):
        if arg == option:
            return following
        if arg.startswith(f"{option}="):
            return arg.removeprefix(f"{option}=")
    return None


def _threads_option() -> click.Option:
    def choose(ctx: click.Context, _: click.Parameter, n: int | None) -> None:
        if n is not None:
            set_threads(n)

    help = "Threads to compute with; the number of physical cores, or TINYLLM_THREADS, if not given."
    return click.Option(["--threads"], type=int, callback=choose, expose_value=False, is_eager=True, help=help)


class Command(click.Command):
    """A command whose --help shows its arguments, its options by group, and examples."""

    examples = ""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.meta[PARAMETERS] = self.params  # for the message of an error
        return super().invoke(ctx)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help = super().get_params(ctx)
        return [*own, _threads_option(), help]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, Argument):
                groups.setdefault("Arguments", []).append((parameter.human_readable_name, parameter.about))
            elif record := parameter.get_help_record(ctx):
                groups.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for name, records in groups.items():  # in the order of definition, --help at the end
            with formatter.section(name):
                formatter.write_dl(records, col_max=34)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in textwrap.dedent(self.examples).strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


def command(cls: type, examples: str = "", name: str | None = None) -> Callable[[Callable[[Any], Any]], Command]:
    """Makes a function of one dataclass the command of that name: its help is the function's docstring."""

    def make(function: Callable[[Any], Any]) -> Command:
        def call(**values: Any) -> Any:
            return function(cls(**_as_fields(cls, values)))

        made = Command(name or function.__name__, params=parameters(cls), callback=call, help=inspect.getdoc(function))
        made.examples = examples
        return made

    return make


def _as_fields(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """click's values as the dataclass wants them: lists where it gives tuples of several."""
    hints = typing.get_type_hints(cls)
    lists = {name for name, hint in hints.items() if typing.get_origin(hint) is list}
    return {name: list(value or ()) if name in lists else value for name, value in values.items()}
