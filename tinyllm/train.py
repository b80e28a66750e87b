"""Training from one call, as `tinyllm train` makes it: a kind of model with its presets (tasks.py), into a run (run.py).

    model, tokenizer = tinyllm.train("gpt", data="my.txt", preset="nano", out="runs/mine", steps=500)
    model, tokenizer = tinyllm.resume("runs/mine", steps=1000)

A model or data of one's own go straight to trainer.Trainer.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import Model
    from .tasks import Kind
    from .tokenizers import Tokenizer
    from .trainer import Trainer, Watcher

PARTS = ("train", "task", "model")  # of a run's configuration


def train(
    kind: str = "gpt",
    *,
    preset: str | None = None,
    init: str | Path | None = None,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> tuple[Model, Tokenizer | None]:
    """Trains a fresh model, or the one in the directory `init`, and gives it back with its tokenizer.

    options: the fields of trainer.TrainConfig, of the kind's task (tasks.TextTask) and of the model's configuration, over
    those of the preset. With `out` everything is kept in this directory, from which `resume` goes on; Ctrl-C saves there.
    watcher: who is told how it goes (trainer.Watcher); the terminal where none is given.
    Raises ValueError for what cannot be, FloatingPointError when the loss becomes NaN, KeyboardInterrupt after Ctrl-C.
    """
    from .run import Run, check_free

    config = plan(kind, preset, init, options)
    if out is not None:
        check_free(out)
    trainer = _prepared(config, None, watcher)
    if out is not None:  # only now: a mistake in the options leaves no directory
        trainer.run = Run.create(out, config)
    trainer.train()
    return trainer.model, trainer.data.tokenizer


def resume(out: str | Path, *, watcher: Watcher | None = None, **options: Any) -> tuple[Model, Tokenizer | None]:
    """Goes on with a run as if it had never been interrupted; `options` are fields of TrainConfig that shall change."""
    from .run import Run
    from .tasks import KINDS
    from .trainer import TrainConfig

    run = Run.open(out)
    config = run.config
    if config["kind"] is None:
        raise ValueError(f"{out} was trained from Python with data of its own: resume it there, by Trainer.resume()")
    if config["kind"] not in KINDS:
        raise ValueError(f"{out} trains {config['kind']!r}, which this tinyllm does not know: update it")
    if unknown := sorted(set(options) - {field.name for field in dataclasses.fields(TrainConfig)}):
        raise ValueError(f"resuming cannot change {', '.join(unknown)}: only fields of TrainConfig, such as steps and lr")
    config["train"] |= options
    saved = run.last()
    trainer = _prepared(config, saved, watcher)
    trainer.run = run
    run.write_config(config)
    trainer.resume()
    trainer.train()
    return trainer.model, trainer.data.tokenizer


def plan(kind: str, preset: str | None, init: str | Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run: what was asked for over what the preset says, sorted by whom it concerns."""
    from .tasks import KINDS

    if kind not in KINDS:
        raise ValueError(f"there is no kind of model {kind!r} to train: there are {', '.join(KINDS)}")
    about = KINDS[kind]
    if preset is not None and preset not in about.presets:
        raise ValueError(f"{kind} has no preset {preset!r}: there are {', '.join(about.presets)}")
    preset = preset or (None if init else next(iter(about.presets)))
    values = _spread(about, about.presets[preset] if preset else about.finetune)
    given = _spread(about, options)
    names = {part: {field.name for field in dataclasses.fields(cls)} for part, cls in classes_of(about).items()}
    known = set().union(*names.values())
    if unknown := sorted(set(given) - known):
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise ValueError(f"training {kind} has no option {unknown[0]!r}" + (f"; did you mean {close[0]}?" if close else ""))

    def chosen(part: str) -> dict[str, Any]:
        asked = given if init and part == "model" else values | given  # a trained model has its own sizes
        return {name: value for name, value in asked.items() if name in names[part]}

    config: dict[str, Any] = {"kind": kind, "preset": preset, "init": init and str(Path(init).resolve())}
    config |= {part: chosen(part) for part in PARTS}
    train_config, task = parts(config)
    return config | {"train": dataclasses.asdict(train_config), "task": dataclasses.asdict(task)}  # defaults may change


def classes_of(kind: Kind) -> dict[str, Any]:
    from .models import MODELS
    from .trainer import TrainConfig

    return {"train": TrainConfig, "task": kind.task, "model": MODELS[kind.model][1]}


def parts(config: dict[str, Any]) -> tuple[Any, Any]:
    """The training's and the task's configuration, checked, from run.json's."""
    from .tasks import KINDS

    classes = classes_of(KINDS[config["kind"]])
    return _typed(classes["train"], config["train"]), _typed(classes["task"], config["task"])


def _typed(cls: Any, values: dict[str, Any]) -> Any:
    """A dataclass from what JSON holds: tuples have become lists there."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: tuple(v) if typing.get_origin(hints[name]) is tuple else v for name, v in values.items()})


def _spread(kind: Kind, values: dict[str, Any]) -> dict[str, Any]:
    """Options that set several fields replaced by these, which may be set one by one beside."""
    spread = {name: value for together, value in values.items() for name in kind.together.get(together, ())}
    return spread | {name: value for name, value in values.items() if name not in kind.together}


def _prepared(config: dict[str, Any], saved: Path | None, watcher: Watcher | None) -> Trainer:
    """The trainer of a run, with a fresh model, or one to resume the checkpoint `saved` with."""
    from . import checkpoint
    from .progress import Terminal
    from .trainer import Trainer

    watcher = watcher or Terminal()
    train_config, task = parts(config)
    if saved:
        checkpoint.verify(saved)
        model, tokenizer = checkpoint.empty_model(saved), checkpoint.read_tokenizer(saved)
    else:
        model, tokenizer = _beginning(config, train_config, task, watcher)
    watcher.say("reading the data")
    return Trainer(model, task.open(model, tokenizer, train_config), train_config, watcher=watcher)


def _beginning(config: dict[str, Any], train_config: Any, task: Any, watcher: Watcher) -> tuple[Any, Any]:
    """The model before its first step, and its tokenizer."""
    from . import checkpoint
    from .models import MODELS
    from .tasks import KINDS

    model_class, config_class = MODELS[KINDS[config["kind"]].model]
    if not config["init"]:
        watcher.say("making the tokenizer")
        tokenizer = task.make_tokenizer()
        fields = {**task.model_fields(tokenizer), **config["model"]}
        return model_class(config_class(**fields), seed=train_config.seed), tokenizer
    trained, tokenizer = checkpoint.load(config["init"])
    if not isinstance(trained, model_class):
        raise ValueError(f"{config['init']} holds the model {type(trained).__name__}, and not {model_class.__name__}")
    model = model_class(dataclasses.replace(trained.config, **config["model"]), seed=train_config.seed)
    _copy_parameters(trained, model)
    return model, tokenizer or task.make_tokenizer()


def _copy_parameters(source: Model, target: Model) -> None:
    theirs = {p.name: p.data for p in source.parameters()}
    for p in target.parameters():
        if p.name not in theirs or theirs[p.name].shape != p.shape:
            raise ValueError(
                f"the trained model has no {p.name} of shape {p.shape}: leave its configuration's sizes as they are"
            )
        p.data = theirs[p.name]
