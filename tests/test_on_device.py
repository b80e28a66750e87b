"""Whatever computes does so with --device cuda as well, on the emulator or a GPU, and says the same as on the cpu."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from on_cuda import require_cuda

import tinyllm
from tinyllm import kernels
from tinyllm.cli import cli
from tinyllm.generation.chat import Chat, extend
from tinyllm.kernels.cuda import device
from tinyllm.models import MODELS
from tinyllm.pipelines.embeddings import sentence_embeddings
from tinyllm.pipelines.question_answering import answer
from tinyllm.pipelines.text2text import Use, answers
from tinyllm.pipelines.text_classification import classify
from tinyllm.pipelines.token_classification import tag
from tinyllm.tokenizers import BPETokenizer, WordPieceTokenizer
from tinyllm.training.run import Run
from tinyllm.training.trainer import Watcher

require_cuda()

TEXTS = ["Anna sells salt in the town.", "the river", "A town on the river: it sells salt, and cloth."]
PIECES = WordPieceTokenizer.train(TEXTS, 80)


def bytes_of():
    return BPETokenizer.train(TEXTS, 270, special_tokens=("<|endoftext|>",))


@pytest.fixture(autouse=True)
def host_in_numpy():
    with kernels.use("reference"):
        yield


def made(name, tokenizer=PIECES, length=64):
    """A model that is sure of what it says: rounding decides nothing."""
    limit = {} if name == "T5" else {"n_positions" if name.startswith("GPT") else "max_position_embeddings": length}
    model = MODELS[name][0].tiny(vocab_size=tokenizer.vocab_size, **limit)
    model.flat.data += np.random.default_rng(3).standard_normal(model.flat.size).astype(np.float32)
    return model


class OnGPU:
    """What an array of CuPy's is to NumPy: it must be asked to come to the host. The emulator's would go unasked."""

    def __init__(self, array):
        self.get = lambda: np.asarray(array)


ENCODERS = {
    "BERTForSequenceClassification": lambda model: classify(model, PIECES, TEXTS, TEXTS[::-1], batch_size=2),
    "GPTForSequenceClassification": lambda model: classify(model, PIECES, TEXTS, batch_size=2),
    "BERTForTokenClassification": lambda model: tag(model, PIECES, TEXTS, 2),
    "BERTForQuestionAnswering": lambda model: answer(model, PIECES, [("who", text) for text in TEXTS], 2, 16, 4),
    "BERT": lambda model: tinyllm.fill_mask(model, PIECES, ["the [MASK] town", "[MASK] sells [MASK]"], 3),
    "BERTEncoder": lambda model: sentence_embeddings(model, PIECES, TEXTS, 2),
}


def close(found, expected):
    """Equal, numbers up to rounding."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(close, found, expected))
    if hasattr(expected, "__dataclass_fields__"):
        return close([*vars(found).values()], [*vars(expected).values()])
    if isinstance(expected, (float, np.ndarray)):
        return type(found) is type(expected) and np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    return found == expected


@pytest.mark.parametrize("name", ENCODERS)
def test_functions_where_the_model_is(name, monkeypatch):
    use, model = ENCODERS[name], made(name)
    expected = use(model)
    assert close(use(model.to("cuda")), expected)
    model.to("cpu")
    for method in {"__call__", "last_hidden_state", "at"} & set(dir(type(model))):
        original = getattr(type(model), method)

        def from_gpu(self, *args, original=original, **options):
            result = original(self, *args, **options)
            return tuple(map(OnGPU, result)) if isinstance(result, tuple) else OnGPU(result)

        monkeypatch.setattr(type(model), method, from_gpu)
    assert close(use(model), expected)


def talk(model):
    """A conversation, for which the model gets further tokens."""
    tokenizer = bytes_of()
    return Chat(extend(model, tokenizer), tokenizer, temperature=0.0, max_new_tokens=3)


def test_texts_where_the_model_is():
    tokens = np.array([[3, 1, 4, 1]])
    for write in (
        lambda model: tinyllm.generate(model, tokens, 4, num_beams=2).tolist(),
        lambda model: tinyllm.generate(model, tokens, 6, assistant_model=model, num_assistant_tokens=2).tolist(),
        lambda model: "".join(talk(model).reply("salt")),
    ):
        assert write(made("GPT", bytes_of()).to("cuda")) == write(made("GPT", bytes_of()))
    use = Use("go: ", 12, 4, num_beams=2)
    assert answers(made("T5").to("cuda"), PIECES, TEXTS, use) == answers(made("T5"), PIECES, TEXTS, use)


def test_evaluation_where_the_model_is():
    rows = [{"text": text} for text in TEXTS]
    for name, tokenizer in (("GPT", bytes_of()), ("BERT", PIECES)):
        found, expected = (
            tinyllm.evaluate((made(name, tokenizer).to(place), tokenizer), rows, resamples=9, batch_size=2)
            for place in ("cuda", "cpu")
        )
        assert close([*found.measures.values()], [*expected.measures.values()])


# The commands ----------------------------------------------------------------------------------------------------------

COMMANDS = {
    "classify": ("GPTForSequenceClassification", TEXTS),
    "answer": ("BERTForQuestionAnswering", ["--question", "who sells salt?", "--context", "-"]),
    "fill-mask": ("BERT", ["the [MASK] town"]),
    "translate": ("T5", ["the river", "--num-beams", "2", "--max-length", "4"]),
    "summarize": ("T5", ["the river", "--max-length", "4"]),
    "generate": ("GPT", ["--prompt", "the", "--temperature", "0", "--max-new-tokens", "4"]),
    "chat": ("GPT", ["--temperature", "0", "--max-new-tokens", "4"]),
}


def called(*arguments, fails=False):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=TEXTS[0])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, tmp_path, monkeypatch):
    name, options = COMMANDS[command]
    tokenizer = bytes_of() if name == "GPT" else PIECES
    model = made(name, tokenizer)
    tinyllm.save(tmp_path / "model", extend(model, tokenizer) if command == "chat" else model, tokenizer)
    arguments = command, tmp_path / "model", *options
    expected = called(*arguments)
    assert called(*arguments, "--device", "cuda") == expected != ""
    monkeypatch.setenv("TINYLLM_DEVICE", "gpu")
    missing = RuntimeError(f"CUDA needs CuPy: {device.INSTALL_CUDA}")
    monkeypatch.setattr(device, "cupy", lambda: (_ for _ in ()).throw(missing))
    said = called(*arguments, "--device", "cuda", fails=True)
    assert said.count("\n") == 1 and device.INSTALL_CUDA in said


# Training --------------------------------------------------------------------------------------------------------------

SIZES = {
    "gpt": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 48, "tokenizer": "bpe:280"},
    "llama": {
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 16,
        "intermediate_size": 16, "max_position_embeddings": 48, "tokenizer": "bpe:300",
    },
    "bert": {
        "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16,
        "max_position_embeddings": 48, "tokenizer": "wordpiece:200",
    },
    "t5": {
        "d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 16, "num_layers": 1, "tokenizer": "unigram:150", "preset": "quick",
    },
}  # fmt: skip
PAIRED = {"eval_texts": 2, "max_source": 24, "max_target": 6}


def written(folder):
    """Small data for every task -> (kind, task) -> its options."""
    labels = "".join(f"{('red', 'blue')[i % 2]}\tnumber {i} is {('warm', 'cold')[i % 2]}\n" for i in range(20))
    (folder / "labels.tsv").write_text(labels, encoding="utf-8")
    (folder / "pairs.tsv").write_text("".join(f"number {i}\tNUMBER {i}\n" for i in range(20)), encoding="utf-8")
    (folder / "words.txt").write_text("Anna B-PER\nsells O\nsalt O\n\nshe O\nsees O\nBob B-PER\n\n" * 8, encoding="utf-8")
    (folder / "text.txt").write_text("\n\n".join(f"Town {i} is here. It sells salt." for i in range(90)), encoding="utf-8")
    paragraphs = [
        {"context": f"Town {i} sells salt to {i}.",
         "qas": [{"id": str(i), "question": "What is sold?", "answers": [{"text": "salt", "answer_start": 14}]}]}
        for i in range(10, 22)
    ]  # fmt: skip
    (folder / "squad.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    talk = [[f"What is {i}?", f"It is {i}."] for i in range(12)]
    (folder / "talk.jsonl").write_text("\n".join(json.dumps({"turns": turns}) for turns in talk), encoding="utf-8")
    return {
        ("gpt", "classification"): {"data": "labels.tsv"},
        ("gpt", "completion"): {"data": "pairs.tsv", **PAIRED},
        ("llama", "chat"): {"data": "talk.jsonl", "val_fraction": 0.2, "eval_texts": 2, "max_reply": 4},
        ("bert", None): {"data": "text.txt"},
        ("bert", "classification"): {"data": "labels.tsv", "balance": True},
        ("bert", "tagging"): {"data": "words.txt"},
        ("bert", "qa"): {"data": "squad.json", "length": 32, "stride": 8},
        ("t5", None): {"data": "text.txt", "length": 20},
        ("t5", "translation"): {"data": "pairs.tsv", **PAIRED},
    }


@pytest.mark.parametrize("kind, task", [
    ("gpt", "classification"), ("gpt", "completion"), ("llama", "chat"), ("bert", None), ("bert", "classification"),
    ("bert", "tagging"), ("bert", "qa"), ("t5", None), ("t5", "translation"),
])  # fmt: skip
def test_training(kind, task, tmp_path, monkeypatch):
    """Evaluations, samples and reports included."""
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    options = {
        "steps": 2,
        "eval_every": 2,
        "batch_size": 4,
        "eval_batches": 2,
        "warmup": 0,
        "lr": 1e-2,
        "watcher": Watcher(),
    }
    options |= SIZES[kind] | written(tmp_path)[kind, task]
    records = {}
    for where in ("cpu", "cuda"):
        model, _ = tinyllm.train(kind, task, out=tmp_path / where, device=where, **options)
        assert model.device == where
        records[where] = [measures(record) for record in Run.open(tmp_path / where).metrics]
    assert len(records["cpu"]) == 4
    for found, expected in zip(records["cuda"], records["cpu"]):
        assert found.keys() == expected.keys()
        np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=1e-3, atol=1e-4)


def measures(record):
    """The numbers of a record that do not tell the time."""
    timed = {"seconds", "tokens_per_second"}
    return {name: value for name, value in record.items() if isinstance(value, (int, float)) and name not in timed}


def test_adapters_are_trained_on_the_device(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = written(tmp_path)["gpt", "classification"]
    tinyllm.save(tmp_path / "base", made("GPT", bytes_of()), bytes_of())
    options = {"init": tmp_path / "base", "lora_r": 2, "steps": 2, "eval_every": 2, "batch_size": 4, "watcher": Watcher()}
    losses = []
    for where in ("cpu", "cuda"):
        model, _ = tinyllm.train("gpt", "classification", out=tmp_path / where, device=where, **options, **data)
        assert model.lora is not None and model.device == where
        losses.append([record["loss"] for record in Run.open(tmp_path / where).metrics if "loss" in record])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert math.isfinite(losses[0][0])
