"""LoRA (Hu et al. 2021): fine-tuning that trains small matrices beside frozen ones.

    lora.add(model, LoRAConfig(r=8))     # from here on the adapters alone are trained
    lora.save("adapter", model)          # a few MB: adapter_config.json and adapter_model.safetensors, as PEFT has them
    lora.load("adapter", model)          # onto the same model without adapters
    lora.merge(model)                    # an ordinary model again, that computes the same

The matrices go by Hugging Face's names: q_proj is a part of our packed qkv, whose rows get an adapter of their own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..kernels.device import moved
from ..layers import Adapter, Layer, Linear, LoRA, QuantizedLinear
from ..layers.parameter import Flat, Parameter
from ..models import LanguageModel, Model
from ..models.config import Config
from .families import Named
from .files import CheckpointError, complete_directory, present, write_json
from .huggingface import family_of
from .peft_config import HEADS, SECONDS, PeftConfig, matches, read_peft_config, within
from .sizes import check_sizes
from .tensors import TensorFile, read_tensors, write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT wraps their model so
ALL_LINEAR = "all-linear"
TASKS = {  # a part of our class's name -> PEFT's task_type
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
    "QuestionAnswering": "QUESTION_ANS",
    "T5": "SEQ_2_SEQ_LM",
}


@dataclass
class LoRAConfig(Config):
    """Fields are named as in PEFT's LoraConfig."""

    r: int = 8  # rank
    lora_alpha: float = 16.0  # the adapters' product is multiplied by lora_alpha / r,
    use_rslora: bool = False  # or by lora_alpha / sqrt(r) (Kalajdzievski 2023)
    lora_dropout: float = 0.0  # of the adapters' input
    target_modules: list[str] | str = ALL_LINEAR  # names, or the ends of names; the blocks' linear maps where "all-linear"

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"r is {self.r}: the rank must be at least 1")
        super().__post_init__()

    @property
    def scale(self) -> float:
        return self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)

    def chooses(self, module: str) -> bool:
        """Whether a module of theirs, by its full name, gets an adapter. A string other than all-linear is a pattern."""
        if self.target_modules == ALL_LINEAR:
            return True
        return matches(self.target_modules, module)


class Place(NamedTuple):
    """A linear map: the layer that has it and as which attribute; its line in the table; each part's name and rows."""

    parent: Layer
    attribute: str
    linear: Linear | QuantizedLinear
    named: Named
    modules: list[str]
    rows: list[tuple[int, int]]


def places(model: Model) -> Iterator[Place]:
    """All linear maps of a model but those of its head: the one onto its vocabulary, or a classifier's."""
    family = family_of(model)
    for parent in list(model.layers()):
        for attribute, linear in list(vars(parent).items()):
            name = linear.w.name if isinstance(linear, (Linear, QuantizedLinear)) else ""
            if name.startswith(model.head_names):
                continue
            named = next((named for named in family.layers if named.names(name)), None)
            if named is not None:
                modules = [module.removesuffix(".weight") for module in named.names(name)]
                shares = [1] * len(modules) if named.shares is None else named.shares(model.config)
                ends = [int(end) for end in np.cumsum([0, *shares]) * (linear.w.shape[0] // sum(shares))]
                yield Place(parent, attribute, linear, named, modules, list(zip(ends, ends[1:])))


def add(model: Model, config: LoRAConfig | None = None, seed: int | None = 0) -> None:
    """Freezes the model and gives it adapters, which are trained from now on: `model.flat` holds them alone.

    But a classifier's head, which is fresh on its body, is trained with them, as a whole.
    They change nothing yet: one of each pair of matrices is zero. seed: of the other one (None: zeros, to be loaded).
    ValueError where the model has adapters already, or no module of the names that the configuration asks for.
    """
    config = config or LoRAConfig()
    if model.lora is not None:
        raise ValueError("the model has adapters already: merge them first")
    new: list[Parameter] = []
    for place in list(places(model)):
        rows = [part for part, module in zip(place.rows, place.modules) if config.chooses(module)]
        C = place.linear.w.shape[1]
        adapters = [Adapter(C, last - first, config.r, config.scale, config.lora_dropout) for first, last in rows]
        if adapters:
            setattr(place.parent, place.attribute, LoRA(place.linear, rows, adapters))
            new += [parameter for adapter in adapters for parameter in adapter.parameters()]
    if not new:
        known = sorted({module.rpartition(".")[2] for place in places(model) for module in place.modules})
        raise ValueError(f"no module is called {config.target_modules}; there are {', '.join(known)}")
    head = [(p, p.data.copy()) for p in head_parameters(model)]
    model.flat.freeze()
    model.base = model.flat
    model.lora, model.flat = config, Flat([*new, *(p for p, _ in head)], model.dtype)
    for p, data in head:
        p.data = data
    for name, parameter in model.named_parameters():
        parameter.name = parameter.name or name
    if seed is not None:
        random = np.random.default_rng(seed)
        for parameter in new:
            parameter.data = parameter.initial(random, parameter.shape)
    model.share_mode(model.mode)


def merge(model: Model) -> None:
    """Adds the adapters to the weights beside them: a model without adapters that computes the same, trained as a whole.

    ValueError where the weights are quantized: nothing finer can be added to them.
    """
    if model.bits is not None:
        raise ValueError(f"the model has {model.bits} bits: adapters are merged into a model that is not quantized")
    for parent in list(model.layers()):
        for attribute, layer in list(vars(parent).items()):
            if isinstance(layer, LoRA):
                layer.merge()
                setattr(parent, attribute, layer.linear)
    parameters = model.parameters()
    body = parameters[0].flat
    assert body is not None
    if any(p.flat is not body for p in parameters):  # the head's, which were placed beside the adapters
        values = [p.data for p in parameters]
        body = Flat(parameters, model.dtype)
        for p, value in zip(parameters, values):
            p.data = value
    body.freeze(False)
    model.lora, model.flat, model.base = None, body, None


def head_parameters(model: Model) -> list[Parameter]:
    """Those of a head that is fresh on its pretrained body: they are trained as a whole, and saved with the adapters."""
    return [p for p in model.parameters() if p.name.startswith(model.head_names)]


def head_names(model: Model) -> dict[str, Parameter]:
    """The head's parameters by Hugging Face's names."""
    layers = family_of(model).layers
    return {next(name for layer in layers for name in layer.names(p.name)): p for p in head_parameters(model)}


# PEFT's files ----------------------------------------------------------------------------------------------------------


def save(path: str | Path, model: Model, base: str | None = None) -> None:
    """Writes the adapters alone, to a directory that PEFT reads. base: the name or path of the model without adapters.

    Both files are swapped in together. Other files in the directory stay. PEFT's format has no checksums.
    """
    if model.lora is None:
        raise ValueError("the model has no adapters to save")
    tensors: dict[str, np.ndarray] = {}
    transposed = False
    for place, number, adapter in _adapters(model):
        transposed = transposed or place.named.transposed
        b = place.named.rows(adapter.b.data, number, model.config)
        tensors |= dict(zip(pair(place.modules[number]), (adapter.a.data, b)))
    tensors |= {PREFIX + name: p.data for name, p in head_names(model).items()}
    fields, implied = dataclasses.asdict(model.lora), HEADS.get(task_type(model) or "", ())
    if model.lora.target_modules == ALL_LINEAR:
        fields["target_modules"] = sorted({place.modules[n].rpartition(".")[2] for place, n, _ in _adapters(model)})
    with complete_directory(Path(path), {CONFIG, WEIGHTS}.__contains__, CONFIG, sums=False) as directory:
        write_tensors(directory / WEIGHTS, tensors, format="pt")
        write_json(
            directory / CONFIG,
            {
                "peft_type": "LORA",
                "task_type": task_type(model),
                "modules_to_save": sorted({within(name, implied) or name.rpartition(".")[0] for name in head_names(model)})
                or None,
                "base_model_name_or_path": base,
                "inference_mode": True,
                "bias": "none",
                "fan_in_fan_out": transposed,  # GPT-2's matrices
                **fields,
            },
        )


def task_type(model: Model) -> str | None:
    """What PEFT calls the use of a model."""
    name = type(model).__name__
    return next(
        (use for part, use in TASKS.items() if part in name), "CAUSAL_LM" if isinstance(model, LanguageModel) else None
    )


def load(path: str | Path, model: Model) -> None:
    """Gives the model the adapters in a directory that `save` or PEFT wrote. The model must have none.

    CheckpointError (a ValueError) where the files are damaged, belong to another model, or hold more than plain LoRA: the
    model is then as it was before.
    """
    path = present(Path(path))
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path} has no {CONFIG}: it holds no adapters")
    theirs, file = read_peft_config(path / CONFIG), TensorFile(path / WEIGHTS)
    modules = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in file.entries if ".lora_" in name}
    head = {PREFIX + name: p for name, p in head_names(model).items()}
    try:
        config = _config_for(theirs, model, modules)
        whole = _saved_whole(theirs, model, file)
    except TimeoutError:
        raise CheckpointError(f"{path / CONFIG} has a regular expression that takes longer than {SECONDS} s") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    for name, entry in file.entries.items():
        if name.endswith(".lora_A.weight") and entry.shape[:1] != (config.r,):
            raise CheckpointError(f"{path / WEIGHTS}: {name} has shape {entry.shape}, and r is {config.r} in {CONFIG}")
    check_sizes(path / CONFIG, {"r": config.r}, [file])
    into = {name: np.empty(p.shape, model.dtype) for name, p in head.items() if name in whole}
    shapes = _shapes(model)
    for module in modules:
        (F, C), names = shapes[module], pair(module)
        into |= dict(zip(names, (np.empty((config.r, C), model.dtype), np.empty((F, config.r), model.dtype))))
    read_tensors(path / WEIGHTS, into)
    add(model, config, seed=None)
    for name in whole:
        head[name].data = moved(into[name], model.device)
    for place, number, adapter in _adapters(model):
        a, b = (moved(into[name], model.device) for name in pair(place.modules[number]))
        order = place.named.rows(np.arange(len(b)), number, model.config)
        adapter.a.data, adapter.b.data[order] = a, b
    for module in modules:
        if (weight := head.get(f"{PREFIX}{module}.weight")) is not None:  # trained as a whole here: the adapter is merged
            a, b = (moved(into[name], model.device) for name in pair(module))
            weight.data = weight.data + model.dtype.type(config.scale) * (b @ a)


def _config_for(theirs: PeftConfig, model: Model, modules: set[str]) -> LoRAConfig:
    """Our configuration of the adapters in a file. ValueError if the model, or theirs, does not have one of them."""
    if foreign := sorted(modules - set(_shapes(model))):
        raise ValueError(f"{WEIGHTS} has an adapter of {foreign[0]}, which {type(model).__name__} does not have")
    if stray := sorted(module for module in modules if not theirs.chooses(module)):
        raise ValueError(f"{WEIGHTS} has an adapter of {stray[0]}, which {CONFIG} does not choose")
    known = {module for place in places(model) for module in place.modules}
    if not modules & known:
        raise ValueError(f"{WEIGHTS} has no adapters")
    targets = theirs.target_modules or sorted(modules & known)
    config = LoRAConfig(theirs.r, theirs.lora_alpha, theirs.use_rslora, theirs.lora_dropout, targets)
    if modules & known != {module for module in known if config.chooses(module)}:
        config = dataclasses.replace(config, target_modules=sorted(modules & known))
    return config


def _saved_whole(theirs: PeftConfig, model: Model, file: TensorFile) -> set[str]:
    """The head's tensors that the file holds. ValueError for another module of the model that it would replace."""
    listed, head = theirs.modules_to_save or [], head_names(model)
    for name in sorted(_module_names(model) - {name.rpartition(".")[0] for name in head}):
        if chosen := within(f"{name}.weight", listed):
            raise ValueError(
                f"{CONFIG} has {chosen!r} in modules_to_save: {name} would be replaced, which tinyllm does not do"
            )
    implied = HEADS.get(theirs.task_type or "", ())
    listed_or_there = (n for n in head if within(n, listed) or within(n, implied) and PREFIX + n in file.entries)
    return {PREFIX + name for name in listed_or_there}


def _module_names(model: Model) -> set[str]:
    """The model's layers with parameters, by their names."""
    ours = {re.sub(r"\.(w|b)(\..*)?$", "", name) for name in model.arrays()}  # a packed matrix is several arrays
    ours |= {"output"} if hasattr(model, "output") else set()  # it may be tied
    names = (name for named in family_of(model).layers for layer in ours for name in named.names(f"{layer}.w"))
    return {name.removesuffix(".weight") for name in names}


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape (F, C) of each module that may have an adapter in a file."""
    shapes: dict[str, tuple[int, ...]] = {
        name.removesuffix(".weight"): p.shape for name, p in head_names(model).items() if len(p.shape) == 2
    }
    for place in places(model):
        for (first, last), module in zip(place.rows, place.modules):
            shapes[module] = last - first, place.linear.w.shape[1]
    return shapes


def pair(module: str) -> tuple[str, str]:
    """The names of an adapter's two matrices, a and b, in PEFT's files."""
    return f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_B.weight"


def _adapters(model: Model) -> Iterator[tuple[Place, int, Adapter]]:
    """Each adapter, and the number of the part of a place that it belongs to."""
    for place in places(model):
        if isinstance(place.parent, LoRA):
            for rows, adapter in zip(place.parent.rows, place.parent.adapters):
                yield place, place.rows.index(rows), adapter
