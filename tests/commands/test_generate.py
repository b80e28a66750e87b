"""`tinyllm generate` and `tinyllm chat`, as a user calls them."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import BERT, GPT, complete
from tinyllm.checkpoints import huggingface
from tinyllm.cli import cli
from tinyllm.commands import generate
from tinyllm.data import padded
from tinyllm.generation.chat import examples, extend
from tinyllm.tokenizers import ByteTokenizer


def run(*arguments, input=None, fails=False):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A model over bytes, saved."""
    tokenizer = ByteTokenizer()
    model = GPT.tiny(vocab_size=tokenizer.vocab_size, n_positions=64, tie_word_embeddings=False)
    model.flat.data += np.random.default_rng(5).standard_normal(model.flat.size) * (np.arange(model.flat.size) % 3 == 0)
    path = tmp_path_factory.mktemp("models") / "bytes"
    tinyllm.save(path, model, tokenizer)
    return path


@pytest.fixture(scope="module")
def expected(path):
    """What it continues with, greedily."""
    model, tokenizer = tinyllm.load(path)
    return lambda prompt, n=20, **options: complete(model, tokenizer, [prompt], n, **options)[0]


def test_a_prompt(path, expected):
    said = expected("Once é")
    assert run("generate", path, "--prompt", "Once é", "--temperature", 0, "--max-new-tokens", 20) == f"Once é{said}\n"


@pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator of CUDA needs g++")
def test_on_the_emulated_gpu(path, expected):
    options = ("--device", "cuda", "--temperature", 0, "--max-new-tokens", 5)
    assert run("generate", path, "--prompt", "ab", *options, "--no-echo") == f"{expected('ab', 5)}\n"


def test_several_prompts_from_everywhere(path, expected, tmp_path):
    (tmp_path / "lines.txt").write_text("first\nsecond\n", encoding="utf-8")
    output = run(
        "generate", path, "--prompt", "a", "--prompt", "-", "--prompts", tmp_path / "lines.txt", "--temperature", 0,
        "--max-new-tokens", 20, input="two\nlines",
    )  # fmt: skip
    assert output == "".join(f"{prompt}{expected(prompt)}\n" for prompt in ("a", "two\nlines", "first", "second"))
    batch = run("generate", path, "--prompts", "-", "--batch-size", 2, "--no-echo", "--temperature", 0,
                "--max-new-tokens", 20, input="a\nfirst\nsecond")  # fmt: skip
    assert batch == "".join(f"{expected(prompt)}\n" for prompt in ("a", "first", "second"))


def test_sampling_beams_and_stops(path, expected):
    options = ("generate", path, "--prompt", "x", "--max-new-tokens", 20, "--no-echo")
    assert run(*options, "--seed", 1) == run(*options, "--seed", 1) != run(*options, "--seed", 2)
    assert run(*options, "--seed", 1, "--top-k", 1) == expected("x") + "\n"
    assert run(*options, "--num-beams", 3) == expected("x", num_beams=3) + "\n"
    stop = expected("x")[3:5]
    assert run(*options, "--temperature", 0, "--stop", stop) == expected("x", stop=[stop]) + "\n" != expected("x") + "\n"


def test_nothing_to_begin_with(path, expected):
    assert run("generate", path, "--temperature", 0, "--max-new-tokens", 5) == expected("", 5) + "\n"


def test_errors_are_one_line(path, tmp_path):
    assert "temperature is -1" in run("generate", path, "--temperature", -1, fails=True)
    assert "--batch-size is 0" in run("generate", path, "--batch-size", 0, fails=True)
    assert "--num-beams is 0, and must be 1 or more" in run("generate", path, "--num-beams", 0, fails=True)
    assert "--num-assistant-tokens is 0" in run("generate", path, "--num-assistant-tokens", 0, fails=True)
    assert "takes at most 64" in run("generate", path, "--past-limit", "error", "--max-new-tokens", 99, fails=True)
    assert "nowhere does not exist" in run("generate", tmp_path / "nowhere", fails=True)
    assert "no chat format" in run("chat", path, input="Hello\n", fails=True)
    huggingface.save(tmp_path / "bare", GPT.tiny())
    assert "has no tokenizer" in run("generate", tmp_path / "bare", fails=True)
    assert "no chat format" in run("chat", tmp_path / "bare", fails=True)


def test_nothing_is_printed_before_an_error(path, tmp_path):
    assert run("generate", path, "--prompt", "Once", "--temperature", -1, fails=True).startswith(
        "Error: --temperature is -1"
    )
    bert = BERT.tiny(vocab_size=ByteTokenizer().vocab_size)
    tinyllm.save(tmp_path / "bert", bert, ByteTokenizer())
    said = run("generate", tmp_path / "bert", "--prompt", "Once", fails=True)
    assert said.startswith("Error: ") and "is BERT, which does not write texts: tinyllm fill-mask" in said


def test_a_warning_shows_no_source(path, monkeypatch):
    def warn(*args):
        warnings.warn("config.json sets colour", stacklevel=1)
        return loaded

    loaded = tinyllm.load(path)
    monkeypatch.setattr(generate, "load", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        said = run("generate", path, "--temperature", 0, "--max-new-tokens", 1)
    assert said.startswith("Warning: config.json sets colour\n") and "test_generate.py" not in said


def test_a_conversation(tmp_path):
    tokenizer = ByteTokenizer()
    model = extend(GPT.tiny(vocab_size=257, n_positions=64, n_embd=32), tokenizer)
    told = [("user", "Hi"), ("assistant", "Oh!"), ("user", "Who?"), ("assistant", "I am.")]
    tokens, targets, mask = padded(examples(tokenizer, [[{"role": role, "content": text} for role, text in told]]))
    optimizer = tinyllm.Adam(model, lr=1e-2)
    for _ in range(80):
        model.zero_grad()
        model.loss(tokens, targets, attention_mask=mask)
        model.backward()
        optimizer.step()
    tinyllm.save(tmp_path / "chat", model, tokenizer)
    options = ("chat", tmp_path / "chat", "--temperature", 0, "--max-new-tokens", 20)
    assert run(*options, input="Hi\n\nWho?\n") == "Oh!\nI am.\n"
    assert run(*options, input="Hi\n/reset\nHi\n/exit\nWho?\n") == "Oh!\nOh!\n"


@pytest.mark.parametrize("key", ["eos_token_id", "pad_token_id"])
def test_a_bad_generation_config_is_named(tmp_path, key):
    huggingface.save(tmp_path / "theirs", GPT.tiny(), None)
    tinyllm.load(tmp_path / "theirs")
    (tmp_path / "theirs" / "generation_config.json").write_text(f'{{"{key}": "x"}}', encoding="utf-8")
    with pytest.raises(ValueError, match=rf"generation_config\.json: {key} is 'x'"):
        tinyllm.load(tmp_path / "theirs")
    (tmp_path / "theirs" / "generation_config.json").unlink()
    config = json.loads((tmp_path / "theirs" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "theirs" / "config.json").write_text(json.dumps({**config, key: "x"}), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"[\\/]config\.json: {key} is 'x'"):
        tinyllm.load(tmp_path / "theirs")
