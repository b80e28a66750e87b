"""T5, both versions, and mT5 beside transformers' own: logits, loss, every gradient; generation; and written back."""

import dataclasses
import importlib
import json

import numpy as np
import pytest
from parity import KERNEL_SETS, TOLERANCE, assert_parity, order_one, peers

import tinyllm
from tinyllm.checkpoints import huggingface
from tinyllm.checkpoints.families import FIXED, MT5, T5, UNUSED
from tinyllm.models import T5Config

V = 43
SIZES = {"vocab_size": V, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
SIZES |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 9, "decoder_start_token_id": 0}
UNTIED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
VARIANTS = {
    "version 1.0": ("T5", {}),
    "version 1.1": ("T5", UNTIED),
    "tied, not scaled": ("T5", {"tie_word_embeddings": False}),
    "gated silu, uneven": ("T5", {"feed_forward_proj": "gated-silu", "num_decoder_layers": 3, "layer_norm_epsilon": 0.1}),
    "mt5": ("MT5", UNTIED),
    "mt5, tied": ("MT5", {"feed_forward_proj": "gated-gelu"}),
}
TABLES = {"T5": T5, "MT5": MT5}


@pytest.fixture
def theirs_of(monkeypatch):
    """A model of transformers with random weights. Its norms compute in the model's dtype, not always in float32."""
    torch, transformers = peers()

    def norm(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def make(variant, dtype="float64"):
        name, options = VARIANTS[variant]
        module = importlib.import_module(f"transformers.models.{name.lower()}.modeling_{name.lower()}")
        monkeypatch.setattr(getattr(module, f"{name}LayerNorm"), "forward", norm)
        config = getattr(transformers, f"{name}Config")(**{**SIZES, **options}, attn_implementation="eager")
        theirs = getattr(transformers, f"{name}ForConditionalGeneration")(config)
        if options is UNTIED:  # transformers 5 unties where a file has two different tensors
            theirs.lm_head.weight = torch.nn.Parameter(torch.empty(V, 24))
        return order_one(theirs).to(getattr(torch, dtype))

    return make


def batch():
    """source, target_in, targets, source_mask: sources and targets of several lengths, padded on the right."""
    random = np.random.default_rng(1)
    source, (target_in, targets) = random.integers(2, V, (3, 12)), random.integers(2, V, (2, 3, 9))
    mask = np.arange(12) < np.array([[8], [12], [11]])
    counted = np.arange(9) < np.array([[9], [5], [7]])
    return np.where(mask, source, 0), np.where(counted, target_in, 0), np.where(counted, targets, -100), mask


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_are_autograds(variant, dtype, kernel_set, theirs_of, tmp_path):
    theirs = theirs_of(variant, dtype)
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype=dtype)
    assert ours.config.tie_word_embeddings == (theirs.lm_head.weight is theirs.shared.weight)
    source, target_in, targets, mask = batch()
    given = {"input_ids": source, "attention_mask": mask.astype(int), "decoder_input_ids": target_in}
    assert_parity(ours, theirs, (source, target_in), targets, {"source_mask": mask}, kernel_set, **given)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("variant", ["version 1.0", "version 1.1", "tied, not scaled", "mt5"])
def test_generated_tokens(variant, num_beams, theirs_of, tmp_path):
    torch, _ = peers()
    theirs = theirs_of(variant)
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    source, _, _, mask = batch()
    options = {"max_new_tokens": 12, "num_beams": num_beams, "no_repeat_ngram_size": 2}
    given = {"attention_mask": torch.tensor(mask.astype(int)), "decoder_start_token_id": 0, "do_sample": False}
    expected = theirs.generate(torch.tensor(source), **given, **options, eos_token_id=[1, 5], pad_token_id=2)
    result = tinyllm.generate(ours, source, attention_mask=mask, eos_id=[1, 5], pad_id=2, **options)
    np.testing.assert_array_equal(result, expected.numpy())
    assert len(np.unique(result)) > 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write(variant, theirs_of, tmp_path):
    theirs = theirs_of(variant)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, _ = tinyllm.load(tmp_path / "theirs", dtype="float64")
    huggingface.save(tmp_path / "ours", ours)
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    source, target_in, _, mask = (peers()[0].tensor(array) for array in batch())
    given = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target_in}
    peers()[0].testing.assert_close(again.eval()(**given).logits, theirs(**given).logits)
    read, _ = tinyllm.load(tmp_path / "ours", dtype="float64")
    assert read.config == ours.config
    np.testing.assert_array_equal(read.flat.data, ours.flat.data)


def test_older_files(theirs_of, tmp_path):
    """The embedding under its further names, a bias that cross attention once had, and the first token in another file."""
    torch, _ = peers()
    from safetensors.torch import load_file, save_file

    theirs = theirs_of("version 1.0")
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(8, 4)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    generation = {"decoder_start_token_id": 7, "eos_token_id": 1, "pad_token_id": 0}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    assert ours.config.decoder_start_token_id == 7 and ours.config.tie_word_embeddings
    source, target_in, targets, _ = batch()
    given = {"input_ids": source, "decoder_input_ids": target_in, "attention_mask": np.ones_like(source)}
    assert_parity(ours, theirs, (source, target_in), targets, {}, "reference", **given)


@pytest.mark.parametrize("family", TABLES)
def test_defaults_and_fields_are_theirs(family):
    """transformers may write only what differs from its defaults; and every field of it is known."""
    _, transformers = peers()
    theirs, table = getattr(transformers, f"{family}Config")(), TABLES[family]
    values = dataclasses.asdict(T5Config(**{"model_type": table.model_type, **table.defaults}))
    for key, value in values.items():
        if key not in (*table.ours_alone, "scale_decoder_outputs", "decoder_start_token_id"):
            assert value == getattr(theirs, key), key
    for key in theirs.to_dict():
        assert key in set(values) | UNUSED | set(FIXED) | set(table.fixed) | set(table.unused), key


def test_a_network_that_transformers_lacks_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no counterpart"):
        huggingface.save(tmp_path, tinyllm.T5.tiny(tie_word_embeddings=False, scale_decoder_outputs=True))


@pytest.mark.parametrize(
    "fields",
    [
        {"feed_forward_proj": "relu", "dense_act_fn": "silu"},
        {"feed_forward_proj": "relu", "is_gated_act": True},
        {"feed_forward_proj": "gelu", "dense_act_fn": "gelu_new"},
        {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"},
        {"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu"},
        {"feed_forward_proj": "gated-gelu", "is_gated_act": False, "dense_act_fn": "gelu"},
        {"feed_forward_proj": "gated-gelu"},
        {"dense_act_fn": "relu"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", TABLES)
def test_the_activation_that_transformers_computes(family, fields, tmp_path):
    """dense_act_fn and is_gated_act count where a file has them, whatever feed_forward_proj says; also once written back."""
    torch, transformers = peers()
    config_class = getattr(transformers, f"{family}Config")
    model_class = getattr(transformers, f"{family}ForConditionalGeneration")
    order_one(model_class(config_class(**SIZES, **fields))).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    derived = ("feed_forward_proj", "dense_act_fn", "is_gated_act")
    config = {key: value for key, value in config.items() if key not in derived} | fields
    path.write_text(json.dumps(config), encoding="utf-8")
    ours, _ = tinyllm.load(path.parent)
    huggingface.save(tmp_path / "ours", ours)
    tokens = np.arange(2, 8)[None]
    for directory in ("theirs", "ours"):
        theirs = model_class.from_pretrained(tmp_path / directory).eval()
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor(tokens), decoder_input_ids=torch.tensor(tokens)).logits.numpy()
        np.testing.assert_allclose(ours(tokens, tokens), expected, rtol=1e-4, atol=1e-4)


def test_an_activation_that_is_not_computed_is_refused_by_name(tmp_path):
    huggingface.save(tmp_path, tinyllm.T5.tiny())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"dense_act_fn": "mish"}), encoding="utf-8")
    with pytest.raises(ValueError, match="config.json: the activation 'mish' is not supported"):
        tinyllm.load(tmp_path)
