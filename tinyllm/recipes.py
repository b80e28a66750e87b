"""Training from one call, as `tinyllm train` and `tinyllm finetune` do it. A kind of model with its tasks and presets
(tasks/) becomes a run (training/run.py).

    model, tokenizer = tinyllm.train("gpt", data="my.txt", preset="nano", out="runs/mine", steps=500)
    model, tokenizer = tinyllm.resume("runs/mine", steps=1000)
    model, tokenizer = tinyllm.finetune("gpt", "chat", init="runs/mine", data="dialogues.jsonl")
    trained = tinyllm.finetune("bert", "classification", data=frame)  # a pandas DataFrame
    trained.metrics["accuracy"], trained.test, trained.history, trained.path

To train a model or data of your own, call training.Trainer directly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .checkpoints import files, lora, native
from .checkpoints.files import CheckpointError
from .checkpoints.loading import load
from .checkpoints.runs import RUN
from .checkpoints.validation import checked
from .data.in_memory import stored
from .data.names import near
from .files import atomic_file
from .models import MODELS, Model
from .models.classification import with_labels
from .tasks import KINDS, Adapters, Kind, Task
from .tokenizers import Tokenizer
from .training.config import TrainConfig
from .training.final import Tested, tested_once
from .training.run import Run, check_free
from .training.trainer import Interrupted, Trainer, Watcher


class Trained(tuple[Model, Tokenizer | None]):
    """What a training returns: the pair (model, tokenizer), and how it went.

    metrics: the measures of the best evaluation on held-out data, such as {"loss": 0.3, "accuracy": 0.9}.
    test: the measures of the best model on the test part, or None without test_data and test_fraction.
    best_step: the step of that evaluation.
    history: a record (dict) for each step and each evaluation, as metrics.jsonl holds them.
    path: the directory of the run, or None.
    """

    metrics: dict[str, float]
    test: dict[str, float] | None
    best_step: int | None
    history: list[dict[str, Any]]
    path: Path | None

    @classmethod
    def of(cls, trainer: Trainer, tested: Tested | None = None) -> Trained:
        made = cls((trainer.model, trainer.data.tokenizer))
        made.test = tested.values if tested else None
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

# option of a task or a model -> its least value, and the value that it must be below
RANGES: dict[str, tuple[float, float]] = {
    "length": (1, math.inf), "max_source": (1, math.inf), "max_target": (1, math.inf), "beams": (1, math.inf),
    "sample_tokens": (0, math.inf), "eval_texts": (0, math.inf), "max_reply": (1, math.inf), "label_smoothing": (0, 1),
    "hidden_words": (0, 1), "val_fraction": (0, 1), "test_fraction": (0, 1),
}  # fmt: skip


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
        watcher = watcher or _shown()
        watcher.say(_explained(config, preset, options))
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
    fields = [field.name for field in dataclasses.fields(TrainConfig)]
    if unknown := sorted(set(options) - set(fields)):
        raise ValueError(
            f"resuming cannot change {', '.join(unknown)}, only the fields of TrainConfig: {near(unknown[0], fields)}"
        )
    if "steps" in options:
        config["train"]["epochs"] = 0.0  # these are the steps
    try:
        parts(config)  # checked before anything is changed
    except ValueError as error:
        raise CheckpointError(f"{run.path / RUN}: {error}; the file is damaged, or of another version of tinyllm") from None
    config["train"] |= options
    saved = run.last()
    trainer = _prepared(config, saved, watcher or _shown())
    trainer.run = run
    try:
        if config != run.config:
            run.write_config(config)
        trainer.resume()
    except OSError as error:  # a full disk
        raise run.stopped(trainer.step, error) from error
    if trainer.done and trainer.evaluated:
        trainer.watcher.say(_complete(trainer))
    return _trained(trainer)


def _complete(trainer: Trainer) -> str:
    """What to say of a run that has nothing left to do."""
    c = trainer.config
    if trainer.step < c.steps:
        return (
            f"The run has ended before: patience {c.patience} is at its end. To train on: "
            f"tinyllm train --resume {trainer.run and trainer.run.path} --patience 0"
        )
    return (
        f"The run is complete: all of its {c.steps:,} steps are done. To train on: "
        f"tinyllm train --resume {trainer.run and trainer.run.path} --steps {2 * c.steps}"
    )


def _trained(trainer: Trainer) -> Trained:
    """Trains, lets the task report of the best model, and measures it on the test part. The model gets its averaged
    weights."""
    tested = None
    with trainer.run.alone() if trainer.run else nullcontext():
        trainer.train()
        if trainer.learned_nothing:
            trainer.watcher.say(
                f"No evaluation was better than the one before the first step ({trainer.data.best} "
                f"{abs(trainer.start or 0.0):.4f}): the model has learned nothing that this measure shows. Train longer, or "
                "with another lr."
            )
        try:
            if trainer.run and trainer.data.report:
                best, _ = load(trainer.run.path, trainer.config.device)
                trainer.data.report(best, trainer.run.path)
            if trainer.data.test:
                tested = tested_once(trainer)
                trainer.watcher.tested(tested)
        except OSError as error:
            if trainer.run is None:
                raise
            raise trainer.run.stopped(trainer.step, error) from error
        except KeyboardInterrupt:  # all steps are saved: resuming the run comes back here
            raise Interrupted from None
    trainer.average.apply()
    return Trained.of(trainer, tested)


def plan(
    kind: str, task: str | None, preset: str | None, init: str | Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    """The configuration of a run: what was asked for over what the preset says, sorted by whom it concerns."""
    if kind not in KINDS:
        raise ValueError(f"there is no kind of model {kind!r} to train: {near(kind, KINDS)}")
    about = KINDS[kind]
    task_class = about.task_named(task)
    if preset is not None and preset not in about.presets:
        raise ValueError(f"{kind} has no preset {preset!r}: {near(preset, about.presets)}")
    _check_ranges(options)  # by the names that the caller gave
    given = _spread(about, options)
    if "steps" in given:
        given = {"epochs": 0.0, **given}  # these are the steps
    classes = classes_of(about, task_class)
    names = {part: {field.name for field in dataclasses.fields(cls)} for part, cls in classes.items()}
    known = set().union(*names.values(), about.together)
    if unknown := sorted(set(given) - known):
        raise ValueError(f"training {kind} has no option {unknown[0]!r}: {near(unknown[0], known)}")
    values = defaults(about, task_class, preset, bool(init), bool(given.get("lora_r")))

    def chosen(part: str) -> dict[str, Any]:
        asked = given if init and part == "model" else values | given  # a trained model has its own sizes
        return {name: value for name, value in asked.items() if name in names[part]}

    preset = preset or (None if init else next(iter(about.presets)))
    config: dict[str, Any] = {"kind": kind, "task_name": task, "preset": preset, "init": init and str(Path(init).resolve())}
    config |= {part: chosen(part) for part in PARTS}
    if config["lora"].get("lora_r") and not init:
        raise ValueError("LoRA adapts a trained model: name its directory by init")
    config["model"] = checked(classes["model"], config["model"])
    config |= {part: dataclasses.asdict(made) for part, made in parts(config).items()}  # defaults may change
    _check_ranges(config["task"] | config["model"])
    return config


def _check_ranges(values: dict[str, Any]) -> None:
    """ValueError for an option that is too small or too large, before anything is read."""
    for name, value in values.items():
        limits = (0, 1) if "drop" in name else RANGES.get(name)
        if limits and isinstance(value, (int, float)) and not limits[0] <= value < limits[1]:
            above = f" and below {limits[1]}" if limits[1] == 1 else ""
            raise ValueError(f"{name} is {value}, and must be at least {limits[0]}{above}")


def defaults(
    kind: Kind, task: type[Task], preset: str | None = None, init: bool = False, adapters: bool = False
) -> dict[str, Any]:
    """The values of the options that are not given, by name: those of --help, and those that a run uses.

    preset: the first of the kind's if not given, unless a trained model goes on (init). adapters: whether they are trained.
    Options that neither the preset nor the task sets have the defaults of their dataclasses. Fields of the model's
    configuration do not matter with `init`: a trained model has its own.
    """
    chosen = kind.presets[preset or next(iter(kind.presets))] if preset or not init else kind.finetune
    values = chosen | task.values
    if adapters and values.get("optimizer", "adamw") == "adamw":
        values |= Adapters.values
    return _spread(kind, values)


def classes_of(kind: Kind, task: type[Task]) -> dict[str, Any]:
    return {"train": TrainConfig, "task": task, "model": MODELS[task.model or kind.model][1], "lora": Adapters}


def parts(config: dict[str, Any]) -> dict[str, Any]:
    """The configurations of the training, the task and the adapters, checked, from run.json's."""
    kind = KINDS[config["kind"]]
    classes = classes_of(kind, kind.task_named(config.get("task_name")))
    return {part: _typed(classes[part], config.get(part, {})) for part in PARTS if part != "model"}


def _typed(cls: Any, values: dict[str, Any]) -> Any:
    """A dataclass from its fields' values, which are compared with their types; data may be objects, which a task knows."""
    objects = {name: value for name, value in values.items() if name in ("data", "val_data", "test_data")}
    return cls(**checked(cls, {name: value for name, value in values.items() if name not in objects}), **objects)


def _spread(kind: Kind, values: dict[str, Any]) -> dict[str, Any]:
    """Options that set several fields replaced by these, which may be set one by one beside."""
    spread = {name: value for together, value in values.items() for name in kind.together.get(together, ())}
    return spread | {name: value for name, value in values.items() if name not in kind.together}


def _shown() -> Watcher:
    """The watcher that shows a training where it runs: on the terminal, or in a notebook."""
    from .training.notebook import Notebook, in_notebook  # here, because rich takes a tenth of a second
    from .training.progress import Terminal

    return Notebook() if in_notebook() else Terminal()


def _explained(config: dict[str, Any], preset: str | None, given: dict[str, Any]) -> str:
    """What was chosen for a new run, and why."""
    task, init, train = config["task_name"], config["init"], config["train"]
    if init:
        values = f"the preset {preset}, as asked for" if preset else "those for fine-tuning"
        source = f"{values}. The model goes on from {init} and keeps its sizes"
    else:
        why = "as asked for" if preset else "because neither preset nor init is given"
        source = f"the preset {config['preset']}, {why}. The model begins from nothing"
    rank = f", LoRA of rank {config['lora']['lora_r']}" if config["lora"]["lora_r"] else ""
    chosen = f"lr {train['lr']:g}, batch_size {train['batch_size']} x accumulate {train['accumulate']}{rank}"
    asked = ", ".join(f"{name} {_short(value)}" for name, value in given.items())
    return f"{config['kind']}{f', task {task}' if task else ''}. Settings: {source}. {chosen}." + (
        f" Given: {asked}." if asked else ""
    )


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, Mapping) for item in value):
            return f"({len(value):,} rows)"
        more = f" and {len(value) - 5:,} more" if len(value) > 5 else ""
        return " ".join(map(_short, value[:5])) + more
    if not isinstance(value, (str, Path, int, float)):
        return f"({type(value).__name__})"  # a table, say
    text = str(value) if str(value).isprintable() else repr(value)
    return text if len(text) <= 40 else f"...{text[-37:]}"


def _prepared(config: dict[str, Any], saved: Path | None, watcher: Watcher) -> Trainer:
    """The trainer of a run, with a fresh model, or one to resume the checkpoint `saved` with."""
    made = parts(config)
    watcher.say("reading the data")
    train_config, task = made["train"], made["task"]
    if saved:
        files.verify(saved)
        model, tokenizer = native.empty_model(saved), native.read_tokenizer(saved)
    else:
        model, tokenizer = _beginning(config, train_config, task, watcher)
        made["lora"].add(model, train_config.seed)
    model.to(train_config.device)
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
                f"the trained model has no {p.name} of {' x '.join(map(str, p.shape))} numbers: its sizes and its "
                "vocabulary cannot be changed, so leave out the options that change them"
            )
