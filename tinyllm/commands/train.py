"""`tinyllm train KIND` and `tinyllm train --resume RUN`."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..options import Command, Parameter, parameters
from ..plots import plot_loss
from ..run import Run
from ..tasks import KINDS, Kind
from ..train import classes_of, resume, train
from ..trainer import Interrupted, TrainConfig

EXAMPLES = """
tinyllm train {kind}                                  the standard library of Python, a small model
tinyllm train {kind} --data book.txt --out runs/book  a text of your own, or a folder of texts
tinyllm train {kind} --tokenizer bpe:2048 --steps 3000
tinyllm train {kind} --init runs/book --data more.txt go on from a trained model
tinyllm train --resume runs/book                      after Ctrl-C, or a crash
tinyllm train --resume runs/book --steps 5000         longer than planned
"""


class Kinds(Command, click.Group):
    """A command for each kind of model."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(KINDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _command(name, KINDS[name]) if name in KINDS else None


def _command(name: str, kind: Kind) -> Command:
    """`tinyllm train NAME`, whose options are the fields of three dataclasses."""
    classes, presets = classes_of(kind), list(kind.presets)
    defaults = kind.presets[presets[0]]
    spread = {field: defaults[option] for option, fields in kind.together.items() for field in fields if option in defaults}
    shown = {**spread, **defaults}
    made = Command(name, callback=_train_callback(name), short_help=kind.help, help=f"Train {kind.help}")
    made.examples = EXAMPLES.format(kind=name)
    made.params += [
        _option("--preset", f"Where options that are not given come from. [{presets[0]}]", type=click.Choice(presets)),
        _option("--init", "Go on from the trained model in this directory.", type=click.Path(path_type=Path)),
        _option("--out", f"Directory of the run. [runs/{name}-1, -2, ...]", type=click.Path(path_type=Path)),
    ]
    made.params += parameters(classes["task"], defaults=shown)
    made.params += parameters(classes["train"], defaults=shown)
    made.params += [
        _option(f"--{option}", f"All of {', '.join(fields)}. [{defaults.get(option)}]", "Model", type=float)
        for option, fields in kind.together.items()
    ]
    made.params += parameters(classes["model"], skip=kind.task.sets, group="Model", defaults=shown)
    return made


def _option(flag: str, help: str, group: str = "Run", **options: Any) -> Parameter:
    made = Parameter([flag], help=help, default=None, **options)
    made.group = group
    return made


def _train_callback(kind: str) -> Callable[..., None]:
    def call(out: Path | None, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value not in (None, ())}
        out = out or next(path for i in itertools.count(1) if not (path := Path("runs", f"{kind}-{i}")).exists())
        _watched(out, lambda watcher: train(kind, out=out, watcher=watcher, **given))

    return call


def _watched(out: Path, train_it: Callable[[Any], Any]) -> None:
    """Runs a training on the terminal, and says at its end, whatever that is, what there is and how to go on."""
    from ..progress import Terminal

    watcher = Terminal()
    try:
        train_it(watcher)
    except Interrupted:
        watcher.say(f"Interrupted, and saved. Go on with: tinyllm train --resume {out}")
        _plot(out, watcher)
        sys.exit(130)
    _plot(out, watcher)
    evaluations = [record for record in Run.open(out).metrics if "val_loss" in record]
    if sample := evaluations[-1].get("sample"):
        watcher.console.rule("a sample")
        watcher.console.print(sample, markup=False, soft_wrap=True)
        watcher.console.rule()
    best = min(evaluations, key=lambda record: record["val_loss"])
    watcher.console.print(
        f"The best model, of step {best['step']:,} with a held-out loss of {best['val_loss']:.4f}, is in {out}.\n"
        f"Let it write: tinyllm generate {out}",
        soft_wrap=True,
    )


def _plot(out: Path, watcher: Any) -> None:
    try:
        plot_loss(out / "loss.png", Run.open(out).metrics, title=out.name)
        watcher.say(f"The curve of the loss: {out / 'loss.png'}")
    except ModuleNotFoundError as error:
        watcher.say(f"No {out / 'loss.png'}: {error}")


@click.command(cls=Kinds, invoke_without_command=True, subcommand_metavar="[KIND [OPTIONS]]")
@click.option("--resume", "run", type=click.Path(path_type=Path), help="Go on with the run in this directory.")
@click.pass_context
def command(ctx: click.Context, run: Path | None, **options: Any) -> None:
    """Train a model on text: `tinyllm train KIND --help` shows what can be set.

    With --resume a run goes on as if it had never been interrupted; options below given with it change the run.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if ctx.invoked_subcommand is not None:
        if run is not None or given:
            raise click.UsageError(
                f"options of a new run come after its kind: tinyllm train {ctx.invoked_subcommand} --...", ctx
            )
    elif run is None:
        click.echo(ctx.get_help())
    else:
        _watched(run, lambda watcher: resume(run, watcher=watcher, **given))


command.params += parameters(
    TrainConfig, skip=["seed"], defaults={field.name: None for field in dataclasses.fields(TrainConfig)}
)
