"""`tinyllm finetune KIND --task NAME`."""

from __future__ import annotations

from typing import Any

import click

from ..tasks import KINDS
from .options import Choice, Command, Group, Parameter, value_of
from .train import training_command

EXAMPLES = """
tinyllm finetune {kind} --task {task} --init runs/trained --data mine --out runs/mine
tinyllm finetune {kind} --task {task} --help           all that can be set
tinyllm train --resume runs/mine                       after Ctrl-C, or a crash
"""


class Tasks(Command):
    """`finetune KIND`: --task says which command it really is, with the options of that task."""

    def __init__(self, kind: str):
        self.kind, self.tasks = kind, KINDS[kind].tasks
        chosen = Parameter(["--task"], type=Choice(list(self.tasks)), required=True, help="The task to fine-tune for.")
        chosen.group = "Run"
        super().__init__(kind, params=[chosen], short_help=KINDS[kind].help)
        self.help = "\n\n".join([f"Fine-tune {KINDS[kind].help}", *(f"{n}: {task.help}" for n, task in self.tasks.items())])
        self.examples = EXAMPLES.format(kind=kind, task=next(iter(self.tasks)))

    def make_context(self, info_name: Any, args: list[str], parent: click.Context | None = None, **extra: Any) -> Any:
        task = value_of("--task", args)
        if task not in self.tasks:
            return super().make_context(info_name, args, parent, **extra)  # which shows the help, or what is wrong
        made = training_command(self.kind, task, EXAMPLES.format(kind=self.kind, task=task), args)
        made.params = [*(p for p in self.params if p.name == "task"), *made.params]
        return made.make_context(info_name, args, parent, **extra)


class Kinds(Command, Group):
    """A command for each kind of model that can be fine-tuned."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, kind in KINDS.items() if kind.tasks]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return Tasks(name) if name in self.list_commands(ctx) else None


@click.command(cls=Kinds, subcommand_metavar="KIND --task NAME [OPTIONS]")
def command() -> None:
    """Teach a trained model a task: `tinyllm finetune KIND --help` shows which there are.

    Without --init a fresh model of the preset's size begins from nothing.
    """
