"""rope_scaling and rope_parameters as files have them: logits equal those that transformers computes from the same file."""

import itertools
import json

import numpy as np
import pytest
from parity import order_one, peers

import tinyllm
from tinyllm.checkpoints.families.rope import read_rope
from tinyllm.checkpoints.files import CheckpointError

KINDS = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"factor": 4.0},
    "longrope": {"short_factor": [1.0, 2.0, 3.0, 4.0], "long_factor": [2.0, 3.0, 4.0, 9.0], "factor": 4.0},
}
NAMES = {  # how a file calls the kind
    "rope_type": lambda kind: {"rope_type": kind},
    "type": lambda kind: {"type": kind},
    "both": lambda kind: {"type": kind, "rope_type": kind},
    "both, and only rope_type is right": lambda kind: {"type": "linear", "rope_type": kind},
}
BESIDE = {  # what is beside it in the dictionary, and at the top of the file
    "nothing": ({}, {}),
    "an original length": ({"original_max_position_embeddings": 32}, {}),
    "an original length at the top": ({"original_max_position_embeddings": 32}, {"original_max_position_embeddings": 48}),
    "theta twice": ({"rope_theta": 500.0}, {"rope_theta": 1000.0}),
    "keys that transformers passes over": ({"attn_factor": 0.5, "finetuned": True, "mscale": 1.2, "truncate": False}, {}),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    torch, transformers = peers()
    torch.manual_seed(0)
    sizes = {"vocab_size": 29, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    path = tmp_path_factory.mktemp("llama")
    order_one(transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, max_position_embeddings=40))).save_pretrained(
        path
    )
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_transformers(kind, directory):
    torch, transformers = peers()
    path = directory / "config.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain.pop("rope_parameters", None)
    tokens = np.arange(50)[None] % 29  # longer than max_position_embeddings, if the scaling allows it
    for names, (inside, top), key in itertools.product(NAMES.values(), BESIDE.values(), ("rope_scaling", "rope_parameters")):
        rope = {**KINDS[kind], **inside, **names(kind)}
        path.write_text(json.dumps({**plain, **top, key: rope}), encoding="utf-8")
        theirs = transformers.LlamaForCausalLM.from_pretrained(directory).eval()
        ours, _ = tinyllm.load(directory)
        some = tokens[:, : ours.max_length]
        with torch.no_grad():
            expected = theirs(torch.tensor(some)).logits.numpy()
        np.testing.assert_allclose(ours(some), expected, atol=3e-4, err_msg=str((key, rope, top)))
    path.write_text(json.dumps(plain), encoding="utf-8")


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "su"}, "rope_scaling has the kind 'su'"),
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "linear", "factor": "two"}, "factor 'two'"),
        ({"rope_type": "linear", "factor": 0}, "rope_scaling"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"full_attention": {"rope_type": "default"}}, "full_attention"),
        ({"rope_type": ["linear"], "factor": 2}, r"rope_scaling has the kind \['linear'\]"),
        (
            {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": [4]},
            r"original_max_position_embeddings \[4\]",
        ),
        ({"rope_type": "longrope", "short_factor": 1, "long_factor": [1, 2], "factor": 2}, "short_factor 1"),
        ({"rope_type": "longrope", "short_factor": ["a", "b"], "long_factor": [1, 2], "factor": 2}, "rope_scaling"),
        ([1], "must be a dictionary"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(rope, message, tmp_path):
    tinyllm.huggingface.save(tmp_path, tinyllm.Llama.tiny())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"rope_parameters": rope}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        tinyllm.load(tmp_path)


def test_a_key_that_nobody_knows_is_reported():
    with pytest.warns(UserWarning, match="rope_scaling has wings"):
        assert read_rope({"rope_scaling": {"type": "linear", "factor": 2, "wings": 2}})["rope_scaling"] == {
            "rope_type": "linear",
            "factor": 2,
        }


def test_a_configuration_from_python_may_name_the_kind_twice():
    options = {"type": "linear", "rope_type": "linear", "factor": 2.0}
    twice, once = (tinyllm.Llama.tiny(rope_scaling=o) for o in (options, {"type": "linear", "factor": 2.0}))
    tokens = np.arange(8)[None]
    np.testing.assert_array_equal(twice(tokens), once(tokens))
