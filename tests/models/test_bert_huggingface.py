"""BERT, RoBERTa and DistilBERT beside transformers' own, with each head: logits, loss, every gradient; and written back."""

import dataclasses
import json
import re

import numpy as np
import pytest
from parity import KERNEL_SETS, TOLERANCE, assert_parity, order_one, peers

import tinyllm
from tinyllm.checkpoints import huggingface
from tinyllm.checkpoints.families import BERT, DISTILBERT, FIXED, ROBERTA, UNUSED
from tinyllm.models import BERTConfig

V, T = 43, 11
SIZES = {"vocab_size": V, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
SIZES |= {"max_position_embeddings": 16, "num_labels": 3}
DISTIL = {"vocab_size": V, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 16}

VARIANTS = {
    "masked words": ("BertForMaskedLM", {}),
    "masked words, untied": ("BertForMaskedLM", {"tie_word_embeddings": False, "hidden_act": "gelu_new"}),
    "pretraining": ("BertForPreTraining", {}),
    "sequences": ("BertForSequenceClassification", {"classifier_dropout": 0.3}),
    "sequences, one segment": ("BertForSequenceClassification", {"type_vocab_size": 1, "num_labels": 2}),
    "tokens": ("BertForTokenClassification", {"pad_token_id": 7, "layer_norm_eps": 0.1}),
    "spans": ("BertForQuestionAnswering", {"num_labels": 2, "hidden_act": "relu"}),
    "encoder": ("BertModel", {}),
    "roberta, masked words": ("RobertaForMaskedLM", {"type_vocab_size": 1}),
    "roberta, sequences": ("RobertaForSequenceClassification", {"type_vocab_size": 1}),
    "roberta, tokens": ("RobertaForTokenClassification", {"type_vocab_size": 1}),
    "roberta, spans": ("RobertaForQuestionAnswering", {"type_vocab_size": 1, "num_labels": 2}),
    "roberta, encoder": ("RobertaModel", {"type_vocab_size": 1}),
    "distilbert, masked words": ("DistilBertForMaskedLM", {}),
    "distilbert, sequences": ("DistilBertForSequenceClassification", {"num_labels": 3}),
    "distilbert, tokens": ("DistilBertForTokenClassification", {"num_labels": 3}),
    "distilbert, spans": ("DistilBertForQuestionAnswering", {"num_labels": 2}),
    "distilbert, encoder": ("DistilBertModel", {}),
}
TABLES = {"Bert": BERT, "Roberta": ROBERTA, "DistilBert": DISTILBERT}


def family_name(architecture):
    return next(name for name in TABLES if architecture.startswith(name))


def theirs_of(variant, dtype="float64"):
    torch, transformers = peers()
    architecture, options = VARIANTS[variant]
    family = family_name(architecture)
    sizes = DISTIL if family == "DistilBert" else SIZES
    config = getattr(transformers, f"{family}Config")(**{**sizes, **options}, attn_implementation="eager")
    return order_one(getattr(transformers, architecture)(config)).to(getattr(torch, dtype))


def batch(config):
    """tokens, token_types, mask (B, T): rows padded on the right and not at all, in two segments where there are two."""
    random = np.random.default_rng(1)
    lengths = np.array([[T - 4], [T], [T - 1]])
    mask = np.arange(T) < lengths
    padding = config.pad_token_id
    tokens = random.integers(0, V - 1, mask.shape)
    tokens = np.where(mask, tokens + (tokens >= padding), padding)
    token_types = (np.arange(T) >= lengths // 2) & mask
    return tokens, token_types.astype(int) * (config.type_vocab_size > 1), mask


def mean_square(output, targets):
    torch, _ = peers()
    return ((output.last_hidden_state - torch.tensor(targets)) ** 2).mean()


def spans(output):
    torch, _ = peers()
    return torch.stack([output.start_logits, output.end_logits], -1)


def span_loss(output, targets):
    torch, _ = peers()
    return torch.nn.functional.cross_entropy(spans(output).transpose(1, 2).flatten(0, 1), torch.tensor(targets).flatten())


def check(ours, theirs, kernel_set):
    tokens, token_types, mask = batch(ours.config)
    random = np.random.default_rng(2)
    inputs = {"input_ids": tokens, "attention_mask": mask.astype(int)}
    options, how = {"attention_mask": mask}, {"kernel_set": kernel_set, "floor": 1e-3}
    if ours.config.type_vocab_size:
        options["token_types"] = inputs["token_type_ids"] = token_types
    name = type(ours).__name__
    if name == "BERT":
        targets = np.where(random.random(tokens.shape) < 0.4, random.integers(0, V, tokens.shape), -100)
        targets[~mask] = -100
        if ours.config.next_sentence:
            torch, _ = peers()
            follows, cross_entropy = random.integers(0, 2, len(tokens)), torch.nn.functional.cross_entropy
            how["more"] = {"next_sentence": follows}
            how["logits_of"] = lambda output: output.prediction_logits
            how["loss_of"] = lambda output, targets: (
                cross_entropy(output.prediction_logits.flatten(0, 1), torch.tensor(targets).flatten())
                + cross_entropy(output.seq_relationship_logits, torch.tensor(follows))
            )
    elif name == "BERTForSequenceClassification":
        targets = random.integers(0, ours.config.num_labels, len(tokens))
    elif name == "BERTForTokenClassification":
        targets = np.where(mask, random.integers(0, ours.config.num_labels, tokens.shape), -100)
    elif name == "BERTForQuestionAnswering":
        targets = random.integers(0, T - 4, (len(tokens), 2))
        how |= {"logits_of": spans, "loss_of": span_loss, "counted": mask}
    else:
        targets = random.standard_normal((*tokens.shape, 24)).astype(ours.dtype)
        how |= {"logits_of": lambda output: output.last_hidden_state, "loss_of": mean_square, "counted": mask}
    assert_parity(ours, theirs, (tokens,), targets, options, **how, **inputs)


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_are_autograds(variant, dtype, kernel_set, tmp_path):
    theirs = theirs_of(variant, dtype)
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype=dtype)
    check(ours, theirs, kernel_set)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write(variant, tmp_path):
    _, transformers = peers()
    theirs = theirs_of(variant)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, _ = tinyllm.load(tmp_path / "theirs", dtype="float64")
    huggingface.save(tmp_path / "ours", ours)
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    unused = {"untied": "cls.predictions.bias", "roberta": "pooler"}  # what transformers has and computes nothing with
    unused = {part for kind, part in unused.items() if kind in variant}
    missing = {name for name in report.pop("missing_keys") if not any(part in name for part in unused)}
    assert not missing and not any(report.values()), report
    config = json.loads((tmp_path / "ours/config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [type(theirs).__name__]
    read, _ = tinyllm.load(tmp_path / "ours", dtype="float64")
    assert read.config == dataclasses.replace(ours.config, id2label=read.config.id2label)
    np.testing.assert_array_equal(read.flat.data, ours.flat.data)
    for name, tensor in again.state_dict().items():
        if not any(part in name for part in unused):
            np.testing.assert_array_equal(tensor.numpy(), theirs.state_dict()[name].numpy(), err_msg=name)
    assert again.config.num_labels == theirs.config.num_labels


@pytest.mark.parametrize("family", TABLES)
def test_defaults_and_fields_are_theirs(family):
    """transformers may write only what differs from its defaults; and every field of it is known."""
    _, transformers = peers()
    theirs, table = getattr(transformers, f"{family}Config")(), TABLES[family]
    names = {ours: theirs for theirs, ours in table.renamed.items()}
    for key, value in dataclasses.asdict(BERTConfig(model_type=table.model_type)).items():
        if key not in (*table.ours_alone, "id2label"):
            assert table.defaults.get(key, value) == getattr(theirs, names.get(key, key)), key
    ours = {field.name for field in dataclasses.fields(BERTConfig)}
    for key in theirs.to_dict():
        assert table.renamed.get(key, key) in ours | UNUSED | set(FIXED) | set(table.fixed) | set(table.unused), key


def rewrite(directory, change):
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    save_file({name: t.clone().contiguous() for name, t in change(load_file(path)).items()}, path, {"format": "pt"})


def test_older_files(tmp_path):
    """gamma and beta, the positions' numbers, and the heads of the pretraining under another architecture's name."""
    torch, _ = peers()
    theirs = theirs_of("pretraining")
    theirs.save_pretrained(tmp_path)

    def age(tensors):
        now = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        old = {re.sub(r"LayerNorm\.\w+", lambda part: now[part[0]], name): tensor for name, tensor in tensors.items()}
        return {**old, "bert.embeddings.position_ids": torch.arange(16)[None]}

    rewrite(tmp_path, age)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"], "position_embedding_type": "absolute"}))
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    assert ours.config.next_sentence
    check(ours, theirs, "reference")


def test_an_encoder_without_its_pooler(tmp_path):
    theirs = theirs_of("encoder")
    theirs.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("pooler")})
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    assert not ours.config.pooler
    check(ours, theirs, "reference")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_decoder": True}, "is_decoder is True"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"problem_type": "regression"}, "problem_type is 'regression'"),
        ({"architectures": ["BertForMultipleChoice"]}, "architecture 'BertForMultipleChoice'"),
        ({"hidden_act": "mish"}, "'mish' is not supported"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(change, message, tmp_path):
    theirs_of("sequences").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    with pytest.raises(ValueError, match=message):
        tinyllm.load(tmp_path)


def test_labels_keep_their_names(tmp_path):
    _, transformers = peers()
    names = {0: "no", 1: "yes", 2: "perhaps"}
    config = transformers.BertConfig(**{k: v for k, v in SIZES.items() if k != "num_labels"}, id2label=names)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "theirs")
    ours, _ = tinyllm.load(tmp_path / "theirs")
    assert list(ours.config.id2label.values()) == list(names.values())
    huggingface.save(tmp_path / "ours", ours)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "ours").id2label == names
    tinyllm.save(tmp_path / "run", ours)
    assert tinyllm.load(tmp_path / "run")[0].config == ours.config
