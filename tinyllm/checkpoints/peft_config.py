"""adapter_config.json as PEFT writes it: which modules have adapters, which are saved whole, what is not computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import accumulate
from pathlib import Path

import regex

from ..files import short
from ..tokenizers.patterns import repeats_too_much
from .files import CheckpointError, checked, read_json

SECONDS = 0.1  # that a regular expression of the file may take on the name of a module
HEADS = {  # task_type -> modules that PEFT saves whole, whatever modules_to_save says
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
KEEP_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")  # init_lora_weights that leave the base model as it is
UNUSED = {  # fields that change nothing in what is computed from the tensors in the file
    "peft_type", "base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version", "fan_in_fan_out",
    "init_lora_weights", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "qalora_group_size", "runtime_config", "ensure_weight_tying",
}  # fmt: skip


@dataclass
class PeftConfig:
    """The fields of PEFT's LoraConfig that say what is computed, with its defaults."""

    r: int = 8
    lora_alpha: float = 8.0
    use_rslora: bool = False
    lora_dropout: float = 0.0
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    task_type: str | None = None

    def chooses(self, module: str) -> bool:
        """Whether PEFT gives a module an adapter. What it saves whole and what is excluded gets none."""
        if self.exclude_modules and matches(self.exclude_modules, module):
            return False
        whole = (*(self.modules_to_save or ()), *HEADS.get(self.task_type or "", ()))
        if any(f".{name}." in f".{module}." for name in whole):
            return False
        if self.target_modules is None or self.target_modules == "all-linear":
            return True
        return matches(self.target_modules, module) and self._in_a_chosen_layer(module)

    def _in_a_chosen_layer(self, module: str) -> bool:
        if self.layers_to_transform is None or self.layers_to_transform == []:
            return True
        names = [self.layers_pattern] if isinstance(self.layers_pattern, str) else self.layers_pattern
        patterns = [rf"(?:^|.*?\.){name}\.(\d+)\." for name in names or ()] or [r".*?\.[^.]*\.(\d+)\."]
        found = next((match for pattern in patterns if (match := regex.match(pattern, module, timeout=SECONDS))), None)
        chosen = self.layers_to_transform
        return found is not None and int(found[1]) in ([chosen] if isinstance(chosen, int) else chosen)


@cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """A regular expression for names of modules. ValueError: it is not one, or compiling it could fill the memory."""
    try:
        if repeats_too_much(pattern):
            raise OverflowError("it repeats its parts too many times")
        return regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the regular expression {short(pattern)}, which is not one: {error}") from None


def matches(names: list[str] | str, module: str) -> bool:
    """Whether a module has one of these names, or ends in one; a string is a regular expression for the whole name."""
    if isinstance(names, str):
        return compiled(names).fullmatch(module, timeout=SECONDS) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def within(tensor: str, ends: Sequence[str]) -> str | None:
    """The first of these ends that the name of a module around a tensor has: PEFT saves this module whole."""
    parents = [*accumulate(tensor.split(".")[:-1], "{}.{}".format)]
    return next((end for end in ends for parent in parents if parent.endswith(end)), None)


def read_peft_config(path: Path) -> PeftConfig:
    """The file's fields. CheckpointError, by the field's name, for one that changes the result and is not computed here."""
    theirs = read_json(path)
    if theirs.get("peft_type") != "LORA":
        raise CheckpointError(f"{path} has the peft_type {theirs.get('peft_type')!r}; tinyllm reads LORA")
    initial = theirs.get("init_lora_weights")
    if not any(initial is known or isinstance(initial, str) and initial.lower() == known for known in KEEP_THE_BASE):
        raise CheckpointError(
            f"{path} sets init_lora_weights to {initial!r}: training has changed the base model's weights, and the file "
            "does not hold them. Merge the adapter with PEFT, model.merge_and_unload().save_pretrained(PATH), and load PATH"
        )
    known = {field.name for field in fields(PeftConfig)}
    for key, value in theirs.items():
        if value and key not in known | UNUSED and (key, value) != ("bias", "none"):
            raise CheckpointError(f"{path} sets {key} to {short(value)}, which tinyllm does not compute")
    config = PeftConfig(**checked(path, {key: theirs[key] for key in known & set(theirs)}, PeftConfig))
    try:
        for pattern in (config.target_modules, config.exclude_modules, config.layers_pattern):
            if isinstance(pattern, str):
                compiled(pattern)
    except ValueError as error:
        raise CheckpointError(f"{path} has {error}") from None
    return config
