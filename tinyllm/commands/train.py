"""`tinyllm train KIND` and `tinyllm train --resume RUN`."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..checkpoints.runs import best_step
from ..files import atomic_file
from ..recipes import classes_of, defaults, resume, train
from ..tasks import KINDS, Kind, Task
from ..training.config import TrainConfig
from ..training.plots import plot_loss
from ..training.run import Run
from ..training.trainer import Interrupted
from .options import PATH, Alternatives, Choice, Command, Group, Parameter, bracketed, parameters, value_of

EXAMPLES = """
tinyllm train {kind}                                  the standard library of Python, a small model
tinyllm train {kind} --data book.txt --out runs/book  a text of your own, or a folder of texts
tinyllm train {kind} --tokenizer bpe:2048 --steps 3000
tinyllm train {kind} --init runs/book --data more.txt go on from a trained model
tinyllm train --resume runs/book                      after Ctrl-C, or a crash
tinyllm train --resume runs/book --steps 5000         longer than planned
"""


class Kinds(Command, Group):
    """A command for each kind of model."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(KINDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return training_command(name, None, EXAMPLES.format(kind=name)) if name in KINDS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name, made, rest = super().resolve_command(ctx, args)
        if made is None:  # while the shell completes a word
            return name, made, rest
        return name, training_command(name, None, EXAMPLES.format(kind=name), rest), rest


def training_command(name: str, task: str | None, examples: str, args: Sequence[str] = ()) -> Command:
    """The command that trains this kind of model in a task, whose options are the fields of dataclasses.

    args: those that it will be called with. Its --help shows the defaults of their --preset, or of --init.
    """
    kind = KINDS[name]
    task_class = kind.task_named(task)
    classes, presets = classes_of(kind, task_class), list(kind.presets)
    preset = value_of("--preset", list(args))
    shown = _defaults_shown(
        kind, task_class, preset if preset in presets else None, value_of("--init", list(args)) is not None
    )
    run = f"{name}-{task}" if task else name
    what = f"{kind.help}\n\n{task_class.help}" if task else kind.help
    made = Command(name, callback=_train_callback(name, task, run), short_help=kind.help, help=f"Train {what}")
    made.examples = examples
    made.params += [
        _option(
            "--preset", f"Source of the options that are not given. [{presets[0]}, without --init]", type=Choice(presets)
        ),
        _option("--init", "Directory of a trained model to go on from.", type=PATH),
        _option("--out", f"Directory of the run. [runs/{run}-1, -2, ...]", type=PATH),
    ]
    made.params += parameters(classes["task"], defaults=shown)
    made.params += parameters(classes["train"], defaults=shown)
    made.params += parameters(classes["lora"], defaults=shown)
    made.params += [
        _option(f"--{option}", f"All of {', '.join(fields)}. {bracketed(shown[option])}", "Model", type=float)
        for option, fields in kind.together.items()
    ]
    made.params += parameters(classes["model"], skip=task_class.sets, group="Model", defaults=shown)
    return made


def _defaults_shown(kind: Kind, task: type[Task], preset: str | None, init: bool) -> dict[str, Any]:
    """What --help shows as the default of each option: what a run uses, from nothing, with --init, and with --lora-r."""
    cases = [("", defaults(kind, task, preset, init))]
    if not init:
        cases.append(("with --init", defaults(kind, task, preset, init=True)))
    cases.append(("with --lora-r", defaults(kind, task, preset, init=True, adapters=True)))
    shown: dict[str, Any] = {}
    for part, cls in classes_of(kind, task).items():
        for field in dataclasses.fields(cls):
            own = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            values = [(case, options.get(field.name, own)) for case, options in cases]
            if part == "model":
                values = [(case, value if not init and not case else "the model's own") for case, value in values]
            distinct = [one for i, one in enumerate(values) if i == 0 or one[1] != values[i - 1][1]]
            shown[field.name] = Alternatives(distinct)
    return shown | {option: shown[fields[0]] for option, fields in kind.together.items()}


def _option(flag: str, help: str, group: str = "Run", **options: Any) -> Parameter:
    made = Parameter([flag], help=help, default=None, **options)
    made.group = group
    return made


def _train_callback(kind: str, task: str | None, run: str) -> Callable[..., None]:
    def call(out: Path | None, task: str | None = task, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value not in (None, ())}
        out = out or next(path for i in itertools.count(1) if not (path := Path("runs", f"{run}-{i}")).exists())
        _watched(out, lambda watcher: train(kind, task, out=out, watcher=watcher, **given))

    return call


def _watched(out: Path, train_it: Callable[[Any], Any]) -> None:
    """Runs a training on the terminal, and says at its end, whatever that is, what there is and how to go on."""
    from ..training.progress import Terminal  # here, because rich takes a tenth of a second, which --help need not wait for

    watcher = Terminal()
    try:
        train_it(watcher)
    except Interrupted:
        watcher.say(f"Interrupted, and saved. Go on with: tinyllm train --resume {out}")
        _plot(out, watcher)
        sys.exit(130)
    _plot(out, watcher)
    run = Run.open(out)
    evaluations = [record for record in run.metrics if "val_loss" in record]
    if evaluations and (sample := evaluations[-1].get("sample")):
        watcher.console.rule("samples")
        watcher.console.print(sample, markup=False, soft_wrap=True)
        watcher.console.rule()
    step = best_step(out)
    measures = {record["step"]: record for record in evaluations}.get(step, {})  # none where the log is lost
    measured = ", ".join(f"{name.removeprefix('val_')} {measures[name]:.4f}" for name in measures if name.startswith("val_"))
    watcher.console.print(
        f"The best model, of step {step:,} (on held-out data: {measured or 'the log has lost it'}), is in {out}.\n"
        + _task_of(run).use.format(out=out),
        soft_wrap=True,
        markup=False,
    )


def _task_of(run: Run) -> type[Task]:
    return KINDS[run.config["kind"]].task_named(run.config["task_name"])


def _plot(out: Path, watcher: Any) -> None:
    run = Run.open(out)
    best = run.config["task"].get("measure") or getattr(_task_of(run), "best", "loss")
    try:
        with atomic_file(out / "loss.png") as file:
            plot_loss(file, run.metrics, title=out.name, best=best, unit=_task_of(run).unit)
        watcher.say(f"The curve of the loss: {out / 'loss.png'}")
    except (ModuleNotFoundError, OSError) as error:
        watcher.say(f"No {out / 'loss.png'}: {error}")


@click.command(cls=Kinds, invoke_without_command=True, subcommand_metavar="[KIND [OPTIONS]]")
@click.option("--resume", "run", type=PATH, help="Go on with the run in this directory.")
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
