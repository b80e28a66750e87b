"""Files that are damaged, or made to do harm: one error that names the file and the field, no memory, no long wait."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyllm
from tinyllm.checkpoints import lora, native, quantization
from tinyllm.checkpoints.files import CheckpointError, write_sums
from tinyllm.checkpoints.tensors import TensorFile
from tinyllm.files import read_json
from tinyllm.layers.parameter import Flat

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # unknown fields


def quantized():
    model = tinyllm.GPT.tiny(n_embd=64)
    quantization.quantize(model, 4)
    return model


def adapted():
    model = tinyllm.Llama.tiny()
    lora.add(model, lora.LoRAConfig(r=2))
    return model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A directory of each format, by name."""
    pytest.importorskip("safetensors.numpy", reason="writes the shards")
    from safetensors.numpy import load_file, save_file

    path = tmp_path_factory.mktemp("good")
    tinyllm.save(path / "own", tinyllm.GPT.tiny())
    tinyllm.save(path / "own, quantized", quantized())
    tinyllm.save(path / "own, adapters", adapted())
    lora.save(path / "adapters", adapted())
    for name, model in {
        "gpt2": tinyllm.GPT.tiny(),
        "llama": tinyllm.Llama.tiny(rope_scaling={"rope_type": "yarn", "factor": 2.0}),
        "qwen2": tinyllm.Llama.tiny(attention_bias=True, attention_output_bias=False),
        "t5": tinyllm.T5.tiny(),
        "bert": tinyllm.BERT.tiny(),
        "distilbert": tinyllm.BERTForSequenceClassification.tiny(model_type="distilbert", type_vocab_size=0),
    }.items():
        tinyllm.huggingface.save(path / name, model)
    (path / "gpt2" / "generation_config.json").write_text('{"eos_token_id": [1, 2], "pad_token_id": 0}', encoding="utf-8")
    shutil.copytree(path / "llama", path / "shards")
    tensors = load_file(path / "shards" / "model.safetensors")
    (path / "shards" / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for number, file in enumerate(files):
        save_file(dict([*tensors.items()][number::2]), path / "shards" / file)
    index = {"weight_map": {name: files[i % 2] for i, name in enumerate(tensors)}}
    (path / "shards" / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return path


@pytest.fixture
def copy(good, tmp_path):
    def make(name):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        return shutil.copytree(good / name, tmp_path / name)

    return make


def load(directory):
    if (directory / "SHA256SUMS").exists():
        write_sums(directory)
    if (directory / "adapter_config.json").exists():
        return lora.load(directory, tinyllm.Llama.tiny())
    return tinyllm.load(directory)


def changed(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


# Sizes -----------------------------------------------------------------------------------------------------------------

SIZES = {
    "own": ("n_layer", "n_head", "n_embd", "n_inner", "vocab_size", "n_positions"),
    "own, quantized": ("n_layer", "vocab_size", "n_embd"),
    "own, adapters": ("num_hidden_layers", "head_dim", "vocab_size", "intermediate_size", "num_key_value_heads"),
    "adapters": ("r",),
    "gpt2": ("n_layer", "n_head", "n_embd", "n_inner", "vocab_size", "n_positions"),
    "llama": ("num_hidden_layers", "head_dim", "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"),
    "qwen2": ("num_hidden_layers", "head_dim"),
    "t5": ("num_layers", "num_decoder_layers", "d_kv", "d_ff", "relative_attention_num_buckets"),
    "bert": ("num_hidden_layers", "max_position_embeddings", "type_vocab_size", "intermediate_size"),
    "distilbert": ("n_layers", "dim", "hidden_dim", "vocab_size"),
    "shards": ("num_hidden_layers", "vocab_size"),
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in SIZES.items() for field in fields])
def test_absurd_sizes_take_no_memory(name, field, copy):
    directory = copy(name)
    path = directory / ("adapter_config.json" if name == "adapters" else "config.json")
    for size in (10**7, 10**9, 10**12, 10**30):
        changed(path, lambda config, size=size: config.update({field: size}))
        tracemalloc.start()
        with pytest.raises(CheckpointError, match=path.name):
            load(directory)
        assert tracemalloc.get_traced_memory()[1] < 2e8
        tracemalloc.stop()


def test_the_rank_of_adapters_in_a_whole_model(copy):
    directory = copy("own, adapters")
    changed(directory / "config.json", lambda config: config["tinyllm"]["lora"].update(r=10**9))
    with pytest.raises(CheckpointError, match="config.json: r is 1000000000, and the weights beside it have"):
        load(directory)


# Types -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("own", "config.json", {"vocab_size": "x"}, "config.json: vocab_size is 'x'; expected `int`, got `str`"),
        ("own", "config.json", {"tinyllm": {}}, 'config.json: "tinyllm" is {}; expected an object with bits, format'),
        ("own", "config.json", {"tinyllm": 5}, '"tinyllm" is 5'),
        ("own", "config.json", {"id2label": 5}, "id2label is 5; expected `object | null`, got `int`"),
        ("own", "config.json", {"n_layer": 1.5}, "n_layer is 1.5; expected `int`, got `float`"),
        ("own", "config.json", {"embd_pdrop": 10**400}, "embd_pdrop is 1000"),
        ("own, quantized", "config.json", {"tinyllm": {"model": "GPT", "format": 1, "bits": "x"}}, "bits is 'x'"),
        ("own, quantized", "config.json", {"tinyllm": {"model": "GPT", "format": 1, "bits": 5}}, "bits"),
        ("own", "config.json", {"tinyllm": {"model": [], "format": 1}}, r"model is \[\]; expected `str`"),
        ("own", "config.json", {"tinyllm": {"model": "GPT", "format": 1, "lora": {"wings": 1}}}, "wings, which LoRAConfig"),
        ("gpt2", "config.json", {"architectures": True}, "architectures is True; expected `array | null`, got `bool`"),
        ("gpt2", "config.json", {"model_type": ["gpt2"]}, "model_type is .*expected `str`"),
        ("gpt2", "generation_config.json", {"eos_token_id": "x"}, "generation_config.json: eos_token_id is 'x'"),
        ("gpt2", "generation_config.json", {"pad_token_id": [1]}, "generation_config.json: pad_token_id is"),
        ("bert", "config.json", {"hidden_size": 0}, "hidden_size is 0, and must be at least 1"),
        ("bert", "config.json", {"id2label": {"0": 1}}, "id2label is {'0': 1}; expected `str`, got `int`"),
        ("llama", "config.json", {"rope_scaling": "x"}, "rope_scaling is 'x'"),
        ("qwen2", "config.json", {"max_window_layers": "x", "use_sliding_window": True}, "max_window_layers is 'x'"),
        ("t5", "config.json", {"dense_act_fn": 5}, "dense_act_fn is 5"),
        ("shards", "model.safetensors.index.json", {"weight_map": 5}, "weight_map is 5; expected `object`"),
        ("shards", "model.safetensors.index.json", {"weight_map": {"a": "../a.safetensors"}}, "has the file '../a"),
        ("adapters", "adapter_config.json", {"modules_to_save": 5}, "modules_to_save is 5"),
    ],
)
def test_the_error_names_file_field_value_and_what_was_expected(name, file, change, message, copy):
    directory = copy(name)
    changed(directory / file, lambda value: value.update(change))
    with pytest.raises(CheckpointError, match=message):
        load(directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "more than 100 levels"),
        ('{"a":' * 200 + "1" + "}" * 200, "more than 100 levels"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": 1, "a": 1}', "the key 'a' is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
        ('{"a": NaN}', "NaN is not finite"),
        ('{"a": -Infinity}', "-Infinity is not finite"),
        ('{"a": 1e999}', "1e999 is not finite"),
        ('{"a": ' + "1" * 5000 + "}", "not JSON as it should be"),
        ("{", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_json_that_is_refused(content, message, tmp_path):
    path = tmp_path / "some.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"some.json .*{message}"):
        read_json(path, CheckpointError)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_json(tmp_path / "nowhere.json", CheckpointError)


def test_a_byte_order_mark_and_levels_that_people_use(tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": ' + b"[" * 90 + b"]" * 90 + b"}")
    assert "a" in read_json(path)


# Weights ---------------------------------------------------------------------------------------------------------------


def with_header(path, change):
    """Rewrites the header of a safetensors file: change(a dict) may return other text."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text = (change(header) or json.dumps(header)).encode("utf-8")
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def overlapping(header):
    seen = {}
    for name, about in header.items():
        if name != "__metadata__":
            about["data_offsets"] = seen.setdefault(str((about["dtype"], about["shape"])), about["data_offsets"])


def shifted(header):
    last = max(
        (about for name, about in header.items() if name != "__metadata__"), key=lambda about: about["data_offsets"][1]
    )
    last["data_offsets"] = [place - 4 for place in last["data_offsets"]]


def with_a_hole(header):
    header.pop(next(name for name in header if name != "__metadata__"))


def twice(header):
    name = next(name for name in header if name != "__metadata__")
    return json.dumps(header)[:-1] + f', "{name}": {json.dumps(header[name])}}}'


def negative(header):
    next(about for name, about in header.items() if name != "__metadata__")["shape"] = [-1, -13]


def enormous(header):
    next(about for name, about in header.items() if name != "__metadata__")["shape"] = [2**40, 2**40]


def wordy(header):
    next(about for name, about in header.items() if name != "__metadata__")["data_offsets"] = ["0", "4"]


STATE = {
    "step": 4, "tokens": 9, "seconds": 1.0, "evaluated": True, "best_step": None, "best": None, "waited": 0, "random": {},
    "data": {}, "fingerprint": "", "lines": 3,
}  # fmt: skip

DAMAGES = (overlapping, shifted, with_a_hole, twice, negative, enormous, wordy)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["own", "own, quantized", "adapters", "gpt2", "shards"])
def test_tensors_that_are_not_where_they_should_be(name, damage, copy):
    directory = copy(name)
    path = sorted(directory.glob("*.safetensors"))[0]
    with_header(path, damage)
    with pytest.raises(CheckpointError, match=path.name):
        load(directory)


@pytest.mark.parametrize("damage", DAMAGES)
def test_moments_that_are_not_where_they_should_be(damage, tmp_path):
    model = tinyllm.GPT.tiny()
    optimizer = tinyllm.Adam(model, lr=0.1)
    native.write_training(tmp_path, optimizer, STATE)
    native.read_training(tmp_path, optimizer)
    with_header(tmp_path / "optimizer.safetensors", damage)
    with pytest.raises(CheckpointError, match="optimizer.safetensors"):
        native.read_training(tmp_path, optimizer)


def test_the_number_of_steps_is_a_number(tmp_path):
    optimizer = tinyllm.Adam(tinyllm.GPT.tiny(), lr=0.1)
    native.write_training(tmp_path, optimizer, STATE)
    for value in ("x", -1, None, 1.5):
        changed(tmp_path / "state.json", lambda state, value=value: state.update(optimizer_steps=value))
        with pytest.raises(CheckpointError, match='state.json: "optimizer_steps" is'):
            native.read_training(tmp_path, optimizer)


def test_a_tensor_in_two_shards(copy):
    directory = copy("shards")
    from safetensors.numpy import load_file, save_file

    first, second = sorted(directory.glob("*.safetensors"))
    tensors = load_file(second)
    save_file({**tensors, "model.norm.weight": np.zeros(16, np.float32), "norm.weight": np.ones(16, np.float32)}, second)
    with pytest.raises(CheckpointError, match="norm.weight is there twice"):
        load(directory)


# Everything at once ----------------------------------------------------------------------------------------------------

VALUES = st.sampled_from(
    [None, True, 0, -1, 3, 10**9, 10**30, 1.5, 1e308, "", "x", "gelu", [], [1], ["x"], {}, {"a": 1}, {"0": "x"}, "(a|aa)+$"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_value_or_a_byte_ends_in_another_error(data, good, tmp_path):
    name = data.draw(st.sampled_from(sorted(path.name for path in good.iterdir())))
    directory = tmp_path / "model"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(good / name, directory)
    files = sorted(file for file in directory.iterdir() if file.suffix in (".json", ".safetensors"))
    path = data.draw(st.sampled_from(files))
    if path.suffix == ".json" and data.draw(st.booleans()):
        config = json.loads(path.read_text(encoding="utf-8"))
        inside = config
        while isinstance(inside, dict) and inside:
            outer, key = inside, data.draw(st.sampled_from(sorted(inside)))
            inside = inside[key]
        outer[key] = data.draw(VALUES)
        path.write_text(json.dumps(config), encoding="utf-8")
    else:
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, min(len(content), 1500) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        load(directory)
    except CheckpointError as error:
        assert str(error)


def test_a_model_may_have_more_numbers_elsewhere(copy):
    """The limit holds only while a file is read."""
    with pytest.raises(CheckpointError):
        directory = copy("own")
        changed(directory / "config.json", lambda config: config.update(n_layer=10**6))
        load(directory)
    assert Flat(tinyllm.GPT.tiny(vocab_size=70_000, n_embd=64).parameters()).size > 1 << 22
    assert TensorFile(copy("gpt2") / "model.safetensors").numbers > 0
