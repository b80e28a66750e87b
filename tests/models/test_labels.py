"""num_labels and id2label agree, or there is an error: in Python, on another model's weights, and in files."""

import json

import numpy as np
import pytest

import tinyllm
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.models import MODELS

CLASSIFIERS = [name for name in MODELS if "Classification" in name]


def outputs(model):
    return model(np.ones((1, 4), int)).shape[-1]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_names_say_how_many_or_contradict(name):
    model_class, config_class = MODELS[name]
    assert config_class().num_labels == 2
    assert config_class(num_labels=3).num_labels == 3
    assert config_class(id2label={0: "a", 1: "b", 2: "c"}).num_labels == 3
    assert config_class(id2label={"1": "b", "0": "a"}).id2label == {"0": "a", "1": "b"}
    assert outputs(model_class.tiny(id2label={0: "a", 1: "b", 2: "c", 3: "d"})) == 4
    with pytest.raises(ValueError, match="num_labels is 5, and id2label has 2 names"):
        config_class(num_labels=5, id2label={0: "a", 1: "b"})
    with pytest.raises(ValueError, match="id2label has the keys 0, 2; name the labels 0 to 1"):
        config_class(id2label={0: "a", 2: "b"})
    with pytest.raises(ValueError, match="num_labels is 0"):
        config_class(num_labels=0)


@pytest.mark.parametrize("name", ["BERTForSequenceClassification", "BERTForTokenClassification"])
def test_a_new_number_of_labels_on_another_model(name):
    model_class, _ = MODELS[name]
    other = model_class.tiny(id2label={0: "neg", 1: "pos"})
    five = model_class.on(other, num_labels=5)
    assert (outputs(five), five.config.id2label) == (5, None)
    three = model_class.on(other, id2label={0: "a", 1: "b", 2: "c"})
    assert (outputs(three), three.config.num_labels) == (3, 3)
    assert model_class.on(other, num_labels=2).config.id2label == {"0": "neg", "1": "pos"}
    assert model_class.on(other).config.id2label == {"0": "neg", "1": "pos"}
    with pytest.raises(ValueError, match="num_labels is 2, and id2label has 1 names"):
        model_class.on(other, num_labels=2, id2label={0: "a"})


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_labels": 3}, "num_labels is 3, and id2label has 2 names"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label has the keys 0, 2"),
        ({"id2label": {"0": "a", "x": "b"}}, "id2label has the keys 0, x"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "shape|num_labels is 2"),
    ],
)
def test_files_that_contradict_themselves(name, fields, message, tmp_path):
    tinyllm.huggingface.save(tmp_path, MODELS[name][0].tiny(id2label={0: "a", 1: "b"}))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"label2id": None} | fields), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        tinyllm.load(tmp_path)


def test_label2id_that_says_otherwise_is_reported(tmp_path):
    tinyllm.huggingface.save(tmp_path, MODELS["BERTForSequenceClassification"][0].tiny(id2label={0: "a", 1: "b"}))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"label2id": {"b": 0, "a": 1}}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.warns(UserWarning, match="label2id calls label 0 'b', and id2label 'a'"):
        assert tinyllm.load(tmp_path)[0].config.id2label == {"0": "a", "1": "b"}
