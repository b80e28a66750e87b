"""Hugging Face checkpoints: what transformers wrote computes the same here, what we write transformers reads."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from parity import KERNEL_SETS, TOLERANCE, assert_parity, batch, order_one, peers

import tinyllm
from tinyllm import GPT, GPTConfig
from tinyllm.checkpoints import huggingface
from tinyllm.checkpoints.families import FIXED, GPT2, UNUSED, Family, Named
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.checkpoints.tensors import TensorFile
from tinyllm.layers import Attention, Linear
from tinyllm.models import Model

TINY = {"vocab_size": 43, "n_positions": 16, "n_embd": 24, "n_layer": 3, "n_head": 4, "eos_token_id": 5, "bos_token_id": 4}
VARIANTS = {
    "plain": {},
    "feed-forward size": {"n_inner": 40},
    "gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "silu": {"activation_function": "silu"},
    "tanh": {"activation_function": "tanh"},
    "gelu_pytorch_tanh": {"activation_function": "gelu_pytorch_tanh"},
    "unscaled": {"scale_attn_weights": False},
    "scaled by depth": {"scale_attn_by_inverse_layer_idx": True},
    "scaled by depth alone": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "untied": {"tie_word_embeddings": False},
    "one head, large epsilon": {"n_head": 1, "layer_norm_epsilon": 0.1},
    "reordered": {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
}


def gpt2(dtype="float32", head="GPT2LMHeadModel", **options):
    torch, transformers = peers()
    config = transformers.GPT2Config(**{**TINY, **options}, attn_implementation="eager")
    return order_one(getattr(transformers, head)(config)).to(getattr(torch, dtype))


@pytest.fixture
def saved(tmp_path):
    """Saves a model of transformers -> its directory."""

    def save(theirs, **options):
        theirs.save_pretrained(tmp_path / "theirs", **options)
        return tmp_path / "theirs"

    return save


# Parity ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_are_autograds(variant, dtype, kernel_set, saved):
    if variant == "reordered" and dtype == "float64":
        pytest.skip("PyTorch goes through float32 here")
    theirs = gpt2(dtype, **VARIANTS[variant])
    ours, tokenizer = tinyllm.load(saved(theirs), dtype=dtype)
    assert tokenizer is None
    for padded in (False, True):
        tokens, targets, mask = batch(padded)
        ours_options = {"attention_mask": mask} if padded else {}
        assert_parity(
            ours, theirs, (tokens,), targets, ours_options, kernel_set, input_ids=tokens, attention_mask=mask.astype(int)
        )


# Reading ---------------------------------------------------------------------------------------------------------------


def same_logits(ours, theirs, tolerance=1e-12):
    torch, _ = peers()
    tokens, _, _ = batch(padded=False)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.double().numpy()
    np.testing.assert_allclose(ours(tokens), expected, rtol=tolerance, atol=tolerance)


def rewrite(directory, change):
    """Changes the tensors of a directory: change(dict of name -> tensor) -> such a dict."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    tensors = {name: tensor.clone().contiguous() for name, tensor in change(load_file(path)).items()}
    save_file(tensors, path, {"format": "pt"})


def reconfigure(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "REMOVED"}), encoding="utf-8")


def test_several_files(saved):
    theirs = gpt2("float64")
    directory = saved(theirs, max_shard_size="20KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    same_logits(tinyllm.load(directory, dtype="float64")[0], theirs)
    next(directory.glob("model-00002-*")).unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-.* is missing"):
        tinyllm.load(directory)
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"weight_map\['a'\] is 1; expected `str`, got `int`"):
        tinyllm.load(directory)


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_float_format_is_converted(stored, dtype, saved):
    theirs = gpt2(stored)
    ours, _ = tinyllm.load(saved(theirs), dtype=dtype)
    assert ours.dtype == dtype
    same = huggingface.state_dict(ours)
    for name, tensor in theirs.double().state_dict().items():
        np.testing.assert_array_equal(same[name], tensor.numpy())  # widening is exact


def test_the_base_model_and_older_files(saved):
    """Without `transformer.`, with the masks that older versions stored, and a configuration of what differs alone."""
    torch, _ = peers()
    base = gpt2("float64", "GPT2Model")
    directory = saved(base)
    buffers = {"h.0.attn.bias": torch.ones(1, 1, 16, 16), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    rewrite(directory, lambda tensors: tensors | buffers)
    reconfigure(directory, architectures="REMOVED", activation_function="REMOVED", eos_token_id="REMOVED")
    ours, _ = tinyllm.load(directory, dtype="float64")
    theirs = gpt2("float64")
    theirs.transformer = base
    theirs.lm_head.weight = base.wte.weight
    same_logits(ours, theirs)
    assert ours.config.eos_token_id == 50256


def test_the_dataclass_has_their_defaults():
    """transformers may write only what differs from its defaults."""
    _, transformers = peers()
    theirs, ours = transformers.GPT2Config(), GPTConfig()
    for key, value in dataclasses.asdict(ours).items():
        if key not in (*GPT2.ours_alone, "task_specific_params"):  # of files from before transformers 5, and ours
            assert GPT2.defaults.get(key, value) == getattr(theirs, key), key


def test_every_field_of_their_configuration_is_known():
    _, transformers = peers()
    ours = {field.name for field in dataclasses.fields(GPTConfig)}
    for key in transformers.GPT2Config().to_dict():
        assert key in ours | UNUSED | set(FIXED) | set(GPT2.fixed) | set(GPT2.unused), key


def test_generation_config_says_what_ends_a_text(saved):
    theirs = gpt2()
    directory = saved(theirs)
    (directory / "generation_config.json").write_text('{"eos_token_id": [1, 2], "pad_token_id": 7}', encoding="utf-8")
    config = tinyllm.load(directory)[0].config
    assert (config.eos_token_id, config.pad_token_id) == ([1, 2], 7)


def test_memory_is_the_weights_and_a_piece(saved):
    import tracemalloc

    directory = saved(gpt2("bfloat16", vocab_size=20_000, n_embd=64))
    tracemalloc.start()
    model, _ = huggingface.load(directory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        model.flat.data.nbytes < peak < 2.2 * model.flat.data.nbytes + 1e6
    )  # 1 for the weights, 2 half for a whole small tensor


# Refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"activation_function": "quick_gelu"}, "the activation 'quick_gelu' is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"n_embd": 25}, "n_embd 25 must be a multiple"),
        ({"n_embd": "24"}, "n_embd is '24'; expected `int`, got `str`"),
        (
            {"hidden_size": 32},
            "n_embd is 24 and hidden_size is 32, two names of one field|hidden_size is 32 and n_embd is 24",
        ),
        ({"n_head": 0}, "config.json: n_head is 0"),
        ({"n_layer": True}, "n_layer is True"),
        ({"vocab_size": -5}, "vocab_size is -5"),
        ({"model_type": "mamba"}, "model_type 'mamba'; tinyllm reads gpt2"),
        ({"architectures": ["GPT2DoubleHeadsModel"]}, "architecture 'GPT2DoubleHeadsModel'"),
        ({"n_layer": 2}, r"h\.2\.\S+ is unexpected.*and \d+ more"),
        ({"n_layer": 4}, r"h\.3\.\S+ is missing.*and \d+ more"),
        ({"n_inner": 7}, r"c_fc\.\S+ has shape"),
        ({"vocab_size": 44}, r"wte\.weight has shape \(43, 24\), not \(44, 24\)"),
        ({"tie_word_embeddings": False}, r"lm_head\.weight is missing"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(change, message, saved):
    directory = saved(gpt2())
    reconfigure(directory, **change)
    with pytest.raises(CheckpointError, match=message):
        tinyllm.load(directory)


def test_an_unknown_field_is_told(saved):
    directory = saved(gpt2())
    reconfigure(directory, number_of_wings=2)
    with pytest.warns(UserWarning, match="number_of_wings"):
        tinyllm.load(directory)


def test_a_tied_weight_under_both_names(saved):
    theirs = gpt2("float64")
    directory = saved(theirs)
    embedding = "transformer.wte.weight"
    rewrite(directory, lambda tensors: tensors | {"lm_head.weight": tensors[embedding]})
    same_logits(tinyllm.load(directory, dtype="float64")[0], theirs)
    rewrite(directory, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != embedding})
    same_logits(tinyllm.load(directory, dtype="float64")[0], theirs)
    rewrite(directory, lambda tensors: tensors | {embedding: 2 * tensors["lm_head.weight"]})
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        tinyllm.load(directory)


def test_pickles_are_never_opened(saved):
    directory = saved(gpt2())
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle.*save_pretrained"):
        tinyllm.load(directory)
    (directory / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        tinyllm.load(directory)


def test_damaged_files_give_one_error(saved):
    directory = saved(gpt2(n_layer=1))
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for size in (0, 5, 8, 100, header - 1, header, header + 7, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="model.safetensors"):
            tinyllm.load(directory)
    random = np.random.default_rng(0)
    for _ in range(300):  # a flipped bit in the header: found, or without effect on what is read
        flipped = bytearray(whole)
        flipped[random.integers(0, header)] ^= 1 << random.integers(0, 8)
        path.write_bytes(flipped)
        try:
            tinyllm.load(directory)
        except CheckpointError:
            pass
    for content in (b"", b"\xff\xfe", b"[1, 2]", b'{"model_type": "gpt2"', b"{}"):
        (directory / "config.json").write_bytes(content)
        with pytest.raises(CheckpointError, match="config.json"):
            tinyllm.load(directory)


def test_quantised_tensors_are_refused(saved):
    torch, _ = peers()
    directory = saved(gpt2())
    rewrite(directory, lambda tensors: {name: tensor.to(torch.int8) for name, tensor in tensors.items()})
    with pytest.raises(CheckpointError, match="stored as I8"):
        tinyllm.load(directory)


# Writing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"tie_word_embeddings": False}, {"activation_function": "gelu_tanh"}]
)
def test_transformers_reads_what_we_write(options, dtype, tmp_path):
    torch, transformers = peers()
    config = {key: value for key, value in TINY.items() if key != "bos_token_id"}
    ours = GPT(GPTConfig(**config, **options), dtype=dtype, seed=3)
    ours.flat.data += 0.3 * np.random.default_rng(0).standard_normal(ours.flat.size)
    huggingface.save(tmp_path / "saved", ours)
    huggingface.save(tmp_path / "saved", ours)  # over itself
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())
    assert theirs.dtype == getattr(torch, dtype)
    same_logits(ours, theirs.eval(), tolerance=1e-12 if dtype == "float64" else 1e-4)
    again, _ = tinyllm.load(tmp_path / "saved", dtype=dtype)
    same_logits(again, theirs, tolerance=1e-12 if dtype == "float64" else 1e-4)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]


def test_state_dict_is_a_copy_with_their_names_and_shapes():
    theirs = gpt2("float64")
    ours = GPT(GPTConfig(**{key: value for key, value in TINY.items() if key != "bos_token_id"}, bias=False))
    state = huggingface.state_dict(ours)
    assert {name: array.shape for name, array in state.items()} == {
        name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()
    }
    state["transformer.wpe.weight"][...] = 7
    assert not (ours.positions.w.data == 7).any()


def test_our_own_directories_are_not_written_over(tmp_path):
    model = GPT.tiny()
    tinyllm.save(tmp_path / "run", model)
    with pytest.raises(CheckpointError, match="own format"):
        huggingface.save(tmp_path / "run", model)


def test_the_tokenizer_goes_along(tmp_path, shared_data):
    _, transformers = peers()
    tokenizer = tinyllm.tokenizers.load(shared_data / "models" / "gpt2_bpe")
    model = GPT(GPTConfig(vocab_size=50257, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    huggingface.save(tmp_path, model, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    _, again = tinyllm.load(tmp_path)
    text = "Two households, both alike in dignity,\n\tin fair Verona -- naïve 🙂's <|endoftext|>"
    assert theirs(text).input_ids == tokenizer.encode(text) == again.encode(text)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.eos_token_id == theirs.eos_token_id == tokenizer.eos_id == 50256


# The tables' machinery, beyond what GPT-2 needs of it ------------------------------------------------------------------


def test_packed_layers_are_their_parts_row_below_row(monkeypatch):
    """LLaMA's q, k, v with fewer key heads, and BERT's with equal shares and biases."""

    class Packed(Model):
        def __init__(self):
            super().__init__()
            self.config = SimpleNamespace(heads=(4, 2, 2))
            self.blocks = [Attention(8, H=4, G=2, bias=False), Attention(8, H=4)]
            self.up = Linear(8, 6)
            self.initialize()

    family = Family(
        "packed",
        {"Theirs": "Packed"},
        "model.",
        (
            Named("blocks.{}.qkv", [f"model.layers.{{}}.{x}_proj" for x in "qkv"], shares=lambda c: c.heads),
            Named("blocks.{}.proj", "model.layers.{}.o_proj"),
            Named("up", ["model.a", "model.b"], transposed=True),
        ),
    )
    monkeypatch.setattr(huggingface, "FAMILIES", (family,))
    model = Packed()
    monkeypatch.setattr(model.blocks[1], "qkv", Linear(8, 16))
    model.initialize()
    state = huggingface.state_dict(model)
    q, k, v = np.split(model.blocks[0].qkv.w.data, [8, 12])
    np.testing.assert_array_equal(state["model.layers.0.q_proj.weight"], q)
    np.testing.assert_array_equal(state["model.layers.0.k_proj.weight"], k)
    np.testing.assert_array_equal(state["model.layers.0.v_proj.weight"], v)
    np.testing.assert_array_equal(state["model.layers.1.v_proj.bias"], model.blocks[1].qkv.b.data[12:])
    np.testing.assert_array_equal(state["model.b.weight"], model.up.w.data[3:].T)
    assert "model.layers.0.q_proj.bias" not in state


def test_tensor_file_reads_what_the_library_wrote(tmp_path):
    torch, _ = peers()
    from safetensors.torch import save_file

    tensors = {
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 3),
        "bf16": torch.randn(3, 5, 7).to(torch.bfloat16),
        "f16": torch.randn(4).half(),
        "f64": torch.randn(2, 2, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "some.safetensors")
    file = TensorFile(tmp_path / "some.safetensors")
    assert set(file.entries) == set(tensors)
    for name, tensor in tensors.items():
        out = np.full(tuple(tensor.shape), 9.0)
        file.read(name, out)
        np.testing.assert_array_equal(out, tensor.double().numpy())
        assert file.equals(name, out)
        assert not tensor.numel() or not file.equals(name, out + 1)
