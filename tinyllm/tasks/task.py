"""What a training is about: a task says which data a model learns from, and what becomes of the model for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..checkpoints import lora
from ..data import DATASETS
from ..data.names import near
from ..data.sources import TEXTS_OF
from ..models import Model
from ..tokenizers import Tokenizer, load
from ..training.config import TrainConfig
from ..training.data import Data


@dataclass(kw_only=True)
class Task:
    """What is learned. A task is a dataclass, whose fields become options of the command; their comments are the help."""

    # Data
    test_data: list[str] = field(default_factory=list)  # data to test on, named like --data: measured once, at the end
    test_fraction: float = 0.0  # fraction of the data held out for the test, if --test-data is not given; 0 is none

    help: ClassVar[str] = ""  # its line in --help
    model: ClassVar[str | None] = None  # its class in MODELS, where it is another than the kind's own: another head
    sets: ClassVar[tuple[str, ...]] = ()  # fields of the model's configuration that the data decide: no options
    fresh: ClassVar[tuple[str, ...]] = ()  # beginnings of the names of parameters that a trained model need not have
    values: ClassVar[dict[str, Any]] = {}  # of options, where they are others than the kind's
    documents: ClassVar[bool] = False  # whether its data are plain text, of which each row of a table is a document
    unit: ClassVar[str] = "token"  # what its loss is a mean over
    use: ClassVar[str] = "Let it write: tinyllm generate {out}"  # what to do with the trained model

    def __post_init__(self) -> None:
        self.test_data = [lasting(name) for name in listed(self.test_data)]
        if self.test_data and self.test_fraction:
            raise ValueError("test_data and test_fraction are both given: give one of them")
        if self.test_fraction and self.fractions[0] + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.fractions[0]} and test_fraction {self.test_fraction} leave nothing to learn from: "
                "their sum must be below 1"
            )

    @property
    def fractions(self) -> tuple[float, float]:
        """The parts of the data for validation and for the test."""
        return getattr(self, "val_fraction", 0.0), self.test_fraction

    def make_tokenizer(self) -> Tokenizer:
        """The tokenizer of a fresh model."""
        raise NotImplementedError

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """What the data say of a fresh model's configuration."""
        return {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}

    def head_fields(self) -> dict[str, Any]:
        """What the data say of the configuration of a model, fresh or trained: how many labels there are, and so on."""
        return {}

    def fitted(self, model: Any, tokenizer: Tokenizer) -> Any:
        """The model made ready to learn this, as it is before the first step."""
        return model

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        """The batches for this model, and how it is measured."""
        raise NotImplementedError


@dataclass
class Kind:
    """What `tinyllm train KIND` trains, and `tinyllm finetune KIND` teaches."""

    help: str
    model: str  # its class in MODELS
    task: type[Task]  # that it is trained in first
    presets: dict[str, dict[str, Any]]  # name -> values of options, for a fresh model; the first is the default
    finetune: dict[str, Any]  # values of options where a trained model goes on
    together: dict[str, tuple[str, ...]] = field(default_factory=dict)  # option -> the configuration's fields that it sets
    tasks: dict[str, type[Task]] = field(default_factory=dict)  # name -> what it can be fine-tuned for

    def task_named(self, name: str | None) -> type[Task]:
        if name is not None and name not in self.tasks:
            raise ValueError(f"there is no task {name!r} for this model: {near(name, self.tasks)}")
        return self.task if name is None else self.tasks[name]


@dataclass
class Adapters:
    """Fine-tune small matrices beside the model's own, not the model itself (LoRA, Hu et al. 2021; checkpoints/lora.py)."""

    values: ClassVar[dict[str, Any]] = {"lr": 2e-4}  # of options, where adapters are trained (by AdamW) and not the weights

    # LoRA
    lora_r: int = 0  # rank of the adapters that are trained in place of the model's weights; 0 trains these
    lora_alpha: float = 16.0  # what the adapters add is multiplied by this over the rank
    lora_dropout: float = 0.0  # of what comes into the adapters
    lora_targets: list[str] = field(default_factory=list)  # names of matrices, q_proj; all of the blocks if not given

    def __post_init__(self) -> None:
        if self.lora_r < 0 or not self.lora_alpha > 0:
            raise ValueError(
                f"lora_r must be at least 0 and lora_alpha above 0; they are {self.lora_r} and {self.lora_alpha}"
            )
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout is {self.lora_dropout}, and must be at least 0 and below 1")

    def add(self, model: Model, seed: int) -> None:
        """Gives the model its adapters, if there shall be some."""
        if self.lora_r:
            targets = self.lora_targets or lora.ALL_LINEAR
            lora.add(model, lora.LoRAConfig(self.lora_r, self.lora_alpha, False, self.lora_dropout, targets), seed)


def listed(names: Any) -> list[Any]:
    """What comes from Python without brackets, a single name or path, as a list too."""
    return [names] if isinstance(names, (str, Path)) else list(names)


def lasting(name: str | Path) -> str:
    """The name of data as a run keeps it: a path in full, since it may be resumed from another folder."""
    if not str(name):
        raise ValueError("data: a name is empty; give a file, a folder or the name of a data set")
    if str(name).startswith(TEXTS_OF):
        return TEXTS_OF + lasting(str(name).removeprefix(TEXTS_OF))
    is_name = isinstance(name, str) and (name.partition(":")[0] == "stdlib" or name in DATASETS)
    return str(name) if is_name or not Path(name).exists() else str(Path(name).resolve())


def learned_or_loaded(name: str, kind: str, learn: Callable[[int], Tokenizer], others: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer that an option names: "KIND:N" calls learn(N); else it is the one at a path.

    others: further names that the option has, for the message. ValueError where the name is none of these.
    """
    before, _, size = name.partition(":")
    if before == kind:
        if not size.isdecimal():
            raise ValueError(f"tokenizer {name!r}: how many tokens? {kind}:4096 has 4096")
        return learn(int(size))
    if not Path(name).exists():
        raise ValueError(f"tokenizer {name!r}: it is not {' or '.join((*others, kind + ':N'))}, and no such path exists")
    return load(name)
