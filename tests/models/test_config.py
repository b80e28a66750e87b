"""A configuration never changes once it is made, and what cannot be is refused by the field's name."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.models import MODELS
from tinyllm.models.config import COUNTS, FrozenDict, FrozenList

CONFIGS = sorted({config for _, config in MODELS.values()} | {lora.LoRAConfig}, key=lambda cls: cls.__name__)
MODEL_OF = {config: model for model, config in reversed(MODELS.values())}


@pytest.mark.parametrize("cls", CONFIGS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_no_field_can_be_changed(cls, data):
    config = cls()
    field = data.draw(st.sampled_from([field.name for field in dataclasses.fields(cls)]))
    before = dataclasses.asdict(config)
    with pytest.raises(
        dataclasses.FrozenInstanceError, match=rf"{cls.__name__}\.{field} cannot .*dataclasses\.replace\(config, {field}"
    ):
        setattr(config, field, data.draw(st.one_of(st.integers(), st.none(), st.text())))
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(config, field)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.of_no_such_name = 1
    assert dataclasses.asdict(config) == before


NESTED: list[Any] = [
    ("id2label", {"0": "no", "1": "yes"}),
    ("task_specific_params", {"summarize": {"prefix": "summarize: ", "stops": [1, 2]}}),
    ("eos_token_id", [3, 4]),
    ("layer_types", ["full_attention", "sliding_attention"]),
    ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
]


@pytest.mark.parametrize(("field", "value"), NESTED)
def test_lists_and_dicts_are_copies_that_cannot_be_changed(field, value):
    given = copy.deepcopy(value)
    model = tinyllm.Llama.tiny(**{field: given})
    given.clear()  # the caller's own, which stays the caller's
    inside = getattr(model.config, field)
    assert inside == value and json.loads(json.dumps(inside)) == value and isinstance(inside, type(value))
    dictionary = isinstance(value, dict)
    key: Any = next(iter(value)) if dictionary else 0
    changes = [
        lambda: inside.__setitem__(key, 1),
        lambda: inside.__delitem__(key),
        lambda: inside.pop(),
        lambda: inside.clear(),
    ]
    changes += [lambda: inside.update(a=1), lambda: inside.setdefault("b", 1), lambda: inside.popitem()] * dictionary
    changes += [
        lambda: inside.append(1), lambda: inside.extend([1]), lambda: inside.insert(0, 1), lambda: inside.remove(key),
        lambda: inside.sort(), lambda: inside.reverse(), lambda: inside.__iadd__([1]), lambda: inside.__imul__(2),
    ] * (not dictionary)  # fmt: skip
    for change in changes:
        with pytest.raises(TypeError, match="a part of a configuration, cannot be changed.*dataclasses.replace"):
            change()
    assert inside == value


def test_so_are_those_inside_them():
    config = tinyllm.T5Config(task_specific_params={"a": {"stops": [1, 2]}})
    with pytest.raises(TypeError, match="cannot be changed"):
        config.task_specific_params["a"]["stops"].append(3)
    with pytest.raises(TypeError, match="cannot be changed"):
        config.task_specific_params["a"] |= {"b": 1}


@pytest.mark.parametrize("cls", CONFIGS)
def test_copies_are_equal_and_frozen(cls):
    config = cls()
    for other in (
        copy.copy(config),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
        cls(**vars(config)),
    ):
        assert other == config and type(other) is cls
        with pytest.raises(dataclasses.FrozenInstanceError):
            other.recompute = True


def test_copies_of_lists_and_dicts_are_frozen():
    for value in (FrozenDict({"a": FrozenList([1])}), FrozenList([FrozenDict()])):
        for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert other == value and type(other) is type(value)


def test_a_model_keeps_its_configuration():
    config = tinyllm.GPT.tiny().config
    one, other = tinyllm.GPT(config), tinyllm.GPT(config, seed=1)
    with pytest.raises(AttributeError, match=r"GPT\.config cannot be changed.*model\.with_config"):
        one.config = dataclasses.replace(config, eos_token_id=7)
    assert one.config is other.config is config


@pytest.mark.parametrize("name", MODELS)
def test_with_config_is_a_copy_that_computes_the_same(name, tmp_path):
    model = MODELS[name][0].tiny()
    model.train()
    changed = model.with_config(pad_token_id=5)
    assert (model.config.pad_token_id, changed.config.pad_token_id) != (5, 5) and changed.config.pad_token_id == 5
    for a, b in zip(model.parameters(), changed.parameters()):
        np.testing.assert_array_equal(a.data, b.data)
        assert not np.shares_memory(a.data, b.data)
    assert changed.mode.training
    tinyllm.save(tmp_path / "model", changed)
    assert tinyllm.load(tmp_path / "model")[0].config == changed.config


def test_with_config_refuses_other_weights():
    model = tinyllm.GPT.tiny()
    with pytest.raises(ValueError, match=r"'tokens.w' has shape \(20, 8\), and what was assigned has \(13, 8\)"):
        model.with_config(vocab_size=20)
    with pytest.raises(ValueError, match="other weights"):
        model.with_config(n_layer=1)
    lora.add(model)
    with pytest.raises(ValueError, match="quantized or has adapters"):
        model.with_config(eos_token_id=1)


def test_adapters_that_are_loaded_leave_the_callers_configuration(tmp_path):
    model = tinyllm.Llama.tiny()
    lora.add(model, config := lora.LoRAConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.lora.r = 3
    with pytest.raises(TypeError):
        config.target_modules.append("k_proj")
    lora.save(tmp_path / "adapter", model)
    again = tinyllm.Llama.tiny()
    lora.load(tmp_path / "adapter", again)
    assert again.lora == config


# Numbers that cannot be ------------------------------------------------------------------------------------------------

NUMBERS = [(cls, field.name) for cls in CONFIGS for field in dataclasses.fields(cls) if "float" in str(field.type)]
NOT_NEGATIVE = [(cls, name) for cls, name in NUMBERS if name.endswith(("_eps", "_epsilon", "_std", "_range", "r_factor"))]
DROPOUTS = [(cls, name) for cls, name in NUMBERS if "drop" in name]


@pytest.mark.parametrize(("cls", "name"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(cls, name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value}"):
        cls(**{name: value})


@pytest.mark.parametrize(("cls", "name"), DROPOUTS)
@given(value=st.one_of(st.floats(1, 1e9), st.floats(-1e9, 0, exclude_max=True)))
@settings(max_examples=5, deadline=None)
def test_dropouts_are_shares(cls, name, value):
    with pytest.raises(ValueError, match=rf"{name} is .*must lie in \[0, 1\)"):
        cls(**{name: value})


def test_all_dropouts_are_known():
    assert len(DROPOUTS) == 12 and dataclasses.replace(tinyllm.GPTConfig(), embd_pdrop=0, attn_pdrop=0.999)


@pytest.mark.parametrize(("cls", "name"), NOT_NEGATIVE)
def test_epsilons_are_not_negative(cls, name):
    with pytest.raises(ValueError, match=f"{name} is -0.1.* and must be"):
        cls(**{name: -0.1})


def test_numbers_inside_a_dict_are_finite():
    with pytest.raises(ValueError, match=r"rope_scaling\['factor'\] is nan"):
        tinyllm.LlamaConfig(rope_scaling={"rope_type": "linear", "factor": math.nan})
    uses = {"a": {"max_steps": -1, "dropped": 3, "my_eps": -1.0}}  # whatever these mean
    assert tinyllm.T5Config(task_specific_params=uses).task_specific_params == uses


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, f.name) for cls in CONFIGS for f in dataclasses.fields(cls) if f.name in COUNTS],
)
@pytest.mark.parametrize("value", [0, -3, 1.5, "4"])
def test_a_size_is_a_whole_number_of_at_least_1(cls, name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value!r}, and must be a whole number of at least 1"):
        cls(**{name: value})


def test_every_size_of_a_configuration_is_checked():
    """All fields that are whole numbers, but for these, which may be 0 or have a check of their own."""
    others = {
        "r",
        "num_labels",
        "num_key_value_heads",
        "n_inner",
        "type_vocab_size",
        "word_embed_proj_dim",
        "sliding_window",
    }
    for cls in CONFIGS:
        for field in dataclasses.fields(cls):
            if field.type in ("int", "int | None") and not field.name.endswith(("_id", "_idx")):
                assert field.name in COUNTS | others or field.name.startswith("relative_attention"), (cls, field.name)


@pytest.mark.parametrize("cls", CONFIGS)
def test_a_dropout_is_a_number(cls):
    for field in dataclasses.fields(cls):
        if "drop" in field.name:
            with pytest.raises(ValueError, match=f"{field.name} is '0.1', and must be a number"):
                cls(**{field.name: "0.1"})


def test_names_of_labels_are_a_dict():
    with pytest.raises(ValueError, match="id2label is .*must be a dict"):
        tinyllm.BERTConfig(id2label=["no", "yes"])
