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

from ..layers import Adapter, Layer, Linear, LoRA, QuantizedLinear
from ..layers.parameter import Flat, Parameter
from ..models import LanguageModel, Model
from ..models.config import Config
from .families import Named
from .files import CheckpointError, read_json, write_json
from .huggingface import family_of, replacing
from .tensors import TensorFile, read_tensors, write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT wraps their model so
ALL_LINEAR = "all-linear"


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
        if isinstance(self.target_modules, str):
            return re.fullmatch(self.target_modules, module) is not None
        return any(module == name or module.endswith(f".{name}") for name in self.target_modules)


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

OWN = {field.name for field in dataclasses.fields(LoRAConfig)}
NEUTRAL = {  # what changes nothing in what is computed from the tensors in the file
    "peft_type", "task_type", "base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version",
    "fan_in_fan_out", "init_lora_weights", "layers_to_transform", "layers_pattern", "exclude_modules", "megatron_core",
    "loftq_config", "eva_config", "corda_config", "qalora_group_size", "ensure_weight_tying",
}  # fmt: skip


def save(path: str | Path, model: Model, base: str | None = None) -> None:
    """Writes the adapters alone, to a directory that PEFT reads. base: the name or path of the model without adapters."""
    if model.lora is None:
        raise ValueError("the model has no adapters to save")
    tensors, transposed = {}, False
    for place, number, adapter in _adapters(model):
        module, transposed = PREFIX + place.modules[number], transposed or place.named.transposed
        tensors[f"{module}.lora_A.weight"] = adapter.a.data
        tensors[f"{module}.lora_B.weight"] = place.named.rows(adapter.b.data, number, model.config)
    tensors |= {PREFIX + name: p.data for name, p in head_names(model).items()}
    fields = dataclasses.asdict(model.lora)
    if model.lora.target_modules == ALL_LINEAR:
        fields["target_modules"] = sorted({place.modules[n].rpartition(".")[2] for place, n, _ in _adapters(model)})
    with replacing(Path(path)) as directory:
        write_tensors(directory / WEIGHTS, tensors, format="pt")
        write_json(
            directory / CONFIG,
            {
                "peft_type": "LORA",
                "task_type": task_type(model),
                "modules_to_save": sorted({name.rpartition(".")[0] for name in head_names(model)}) or None,
                "base_model_name_or_path": base,
                "inference_mode": True,
                "bias": "none",
                "fan_in_fan_out": transposed,  # GPT-2's matrices
                **fields,
            },
        )


def task_type(model: Model) -> str | None:
    """What PEFT calls the use of a model."""
    if not isinstance(model, LanguageModel):
        return None
    return "CAUSAL_LM" if model.writes else "SEQ_CLS"


def load(path: str | Path, model: Model) -> None:
    """Gives the model the adapters in a directory that `save` or PEFT wrote. The model must have none.

    CheckpointError (a ValueError) where the files are damaged, belong to another model, or hold more than plain LoRA.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path} has no {CONFIG}: it holds no adapters")
    theirs = read_json(path / CONFIG)
    if theirs.get("peft_type") != "LORA":
        raise CheckpointError(f"{path / CONFIG} has the peft_type {theirs.get('peft_type')!r}; tinyllm reads LORA")
    for key, value in theirs.items():
        whole = key == "modules_to_save" and set(value or ()) <= {name.rpartition(".")[0] for name in head_names(model)}
        if value and key not in OWN | NEUTRAL and (key, value) != ("bias", "none") and not whole:
            raise CheckpointError(f"{path / CONFIG} sets {key} to {value!r}, which tinyllm does not compute")
    file = TensorFile(path / WEIGHTS)
    modules = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in file.entries if ".lora_" in name}
    config = LoRAConfig(**{key: theirs[key] for key in OWN & set(theirs)})
    known = {module for place in places(model) for module in place.modules}
    if foreign := sorted(modules - known):
        raise CheckpointError(f"{path / WEIGHTS} has an adapter of {foreign[0]}, which {type(model).__name__} does not have")
    if modules != {module for module in known if config.chooses(module)}:
        config = dataclasses.replace(config, target_modules=sorted(modules))
    add(model, config, seed=None)
    head = {PREFIX + name: p.data for name, p in head_names(model).items()}
    into = {name: array for name, array in head.items() if name in file.entries}  # the head may be left as it was
    for place, number, adapter in _adapters(model):
        module = PREFIX + place.modules[number]
        into |= {f"{module}.lora_A.weight": adapter.a.data, f"{module}.lora_B.weight": np.empty_like(adapter.b.data)}
    try:
        read_tensors(path / WEIGHTS, into)
    except CheckpointError:
        merge(model)  # zeros
        raise
    for place, number, adapter in _adapters(model):
        order = place.named.rows(np.arange(len(adapter.b.data)), number, model.config)
        adapter.b.data[order] = into[f"{PREFIX}{place.modules[number]}.lora_B.weight"]


def _adapters(model: Model) -> Iterator[tuple[Place, int, Adapter]]:
    """Each adapter, and the number of the part of a place that it belongs to."""
    for place in places(model):
        if isinstance(place.parent, LoRA):
            for rows, adapter in zip(place.parent.rows, place.parent.adapters):
                yield place, place.rows.index(rows), adapter
