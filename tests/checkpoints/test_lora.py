"""LoRA: gradients, what is trained and what is not, merging, PEFT's files both ways, training that goes on."""

import json

import numpy as np
import pytest
from parity import order_one, peers, relative_error, their_loss

import tinyllm
from tinyllm import kernels
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.checkpoints.lora import LoRAConfig
from tinyllm.checkpoints.tensors import TensorFile
from tinyllm.models import GPT, OPT, Llama, OPTForSequenceClassification

MODELS = {
    "llama": (Llama, {}),
    "llama, recomputed": (Llama, {"recompute": True}),
    "llama, neighbouring pairs": (Llama, {"rope_neighbours": True}),
    "llama, norms of q and k": (Llama, {"qk_norm": True}),
    "llama, neighbouring pairs, fused": (Llama, {"rope_neighbours": True, "fused_projections": True}),
    "opt": (OPT, {}),
    "opt, 350M": (OPT, {"do_layer_norm_before": False, "word_embed_proj_dim": 6}),
    "gpt": (GPT, {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}),
}


def adapted(name, dtype="float32", **options):
    """A model with adapters that are not zero any more."""
    model_class, fields = MODELS[name]
    model = model_class.tiny(**fields)
    model.flat.cast(dtype)
    model.flat.data += 0.1 * np.random.default_rng(1).standard_normal(model.flat.size)
    lora.add(model, LoRAConfig(**{"r": 3, "lora_alpha": 5.0, **options}))
    model.flat.data += 0.3 * np.random.default_rng(2).standard_normal(model.flat.size)
    return model


def some_tokens(model):
    return np.random.default_rng(0).integers(0, model.vocab_size, (2, 7))


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, kernel_set):
    model = adapted(name, lora_dropout=0.2)
    model.train()
    with kernels.use(kernel_set):
        checks = tinyllm.gradcheck(model, samples=3)
    assert len(checks) == len([p for p in model.parameters() if p.trained])
    for check in checks:
        assert ".adapters." in check.name
        assert check.error < 1e-6, check


@pytest.mark.parametrize("name", MODELS)
def test_fresh_adapters_change_nothing_and_merged_ones_compute_the_same(name):
    model_class, fields = MODELS[name]
    model = model_class.tiny(**fields)
    plain = model(some_tokens(model))
    lora.add(model)
    np.testing.assert_allclose(model(some_tokens(model)), plain, atol=1e-6)

    model = adapted(name, "float64")
    unmerged, n_adapted = model(some_tokens(model)), model.n_parameters
    lora.merge(model)
    np.testing.assert_allclose(model(some_tokens(model)), unmerged, atol=1e-12)
    assert model.lora is None and model.n_parameters > n_adapted
    assert not any(".adapters." in p.name or not p.trained for p in model.parameters())


def test_the_adapters_alone_are_trained():
    model = adapted("llama", target_modules=["q_proj", "down_proj"])
    trained = {p.name for p in model.parameters() if p.trained}
    assert trained == {
        f"blocks.{i}.{linear}.adapters.0.{x}" for i in (0, 1) for linear in ("attention.qkv", "mlp.down") for x in "ab"
    }
    assert model.n_parameters == 2 * 3 * (16 + 16 + 20 + 16)
    before = {p.name: p.data.copy() for p in model.parameters()}
    optimizer = tinyllm.Adam(model, lr=0.01, weight_decay=0.1)
    for _ in range(2):
        model.zero_grad()
        model.loss(*model.example(np.random.default_rng(0)))
        model.backward()
        tinyllm.clip_grad_norm(model, 1.0)
        optimizer.step()
    assert {p.name for p in model.parameters() if (p.data != before[p.name]).any()} == trained
    assert {p.name for p in model.parameters() if p.grad is not None} == trained
    assert len(optimizer.moments()) == 2 * len(trained)


def test_target_names():
    def chosen(targets):
        model = adapted("llama", target_modules=targets)
        return sorted(place.modules[number] for place, number, _ in lora._adapters(model))

    layers = ["model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj"]
    assert chosen(["v_proj"]) == chosen(r".*self_attn\.v_proj") == layers
    assert chosen(["layers.1.self_attn.v_proj"]) == layers[1:]
    assert len(chosen("all-linear")) == 2 * 7
    with pytest.raises(ValueError, match=r"no module is called \['c_attn'\]; there are down_proj, gate_proj, k_proj"):
        chosen(["c_attn"])


def test_rank_stabilised_scale():
    assert LoRAConfig(r=4, lora_alpha=8, use_rslora=True).scale == 4
    assert LoRAConfig(r=4, lora_alpha=8).scale == 2
    with pytest.raises(ValueError, match="r is 0"):
        LoRAConfig(r=0)


def test_adapters_are_added_once():
    model = adapted("opt")
    with pytest.raises(ValueError, match="has adapters already"):
        lora.add(model)
    with pytest.raises(ValueError, match="merge them first"):
        tinyllm.huggingface.state_dict(model)


# Files -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, tmp_path):
    model = adapted(name, use_rslora=True)
    lora.save(tmp_path, model, base="somewhere/llama")
    lora.save(tmp_path, model, base="somewhere/llama")  # over itself
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    model_class, fields = MODELS[name]
    again = model_class.tiny(**fields)
    again.flat.data[...] = model.tokens.w.flat.data
    lora.load(tmp_path, again)
    np.testing.assert_array_equal(again(some_tokens(model)), model(some_tokens(model)))
    np.testing.assert_array_equal(again.flat.data, model.flat.data)


def test_a_whole_model_with_its_adapters_is_saved_and_loaded(tmp_path):
    model = adapted("llama", target_modules=["q_proj", "v_proj"])
    tinyllm.save(tmp_path / "model", model)
    again, _ = tinyllm.load(tmp_path / "model")
    assert again.lora == model.lora
    np.testing.assert_array_equal(again(some_tokens(model)), model(some_tokens(model)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3'; tinyllm reads LORA"),
        ({"use_dora": True}, "sets use_dora to True"),
        ({"bias": "all"}, "sets bias to 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"r": 4}, r"lora_A.weight has shape \(3, 16\), and should have \(4, 16\)"),
    ],
)
def test_what_is_not_computed_is_refused(change, message, tmp_path):
    lora.save(tmp_path, adapted("llama"))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    model = Llama.tiny()
    plain = model(some_tokens(model))
    with pytest.raises(CheckpointError, match=message):
        lora.load(tmp_path, model)
    assert model.lora is None
    np.testing.assert_array_equal(model(some_tokens(model)), plain)


def test_adapters_of_another_model_are_refused(tmp_path):
    lora.save(tmp_path, adapted("llama"))
    with pytest.raises(CheckpointError, match="has an adapter of model.layers.0.mlp.down_proj, which OPT does not have"):
        lora.load(tmp_path, OPT.tiny())
    with pytest.raises(CheckpointError, match="holds no adapters"):
        lora.load(tmp_path / "nowhere", Llama.tiny())


PEFT_TARGETS = {
    "Llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "Qwen3": ["q_proj", "k_proj", "down_proj"],
    "Phi3": ["qkv_proj", "gate_up_proj"],
    "OPT": ["q_proj", "v_proj", "fc1"],
    "GPT2": ["c_attn", "c_fc"],
}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by PEFT itself
@pytest.mark.parametrize("name", PEFT_TARGETS)
def test_peft(name, tmp_path):
    """Its adapters compute the same here, gradients included, and ours there."""
    torch, transformers = peers()
    peft = pytest.importorskip("peft", reason="compares with PEFT: pip install 'tinyllm-numpy[peers]'")
    sizes = {"vocab_size": 13, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "pad_token_id": None}
    gated = {"num_key_value_heads": 2, "intermediate_size": 20}
    sizes |= {"Llama": gated, "Qwen3": {**gated, "head_dim": 6}, "Phi3": gated, "OPT": {"ffn_dim": 20}, "GPT2": {}}[name]
    config = getattr(transformers, f"{name}Config")(**sizes)
    model_class = getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")
    order_one(model_class(config)).save_pretrained(tmp_path / "base")

    targets, transposed = PEFT_TARGETS[name], name == "GPT2"
    settings = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM", fan_in_fan_out=transposed)
    theirs = peft.get_peft_model(model_class.from_pretrained(tmp_path / "base"), settings)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.3 * torch.randn(parameter.shape) * parameter.requires_grad
    theirs.eval().save_pretrained(tmp_path / "theirs")
    ours, _ = tinyllm.load(tmp_path / "base")
    lora.load(tmp_path / "theirs", ours)
    assert sorted(ours.lora.target_modules) == sorted(targets)

    tokens, targets = np.random.default_rng(0).integers(0, 13, (2, 2, 7))
    logits = theirs(torch.tensor(tokens)).logits
    np.testing.assert_allclose(ours(tokens), logits.detach().numpy(), atol=1e-4)
    their_loss(logits, targets).backward()
    ours.loss(tokens, targets)
    ours.backward()
    ours.flat.data[...] = ours.flat.grad
    lora.save(tmp_path / "gradients", ours)
    for module, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            found = TensorFile(tmp_path / "gradients" / "adapter_model.safetensors")
            gradient = np.empty(parameter.shape, np.float32)
            found.read(module.replace(".default", ""), gradient)
            assert relative_error(gradient, parameter.grad.numpy()) < 5e-5, module

    model = peft.PeftModel.from_pretrained(model_class.from_pretrained(tmp_path / "base"), tmp_path / "gradients")
    with torch.no_grad():
        np.testing.assert_allclose(ours(tokens), model(torch.tensor(tokens)).logits.numpy(), atol=1e-4)


# A fresh head beside the adapters ---------------------------------------------------------------------------------------


def classifier(dtype="float32"):
    model = OPTForSequenceClassification.tiny(num_labels=3, pad_token_id=0)
    model.flat.cast(dtype)
    model.flat.data += 0.1 * np.random.default_rng(1).standard_normal(model.flat.size)
    lora.add(model, LoRAConfig(r=2, target_modules=["q_proj", "fc2"]))
    model.flat.data += 0.3 * np.random.default_rng(2).standard_normal(model.flat.size)
    return model


def test_a_classifiers_head_is_trained_whole():
    plain = OPTForSequenceClassification.tiny(num_labels=3)
    before = plain(some_tokens(plain))
    lora.add(plain)
    np.testing.assert_allclose(plain(some_tokens(plain)), before, atol=1e-6)
    model = classifier()
    trained = {p.name for p in model.parameters() if p.trained}
    assert "score.linear.w" in trained and all(".adapters." in name for name in trained - {"score.linear.w"})
    for check in tinyllm.gradcheck(model, samples=3):
        assert check.error < 1e-6, check


def test_a_classifier_is_merged_saved_and_loaded(tmp_path):
    model = classifier("float64")
    tokens = some_tokens(model)
    adapted_logits = model(tokens)
    tinyllm.save(tmp_path / "whole", model)
    np.testing.assert_allclose(tinyllm.load(tmp_path / "whole", dtype="float64")[0](tokens), adapted_logits, atol=1e-12)
    lora.save(tmp_path / "adapter", model)
    lora.merge(model)
    np.testing.assert_allclose(model(tokens), adapted_logits, atol=1e-12)
    assert all(p.trained and p.flat is model.flat for p in model.parameters())
    base = OPTForSequenceClassification.tiny(num_labels=3, pad_token_id=0)
    base.flat.cast("float64")
    base.flat.data += 0.1 * np.random.default_rng(1).standard_normal(base.flat.size)
    lora.load(tmp_path / "adapter", base)
    np.testing.assert_allclose(base(tokens), adapted_logits, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by PEFT itself
def test_peft_reads_a_classifiers_adapters_with_its_head(tmp_path):
    torch, transformers = peers()
    peft = pytest.importorskip("peft", reason="compares with PEFT: pip install 'tinyllm-numpy[peers]'")
    base = OPTForSequenceClassification.tiny(num_labels=3, pad_token_id=0)
    tinyllm.huggingface.save(tmp_path / "base", base)
    model, _ = tinyllm.load(tmp_path / "base")
    lora.add(model, LoRAConfig(r=2, target_modules=["q_proj", "fc2"]))
    model.flat.data += 0.3 * np.random.default_rng(2).standard_normal(model.flat.size)
    lora.save(tmp_path / "adapter", model, base=str(tmp_path / "base"))
    theirs = transformers.OPTForSequenceClassification.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    tokens = np.random.default_rng(0).integers(1, 13, (2, 7))
    with torch.no_grad():
        np.testing.assert_allclose(model(tokens), theirs(torch.tensor(tokens)).logits.numpy(), atol=1e-5)
