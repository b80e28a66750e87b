"""Training from one call, as `tinyllm train` and `tinyllm finetune` do it. A kind of model with its tasks and presets
(tasks/) becomes a run (training/run.py).

    model, tokenizer = tinyllm.train("gpt", data="my.txt", preset="nano", out="runs/mine", steps=500)
    model, tokenizer = tinyllm.resume("runs/mine", steps=1000)
    model, tokenizer = tinyllm.finetune("gpt", "chat", init="runs/mine", data="dialogues.jsonl")
    trained = tinyllm.finetune("bert", "classification", data=frame)  # a pandas DataFrame
    trained.metrics["accuracy"], trained.history, trained.path

To train a model or data of your own, call training.Trainer directly.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .checkpoints import files, lora, native
from .checkpoints.loading import load
from .data.in_memory import stored
from .files import atomic_file
from .models import MODELS, Model
from .models.classification import with_labels
from .tasks import KINDS, Adapters, Kind, Task
from .tokenizers import Tokenizer
from .training.config import TrainConfig
from .training.run import Run, check_free
from .training.trainer import Trainer, Watcher


class Trained(tuple[Model, Tokenizer | None]):
    """What a training returns: the pair (model, tokenizer), and how it went.

    metrics: the measures of the best evaluation on held-out data, such as {"loss": 0.3, "accuracy": 0.9}.
    best_step: the step of that evaluation.
    history: a record (dict) for each step and each evaluation, as metrics.jsonl holds them.
    path: the directory of the run, or None.
    """

    metrics: dict[str, float]
    best_step: int | None
    history: list[dict[str, Any]]
    path: Path | None

    @classmethod
    def of(cls, trainer: Trainer) -> Trained:
        made = cls((trainer.model, trainer.data.tokenizer))
        made.history, made.best_step = trainer.metrics, trainer.best_step
        made.path = trainer.run.path if trainer.run else None
        evaluated = [record for record in made.history if "val_loss" in record and record["step"] == made.best_step]
        best = evaluated[-1] if evaluated else {}
        made.metrics = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
        return made

    @property
    def model(self) -> Model:
        return self[0]

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self[1]


PARTS = ("train", "task", "model", "lora")  # of a run's configuration


def train(
    kind: str = "gpt",
    task: str | None = None,
    *,
    preset: str | None = None,
    init: str | Path | None = None,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> Trained:
    """Train a fresh model, or the one in the directory `init`, and return it with its tokenizer.

    `model, tokenizer = train(...)`; what is returned also has the metrics, the history and the path (Trained).
    data: the name of a file, a folder or a data set; a pandas DataFrame, a list of dicts or a Hugging Face Dataset; or a
    list of several. With `out` a table is kept in the run's directory, in the folder data.
    task: the task to fine-tune for, one of the kind's. Without it the model is trained in its kind's first task (text, for
    GPT).
    options: fields of training.TrainConfig, of the task (tasks/) and of the model's configuration, and with `init` also of
    tasks.Adapters. They override the values of the preset.
    out: the directory for the run's files. `resume` goes on from there, and Ctrl-C saves there. None keeps nothing.
    watcher: an object that is notified of progress (training.Watcher). The default shows it on the terminal.
    Raises ValueError for impossible options, FloatingPointError if the loss becomes NaN, KeyboardInterrupt after Ctrl-C.
    """
    documents = kind in KINDS and KINDS[kind].task_named(task).documents
    with stored(options, documents) as (named, folder):
        config = plan(kind, task, preset, init, named)
        if out is not None:
            check_free(out)
        trainer = _prepared(config, None, watcher)
        if out is not None:  # only now: a mistake in the options leaves no directory
            trainer.run = _created(Path(out), config, folder)
    return _trained(trainer)


def finetune(kind: str, task: str, **options: Any) -> Trained:
    """Teach a model a task: `train` with the task named. See there for the arguments."""
    return train(kind, task, **options)


def _created(out: Path, config: dict[str, Any], folder: Path) -> Run:
    """The run's directory, with the tables that Python gave."""
    kept = (out / "data").resolve()

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(item) for item in value]
        return value.replace(str(folder), str(kept)) if isinstance(value, str) else value

    run = Run.create(out, config | {"task": {name: moved(value) for name, value in config["task"].items()}})
    for path in folder.iterdir():
        with atomic_file(kept / path.name) as file:
            file.write(path.read_bytes())
    return run


def resume(out: str | Path, *, watcher: Watcher | None = None, **options: Any) -> Trained:
    """Go on with a run as if it had never been interrupted. `options` are fields of TrainConfig to override."""
    run = Run.open(out)
    with run.alone():
        return _resumed(run, watcher, options)


def _resumed(run: Run, watcher: Watcher | None, options: dict[str, Any]) -> Trained:
    out, config = run.path, run.config
    if config["kind"] is None:
        raise ValueError(f"{out} was trained from Python with data of its own: resume it there, by Trainer.resume()")
    if config["kind"] not in KINDS:
        raise ValueError(f"{out} trains {config['kind']!r}, which this tinyllm does not know: update it")
    if unknown := sorted(set(options) - {field.name for field in dataclasses.fields(TrainConfig)}):
        raise ValueError(f"resuming cannot change {', '.join(unknown)}: only fields of TrainConfig, such as steps and lr")
    if "steps" in options:
        config["train"]["epochs"] = 0.0  # these are the steps
    config["train"] |= options
    saved = run.last()
    trainer = _prepared(config, saved, watcher)
    trainer.run = run
    run.write_config(config)
    trainer.resume()
    return _trained(trainer)


def _trained(trainer: Trainer) -> Trained:
    """Trains, and lets the task report of the best model."""
    with trainer.run.alone() if trainer.run else nullcontext():
        trainer.train()
        if trainer.run and trainer.data.report:
            best, _ = load(trainer.run.path, trainer.config.device)
            trainer.data.report(best, trainer.run.path)
    return Trained.of(trainer)


def plan(
    kind: str, task: str | None, preset: str | None, init: str | Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    """The configuration of a run: what was asked for over what the preset says, sorted by whom it concerns."""
    if kind not in KINDS:
        raise ValueError(f"there is no kind of model {kind!r} to train: there are {', '.join(KINDS)}")
    about = KINDS[kind]
    task_class = about.task_named(task)
    if preset is not None and preset not in about.presets:
        raise ValueError(f"{kind} has no preset {preset!r}: there are {', '.join(about.presets)}")
    preset = preset or (None if init else next(iter(about.presets)))
    values = _spread(about, (about.presets[preset] if preset else about.finetune) | task_class.values)
    given = _spread(about, options)
    if "steps" in given:
        given = {"epochs": 0.0, **given}  # these are the steps
    names = {part: {field.name for field in dataclasses.fields(cls)} for part, cls in classes_of(about, task_class).items()}
    known = set().union(*names.values())
    if unknown := sorted(set(given) - known):
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise ValueError(f"training {kind} has no option {unknown[0]!r}" + (f"; did you mean {close[0]}?" if close else ""))

    def chosen(part: str) -> dict[str, Any]:
        asked = given if init and part == "model" else values | given  # a trained model has its own sizes
        return {name: value for name, value in asked.items() if name in names[part]}

    config: dict[str, Any] = {"kind": kind, "task_name": task, "preset": preset, "init": init and str(Path(init).resolve())}
    config |= {part: chosen(part) for part in PARTS}
    if config["lora"].get("lora_r") and not init:
        raise ValueError("LoRA adapts a trained model: name its directory by init")
    return config | {part: dataclasses.asdict(made) for part, made in parts(config).items()}  # defaults may change


def classes_of(kind: Kind, task: type[Task]) -> dict[str, Any]:
    return {"train": TrainConfig, "task": task, "model": MODELS[task.model or kind.model][1], "lora": Adapters}


def parts(config: dict[str, Any]) -> dict[str, Any]:
    """The configurations of the training, the task and the adapters, checked, from run.json's."""
    kind = KINDS[config["kind"]]
    classes = classes_of(kind, kind.task_named(config.get("task_name")))
    return {part: _typed(classes[part], config.get(part, {})) for part in PARTS if part != "model"}


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
    if watcher is None:
        from .training.progress import Terminal  # here, because rich takes a tenth of a second that only a training needs

        watcher = Terminal()
    made = parts(config)
    train_config, task = made["train"], made["task"]
    if saved:
        files.verify(saved)
        model, tokenizer = native.empty_model(saved), native.read_tokenizer(saved)
    else:
        model, tokenizer = _beginning(config, train_config, task, watcher)
        made["lora"].add(model, train_config.seed)
    model.to(train_config.device)
    watcher.say("reading the data")
    data = task.open(model, tokenizer, train_config)
    if data.notes:
        watcher.say(data.notes)
    return Trainer(model, data, train_config, watcher=watcher)


def _beginning(config: dict[str, Any], train_config: Any, task: Any, watcher: Watcher) -> tuple[Any, Any]:
    """The model before its first step, and its tokenizer."""
    model_class, config_class = MODELS[task.model or KINDS[config["kind"]].model]
    if not config["init"]:
        watcher.say("making the tokenizer")
        tokenizer = task.make_tokenizer()
        fields = {**task.model_fields(tokenizer), **task.head_fields(), **config["model"]}
        return task.fitted(model_class(config_class(**fields), seed=train_config.seed), tokenizer), tokenizer
    trained, tokenizer = load(config["init"])
    if not isinstance(trained.config, config_class):
        raise ValueError(f"{config['init']} holds the model {type(trained).__name__}, and not {model_class.__name__}")
    if trained.lora is not None:
        lora.merge(trained)
    fields = {**task.head_fields(), **config["model"]}
    fields = with_labels(trained.config, fields)
    model = model_class(dataclasses.replace(trained.config, **fields), seed=train_config.seed)
    _copy_parameters(trained, model, task.fresh)
    tokenizer = tokenizer or task.make_tokenizer()
    return task.fitted(model, tokenizer), tokenizer


def _copy_parameters(source: Model, target: Model, fresh: tuple[str, ...]) -> None:
    """What the trained model has; parameters whose names begin with one of `fresh` may begin fresh."""
    theirs = {p.name: p.data for p in source.parameters()}
    for p in target.parameters():
        if p.name in theirs and theirs[p.name].shape == p.shape:
            p.data = theirs[p.name]
        elif not p.name.startswith(fresh):
            raise ValueError(
                f"the trained model has no {p.name} of shape {p.shape}: leave its configuration's sizes as they are"
            )
