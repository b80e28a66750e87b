"""Decoders that label a text, beside transformers' own: logits, loss, every gradient; written back; padding; refusals."""

import json

import numpy as np
import pytest
from parity import KERNEL_SETS, TOLERANCE, assert_parity, order_one, peers

import tinyllm
from tinyllm import kernels
from tinyllm.checkpoints import huggingface
from tinyllm.models import GPTForSequenceClassification, LlamaForSequenceClassification, OPTForSequenceClassification

CLASSES = (GPTForSequenceClassification, LlamaForSequenceClassification, OPTForSequenceClassification)
V, PAD = 43, 7
SIZES = {"vocab_size": V, "num_labels": 3, "pad_token_id": PAD, "bos_token_id": 4, "eos_token_id": 5}
WIDE = {**SIZES, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 16}
GATED = {**WIDE, "intermediate_size": 40, "num_key_value_heads": 2}
GPT2 = {**SIZES, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 16}
VARIANTS = {
    "gpt2": ("GPT2", GPT2),
    "llama": ("Llama", GATED),
    "llama, tied": ("Llama", {**GATED, "tie_word_embeddings": True, "num_labels": 2}),
    "mistral": ("Mistral", {**GATED, "sliding_window": 4}),
    "qwen2": ("Qwen2", GATED),
    "qwen3": ("Qwen3", {**GATED, "head_dim": 10}),
    "phi3": ("Phi3", {**GATED, "sliding_window": 4}),
    "opt": ("OPT", {**WIDE, "ffn_dim": 40}),
    "opt, 350M": ("OPT", {**WIDE, "ffn_dim": 40, "do_layer_norm_before": False, "word_embed_proj_dim": 10}),
}


def theirs_of(variant, dtype="float64"):
    torch, transformers = peers()
    name, options = VARIANTS[variant]
    config = getattr(transformers, f"{name}Config")(**options, attn_implementation="eager")
    return order_one(getattr(transformers, f"{name}ForSequenceClassification")(config)).to(getattr(torch, dtype))


def batch(num_labels):
    """tokens (B, T), the mask of those that are not padding, a label for each row: padded on the left, right, and not."""
    random = np.random.default_rng(1)
    mask = np.ones((4, 9), bool)
    mask[0, :3] = mask[1, -4:] = mask[2, :8] = False
    tokens = random.integers(0, V - 1, mask.shape)
    tokens = np.where(mask, tokens + (tokens >= PAD), PAD)
    return tokens, mask, random.integers(0, num_labels, len(mask))


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_are_autograds(variant, dtype, kernel_set, tmp_path, in_float64_throughout):
    if dtype == "float64":
        in_float64_throughout()
    theirs = theirs_of(variant, dtype)
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype=dtype)
    tokens, mask, labels = batch(ours.config.num_labels)
    inputs = {"input_ids": tokens, "attention_mask": mask.astype(int)}
    assert_parity(ours, theirs, (tokens,), labels, {"attention_mask": mask}, kernel_set, floor=1e-3, **inputs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write(variant, tmp_path):
    torch, transformers = peers()
    theirs = theirs_of(variant, "float32")
    theirs.config.id2label = dict(enumerate(("no", "yes", "perhaps")[: theirs.config.num_labels]))
    theirs.save_pretrained(tmp_path / "theirs")
    ours, _ = tinyllm.load(tmp_path / "theirs")
    assert ours.config.id2label["1"] == "yes"
    huggingface.save(tmp_path / "ours", ours)
    again, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert type(again) is type(theirs) and not any(report.values())
    assert again.config.id2label == theirs.config.id2label
    tokens, mask, _ = batch(2)
    given = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask.astype(int))}
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**given).logits, theirs(**given).logits)
    tinyllm.save(tmp_path / "run", ours)
    read, _ = tinyllm.load(tmp_path / "run")
    assert read.config == ours.config and type(read) is type(ours)
    np.testing.assert_array_equal(read.flat.data, ours.flat.data)


def test_a_causal_model_is_written_without_labels(tmp_path):
    for model in (tinyllm.GPT.tiny(), tinyllm.Llama.tiny(), tinyllm.OPT.tiny()):
        huggingface.save(tmp_path / type(model).__name__, model)
        config = json.loads((tmp_path / type(model).__name__ / "config.json").read_text(encoding="utf-8"))
        assert not {"id2label", "num_labels"} & set(config)


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@pytest.mark.parametrize("cls", CLASSES)
def test_gradients(cls, kernel_set):
    model = cls.tiny(num_labels=3, **({"embd_pdrop": 0.2} if cls is GPTForSequenceClassification else {}))
    model.train()
    tokens, _ = model.example(np.random.default_rng(0))
    options = {**model.example_options(np.random.default_rng(0)), "class_weight": [0.5, 1.0, 3.0]}
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(model, tokens, np.array([2, -100, 0]), samples=3, **options):
            assert check.error < 1e-6, check


@pytest.mark.parametrize("cls", CLASSES)
def test_padding_behind_a_text_does_not_change_its_label(cls):
    model = cls.tiny(pad_token_id=0)
    tokens = np.random.default_rng(0).integers(1, 13, (1, 5))
    alone, padded = model(tokens), np.pad(tokens, ((0, 0), (0, 3)))
    np.testing.assert_allclose(model(padded), alone, atol=1e-6)  # found by the padding token
    np.testing.assert_allclose(model(padded, attention_mask=np.arange(8)[None] < 5), alone, atol=1e-6)  # or by the mask
    assert np.abs(model(np.pad(tokens, ((0, 0), (0, 3)), constant_values=1)) - alone).max() > 1e-4


def test_class_weights_weigh_the_mean():
    torch, _ = peers()
    model = GPTForSequenceClassification.tiny(num_labels=3)
    tokens, _ = model.example(np.random.default_rng(3))
    options = model.example_options(np.random.default_rng(3))
    labels, weight = np.array([0, 2, 2]), np.array([1.0, 1.0, 5.0])
    logits = torch.tensor(model(tokens, **options))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), torch.tensor(weight, dtype=torch.float32))
    assert model.loss(tokens, labels, class_weight=weight, **options) == pytest.approx(expected.item(), rel=1e-5)


def test_what_it_does_not_do_is_named():
    model = OPTForSequenceClassification.tiny()
    with pytest.raises(ValueError, match="OPTForSequenceClassification gives labels, and does not generate"):
        tinyllm.generate(model, [[1, 2]])
    with pytest.raises(ValueError, match=r"attention_mask must have the shape of tokens, \(1, 2\), to classify"):
        model([[1, 2]], attention_mask=np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="targets holds 2; each must lie in"):
        model.loss([[1, 2]], [2])
    with pytest.raises(ValueError, match="class_weight must be 2 finite numbers"):
        model.loss([[1, 2]], [1], class_weight=[1.0])


def test_regression_is_refused(tmp_path):
    theirs_of("opt").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"problem_type": "regression"}))
    with pytest.raises(ValueError, match="problem_type is 'regression'"):
        tinyllm.load(tmp_path)


@pytest.mark.parametrize("cls", CLASSES)
def test_masks_go_by_name(cls):
    model, mask = cls.tiny(), [[True, True]]
    for call in (lambda: model([[1, 2]], mask), lambda: model.loss([[1, 2]], [1], mask)):
        with pytest.raises(TypeError, match="positional argument"):
            call()
