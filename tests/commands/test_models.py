"""`tinyllm quantize`, `merge` and `export`: a model becomes another one, and never at its source's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import GPT, cli, lora
from tinyllm.tokenizers import ByteTokenizer

TOKENS = np.random.default_rng(0).integers(0, 256, (2, 9))


def run(*args: object, fails: bool = False) -> str:
    result = CliRunner().invoke(cli.cli, [str(arg) for arg in args])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def adapted(seed: int = 3) -> GPT:
    model = GPT.tiny(vocab_size=ByteTokenizer().vocab_size, n_positions=16, n_embd=32)
    lora.add(model, lora.LoRAConfig(r=2))
    model.flat.data = np.random.default_rng(seed).standard_normal(model.flat.size) * 0.1
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model with adapters, its base, and the adapters alone."""
    base = GPT.tiny(vocab_size=ByteTokenizer().vocab_size, n_positions=16, n_embd=32)
    tinyllm.save(tmp_path / "base", base, ByteTokenizer())
    tinyllm.save(tmp_path / "adapted", adapted(), ByteTokenizer())
    lora.save(tmp_path / "adapter", adapted())
    return tmp_path


def test_merge(saved: Path) -> None:
    expected = tinyllm.load(saved / "adapted")[0](TOKENS)
    assert "parameters, into which" in run("merge", saved / "adapted", saved / "one")
    run("merge", saved / "adapter", saved / "two", "--base", saved / "base")
    for name in ("one", "two"):
        model, tokenizer = tinyllm.load(saved / name)
        assert model.lora is None and tokenizer is not None
        np.testing.assert_allclose(model(TOKENS), expected, rtol=1e-4, atol=1e-5)
    assert "has no adapters: there is nothing to merge" in run("merge", saved / "base", saved / "x", fails=True)
    assert "name the model that they belong to by --base" in run("merge", saved / "adapter", saved / "x", fails=True)
    assert "leave it out" in run("merge", saved / "adapted", saved / "x", "--base", saved / "base", fails=True)
    assert not (saved / "x").exists()


def test_export(saved: Path) -> None:
    expected = tinyllm.load(saved / "adapted")[0](TOKENS)
    assert "GPT, " in (said := run("export", saved / "adapted", saved / "theirs")) and "adapters merged" in said
    model, tokenizer = tinyllm.load(saved / "theirs")
    np.testing.assert_allclose(model(TOKENS), expected, rtol=1e-4, atol=1e-5)
    assert tokenizer is not None and (saved / "theirs" / "config.json").is_file()
    transformers = pytest.importorskip("transformers", reason="reads it back: pip install 'tinyllm-numpy[peers]'")
    torch = pytest.importorskip("torch", reason="reads it back: pip install 'tinyllm-numpy[peers]'")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(saved / "theirs")
    np.testing.assert_allclose(theirs(torch.tensor(TOKENS)).logits.detach(), expected, rtol=1e-3, atol=1e-4)
    run("quantize", saved / "base", saved / "eight")
    assert "export the model that it was quantized from" in run("export", saved / "eight", saved / "x", fails=True)


@pytest.mark.parametrize("command", ["quantize", "merge", "export"])
@pytest.mark.parametrize("out", ["adapted", "adapted/inside", "./adapted/../adapted", "."])
def test_the_source_is_not_overwritten(saved: Path, monkeypatch: pytest.MonkeyPatch, command: str, out: str) -> None:
    monkeypatch.chdir(saved)
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    assert "choose another directory to write" in run(command, "adapted", out, fails=True)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
