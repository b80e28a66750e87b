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
        model.loss(*model.example(np.random.default_rng(0)), **model.example_options(np.random.default_rng(0)))
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
        ({"r": 4}, r"lora_A.weight has shape \(3, 16\), and r is 4"),
        ({"r": 10**9}, "and r is 1000000000"),
        ({"r": 0}, "r is 0: the rank must be at least 1"),
        ({"r": "3"}, "r is '3'; expected `int`, got `str`"),
        ({"lora_alpha": None}, "lora_alpha is None; expected `float`"),
        ({"target_modules": 5}, "target_modules is 5; expected"),
        (
            {"target_modules": ["q_proj"]},
            "has an adapter of model.layers.0.mlp.down_proj, which adapter_config.json does not",
        ),
        ({"target_modules": "("}, "has the regular expression '\\('"),
        ({"target_modules": "(" * 5000}, "has the regular expression"),
        ({"target_modules": "(?P<a>.)(?P=a){1000000000}"}, "repeats its parts too many times"),
        ({"target_modules": r"(?:[^\s]|\S)+\s$"}, "a regular expression that takes longer than"),
        ({"exclude_modules": ["down_proj"]}, "down_proj, which adapter_config.json does not choose"),
        ({"exclude_modules": r".*\.down_proj"}, "down_proj, which adapter_config.json does not choose"),
        ({"layers_to_transform": [0]}, r"layers.1.mlp.down_proj, which adapter_config.json does not choose"),
        ({"layers_to_transform": 0}, r"layers.1.mlp.down_proj, which adapter_config.json does not choose"),
        ({"layers_to_transform": [0, 1], "layers_pattern": "blocks"}, "which adapter_config.json does not choose"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["a"]}, "target_parameters"),
        ({"use_qalora": True}, "use_qalora"),
        ({"arrow_config": {"top_k": 3}}, "arrow_config"),
        ({"a_field_of_tomorrow": 1}, "sets a_field_of_tomorrow to 1"),
        ({"modules_to_save": ["embed_tokens"]}, "'embed_tokens' in modules_to_save"),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights to 'pissa'.*merge_and_unload"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa", "use_rslora": True}, "init_lora_weights"),
        ({"init_lora_weights": "OLoRA"}, "init_lora_weights"),
        ({"init_lora_weights": "corda"}, "init_lora_weights"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights"),
        ({"init_lora_weights": 1}, "init_lora_weights"),
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


# PEFT's adapters for classifiers, taggers and question answering ----------------------------------------------------------

HEADS = {  # their class -> PEFT's task, and modules
    "LlamaForSequenceClassification": ("SEQ_CLS", ["q_proj"]),
    "GPT2ForSequenceClassification": ("SEQ_CLS", ["c_attn"]),
    "OPTForSequenceClassification": ("SEQ_CLS", ["fc1"]),
    "BertForSequenceClassification": ("SEQ_CLS", ["query", "dense"]),  # the pooler's too
    "BertForTokenClassification": ("TOKEN_CLS", ["value"]),
    "BertForQuestionAnswering": ("QUESTION_ANS", ["key"]),
    "RobertaForSequenceClassification": ("SEQ_CLS", ["query"]),
    "RobertaForTokenClassification": ("TOKEN_CLS", ["query"]),
    "DistilBertForSequenceClassification": ("SEQ_CLS", ["q_lin"]),
    "DistilBertForTokenClassification": ("TOKEN_CLS", ["q_lin"]),
}


def peft_model(name, directory, **options):
    """A base model of transformers, saved, with adapters and a head of PEFT's that are not those of the beginning."""
    torch, transformers = peers()
    peft = pytest.importorskip("peft", reason="compares with PEFT: pip install 'tinyllm-numpy[peers]'")
    sizes = {"vocab_size": 13, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 12}
    distil = {"vocab_size": 13, "n_layers": 2, "n_heads": 2, "dim": 8, "hidden_dim": 12}
    labels = {"num_labels": 2 if "Question" in name else 3, "pad_token_id": 0}
    family = name.partition("For")[0]
    config = getattr(transformers, f"{family}Config")(**(distil if family == "DistilBert" else sizes), **labels)
    model_class = getattr(transformers, name)
    order_one(model_class(config)).save_pretrained(directory / "base")
    theirs = peft.get_peft_model(
        model_class.from_pretrained(directory / "base"), peft.LoraConfig(r=3, lora_alpha=5, **options)
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.3 * torch.randn(parameter.shape) * parameter.requires_grad
    theirs.eval().save_pretrained(directory / "theirs")
    return model_class, peft


def their_logits(model, tokens):
    torch, _ = peers()
    with torch.no_grad():
        found = model(torch.tensor(tokens))
    return found.logits.numpy() if "logits" in found else np.stack([found.start_logits, found.end_logits], -1)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # by PEFT itself
@pytest.mark.parametrize("name", HEADS)
def test_peft_adapters_with_a_trained_head(name, tmp_path):
    task, targets = HEADS[name]
    model_class, peft = peft_model(name, tmp_path, task_type=task, target_modules=targets, fan_in_fan_out="GPT2" in name)
    tokens = np.random.default_rng(0).integers(1, 13, (2, 7))

    def as_peft_reads(adapter):
        base = model_class.from_pretrained(tmp_path / "base")
        return their_logits(peft.PeftModel.from_pretrained(base, tmp_path / adapter).eval(), tokens)

    ours, _ = tinyllm.load(tmp_path / "base")
    lora.load(tmp_path / "theirs", ours)
    np.testing.assert_allclose(ours(tokens), as_peft_reads("theirs"), rtol=1e-4, atol=1e-4)
    lora.save(tmp_path / "ours", ours)
    assert json.loads((tmp_path / "ours" / "adapter_config.json").read_text(encoding="utf-8"))["task_type"] == task
    np.testing.assert_allclose(ours(tokens), as_peft_reads("ours"), rtol=1e-4, atol=1e-4)
    again, _ = tinyllm.load(tmp_path / "base")
    lora.load(tmp_path / "ours", again)
    np.testing.assert_allclose(again(tokens), ours(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # by PEFT itself
@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": False},
        {"init_lora_weights": "gaussian", "use_rslora": True},
        {"init_lora_weights": "orthogonal", "r": 4},
        {"init_lora_weights": "eva"},
        {"layers_to_transform": [1], "layers_pattern": "layers"},
        {"exclude_modules": ["0.self_attn.q_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*layers\.1.*\.(q|k)_proj"},
        {"lora_alpha": 3, "bias": "none", "ensure_weight_tying": True},
    ],
    ids=str,
)
def test_what_peft_computes_from_the_same_files(options, tmp_path):
    torch, transformers = peers()
    peft = pytest.importorskip("peft", reason="compares with PEFT: pip install 'tinyllm-numpy[peers]'")
    sizes = {"vocab_size": 13, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 12}
    model_class = transformers.LlamaForCausalLM
    order_one(model_class(transformers.LlamaConfig(**sizes))).save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(**{"r": 3, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **options})
    theirs = peft.get_peft_model(model_class.from_pretrained(tmp_path / "base"), settings)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.3 * torch.randn(parameter.shape) * parameter.requires_grad
    theirs.save_pretrained(tmp_path / "theirs")
    read = peft.PeftModel.from_pretrained(model_class.from_pretrained(tmp_path / "base"), tmp_path / "theirs").eval()
    ours, _ = tinyllm.load(tmp_path / "base")
    lora.load(tmp_path / "theirs", ours)
    tokens = np.random.default_rng(0).integers(1, 13, (2, 7))
    np.testing.assert_allclose(ours(tokens), their_logits(read, tokens), rtol=1e-4, atol=1e-4)


def test_a_head_that_the_file_lacks(tmp_path):
    """It is left as it was if modules_to_save does not list it. If it is listed, the file is not whole."""
    lora.save(tmp_path, classifier())
    path = tmp_path / "adapter_model.safetensors"
    tensors = pytest.importorskip("safetensors.numpy", reason="writes the file")
    tensors.save_file({k: v for k, v in tensors.load_file(path).items() if "score" not in k}, path)
    model = OPTForSequenceClassification.tiny(num_labels=3, pad_token_id=0)
    with pytest.raises(CheckpointError, match="lacks base_model.model.score.weight"):
        lora.load(tmp_path, model)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8")) | {"modules_to_save": None}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    before = model.score.linear.w.data.copy()
    lora.load(tmp_path, model)
    np.testing.assert_array_equal(model.score.linear.w.data, before)
